CORE_SOURCES += \
	%D%/frame.h \
	%D%/buddy.c
