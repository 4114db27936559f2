CORE_SOURCES += \
	%D%/rmap.h \
	%D%/rmap.c
