pagerctl_SOURCES += \
	%D%/ctl.h \
	%D%/main.c \
	%D%/complain.c \
	%D%/options.c \
	%D%/run.c \
	%D%/job.h \
	%D%/job.c \
	%D%/link.h \
	%D%/link.c \
	%D%/private.h \
	%D%/private.c \
	%D%/program.h \
	%D%/program.c \
	%D%/show.h \
	%D%/show.c \
	%D%/change.c \
	%D%/statsfile.h \
	%D%/statsfile.c \
	%D%/table.h \
	%D%/table.c
