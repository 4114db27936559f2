CORE_SOURCES += \
	%D%/fault.h \
	%D%/fault.c \
	%D%/fault_priv.h \
	%D%/huge.c \
	%D%/readahead.c \
	%D%/swapin.c
