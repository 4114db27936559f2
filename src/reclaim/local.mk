CORE_SOURCES += \
	%D%/reclaim.h \
	%D%/clock.c
