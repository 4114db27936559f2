pagerd_SOURCES += \
	%D%/worker.h \
	%D%/worker_priv.h \
	%D%/worker.c \
	%D%/reactor.c \
	%D%/blk_uring.c \
	%D%/target_linux.c \
	%D%/attach.c \
	%D%/turn.c \
	%D%/adopt.c \
	%D%/unpageable.c \
	%D%/control.c \
	%D%/forked.c %D%/refused.c \
	%D%/report.c \
	%D%/sandbox.c
