CORE_SOURCES += \
	%D%/fault.h \
	%D%/fault.c
