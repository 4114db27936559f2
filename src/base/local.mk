CORE_SOURCES += \
	%D%/base.h \
	%D%/bitmap.c \
	%D%/bug.c \
	%D%/clock.c \
	%D%/failpoint.c \
	%D%/hist.c \
	%D%/log.c \
	%D%/mutant.c \
	%D%/size.c \
	%D%/turn.c
