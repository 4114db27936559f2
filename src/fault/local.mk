CORE_SOURCES += \
	%D%/fault.h \
	%D%/fault.c \
	%D%/swapin.c
