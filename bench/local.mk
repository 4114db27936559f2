# Programs that measure.  The scripts run them, pagerd's side and its rival's in turns;
# see README.md.
noinst_PROGRAMS += %D%/paging-program
%C%_paging_program_SOURCES = %D%/paging-program.c %D%/program.h
# An ordinary program: nothing of pagerd's in it.
%C%_paging_program_LDADD =

EXTRA_DIST += \
	%D%/README.md \
	%D%/benchlib.py \
	%D%/paging
