# EXAMPLE_TESTS += %D%/x.sh for one that make check runs; all go to EXTRA_DIST.
check_PROGRAMS += %D%/fill-and-verify
# An ordinary program: nothing of pagerd's in it.
%C%_fill_and_verify_CFLAGS = $(BASE_CFLAGS)
%C%_fill_and_verify_LDADD =

EXAMPLE_TESTS += %D%/fill-and-verify.sh

EXTRA_DIST += \
	%D%/fill-and-verify.sh \
	%D%/run-table.sh
