# Programs that measure.  The scripts run them, pagerd's side and its rival's in turns;
# see README.md.
noinst_PROGRAMS += %D%/idle-program %D%/paging-program %D%/reclaim-program
%C%_idle_program_SOURCES = %D%/idle-program.c %D%/program.h
%C%_paging_program_SOURCES = %D%/paging-program.c %D%/program.h
%C%_reclaim_program_SOURCES = %D%/reclaim-program.c %D%/program.h
# Ordinary programs: nothing of pagerd's in them, no sanitizer either (tests/it/local.mk).
%C%_idle_program_CFLAGS = $(BASE_CFLAGS)
%C%_paging_program_CFLAGS = $(BASE_CFLAGS)
%C%_reclaim_program_CFLAGS = $(BASE_CFLAGS)
%C%_idle_program_LDADD =
%C%_paging_program_LDADD =
%C%_reclaim_program_LDADD = -lm

EXTRA_DIST += \
	%D%/README.md \
	%D%/benchlib.py \
	%D%/idle \
	%D%/paging \
	%D%/reclaim
