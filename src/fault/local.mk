CORE_SOURCES += \
	%D%/fault.h \
	%D%/fault.c \
	%D%/readahead.c \
	%D%/readahead.h
