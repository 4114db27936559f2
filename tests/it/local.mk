# Tests of the real daemon with real userfaultfd.
#
#   a script:    IT_TESTS += %D%/test-x.sh    EXTRA_DIST += %D%/test-x.sh
#   a C program: IT_TESTS += %D%/test-x       check_PROGRAMS += %D%/test-x
#   a C helper that a script runs: check_PROGRAMS += %D%/helper
#   what it must not be linked with: tests_it_helper_LDADD =
#   a program that runs paged, and one that locks all of its memory:
#       tests_it_helper_CFLAGS = $(BASE_CFLAGS)
#   A sanitizer's runtime must come first among the libraries, and there the shim does;
#   and its shadow is terabytes that are not to be locked.

# ---- shim and agent, which the fake daemon lets be tested without the real one ----

tests_it_fake_daemon = %D%/fake_daemon.c %D%/fake_daemon.h src/agent/filter.c
tests_it_fake_program = $(tests_it_fake_daemon) %D%/fake_program.c %D%/fake_program.h

check_PROGRAMS += %D%/test-agent-capture %D%/test-capture-rules %D%/fake-run %D%/invisible %D%/invisible-static
%C%_test_agent_capture_SOURCES = %D%/test-agent-capture.c $(tests_it_fake_program)
%C%_test_agent_capture_CFLAGS = $(BASE_CFLAGS) -pthread
%C%_test_agent_capture_LDADD = $(LIBURING_LIBS) $(LIBSECCOMP_LIBS)
check_PROGRAMS += %D%/test-agent-miscounts
%C%_test_agent_miscounts_SOURCES = %D%/test-agent-miscounts.c %D%/pattern.c %D%/pattern.h \
	$(tests_it_fake_program)
%C%_test_agent_miscounts_CFLAGS = $(BASE_CFLAGS)
%C%_test_agent_miscounts_LDADD = $(LIBSECCOMP_LIBS)
%C%_test_capture_rules_SOURCES = %D%/test-capture-rules.c %D%/pattern.c %D%/pattern.h \
	$(tests_it_fake_program)
%C%_test_capture_rules_CFLAGS = $(BASE_CFLAGS) -pthread
%C%_test_capture_rules_LDADD = $(LIBSECCOMP_LIBS)
%C%_fake_run_SOURCES = %D%/fake-run.c $(tests_it_fake_daemon)
%C%_fake_run_CFLAGS = $(BASE_CFLAGS)
%C%_fake_run_LDADD = $(LIBSECCOMP_LIBS)
%C%_invisible_SOURCES = %D%/invisible.c %D%/invisible_calls.c %D%/invisible_life.c %D%/invisible.h
%C%_invisible_CFLAGS = $(BASE_CFLAGS) -pthread
%C%_invisible_LDADD =
%C%_invisible_static_CFLAGS = $(BASE_CFLAGS)
%C%_invisible_static_LDFLAGS = -all-static
%C%_invisible_static_LDADD =

IT_TESTS += \
	%D%/test-agent-capture \
	%D%/test-agent-miscounts \
	%D%/test-capture-rules \
	%D%/test-agent-freestanding.sh \
	%D%/test-invisible-agent.sh \
	%D%/test-invisible.sh \
	%D%/test-unmanaged.py
EXTRA_DIST += \
	%D%/test-agent-freestanding.sh \
	%D%/test-invisible-agent.sh \
	%D%/test-invisible.sh \
	%D%/test-unmanaged.py

check_PROGRAMS += %D%/odd-agent
%C%_odd_agent_SOURCES = %D%/odd-agent.c %D%/attach.h
%C%_odd_agent_CFLAGS = $(BASE_CFLAGS)
%C%_odd_agent_LDADD =
IT_TESTS += \
	%D%/test-bad-input.sh \
	%D%/test-keeper-hostile-peers.py \
	%D%/test-keeper-serves-users.py \
	%D%/test-run-stands-in.py
EXTRA_DIST += \
	%D%/test-bad-input.sh \
	%D%/test-keeper-hostile-peers.py \
	%D%/test-keeper-serves-users.py \
	%D%/test-run-stands-in.py

# ---- ordinary programs under the real daemon ----

check_PROGRAMS += %D%/churn
%C%_churn_SOURCES = %D%/churn.c %D%/churn.h %D%/churn_child.c %D%/churn_layout.c \
	%D%/churn_shadow.c %D%/churn_touch.c %D%/pattern.c %D%/pattern.h \
	%D%/raw_clone.h %D%/settings.c %D%/settings.h
%C%_churn_CFLAGS = $(BASE_CFLAGS) -pthread
%C%_churn_LDADD =

check_PROGRAMS += %D%/huge-touch
%C%_huge_touch_CFLAGS = $(BASE_CFLAGS)
%C%_huge_touch_LDADD =
check_PROGRAMS += %D%/torture
%C%_torture_SOURCES = %D%/torture.c %D%/torture.h %D%/torture_block.c %D%/torture_fork.c \
	%D%/torture_io.c %D%/torture_map.c %D%/torture_shared.c %D%/torture_uring.c \
	%D%/pattern.c %D%/pattern.h %D%/raw_clone.h %D%/settings.c %D%/settings.h
%C%_torture_CFLAGS = $(BASE_CFLAGS) $(LIBURING_CFLAGS) -pthread
%C%_torture_LDADD = $(LIBURING_LIBS)

check_PROGRAMS += %D%/late-events
%C%_late_events_CFLAGS = $(BASE_CFLAGS) -pthread
%C%_late_events_LDADD =

IT_TESTS += \
	%D%/test-agent-killed.sh \
	%D%/test-agent-late.sh \
	%D%/test-agent-paused.sh \
	%D%/test-bare-form.sh \
	%D%/test-churn.sh \
	%D%/test-huge-fill.sh \
	%D%/test-kills-leave-nothing.sh \
	%D%/test-late-events.sh \
	%D%/test-quiet.sh \
	%D%/test-real-programs.sh \
	%D%/test-torture.sh
EXTRA_DIST += \
	%D%/daemon.sh \
	%D%/programs.sh \
	%D%/test-agent-killed.sh \
	%D%/test-agent-late.sh \
	%D%/test-agent-paused.sh \
	%D%/test-bare-form.sh \
	%D%/test-churn.sh \
	%D%/test-huge-fill.sh \
	%D%/test-kills-leave-nothing.sh \
	%D%/test-late-events.sh \
	%D%/test-quiet.sh \
	%D%/test-real-programs.sh \
	%D%/test-torture.sh \
	$(LONG_TESTS)

LONG_TESTS += \
	%D%/test-accept-programs.sh \
	%D%/test-kills-leave-nothing-long.sh \
	%D%/test-redis-digest.sh \
	%D%/test-torture-long.sh

# Two hold the attaching to a bound in milliseconds; churn and torture hold the daemon to
# its limit at a program that fills memory as fast as it can.
TIMED_TESTS += \
	%D%/test-churn.sh \
	%D%/test-invisible-agent.sh \
	%D%/test-invisible.sh \
	%D%/test-torture.sh

# ---- the program's memory cgroup is full ----

check_PROGRAMS += %D%/cgroup-ballast
%C%_cgroup_ballast_CFLAGS = $(BASE_CFLAGS)
%C%_cgroup_ballast_LDADD =
IT_TESTS += %D%/test-cgroup-full.sh
EXTRA_DIST += %D%/test-cgroup-full.sh

# ---- guards ----

check_PROGRAMS += %D%/guarded
%C%_guarded_CFLAGS = $(BASE_CFLAGS)
%C%_guarded_LDADD =
IT_TESTS += %D%/test-guarded-pages.sh
EXTRA_DIST += %D%/test-guarded-pages.sh

check_PROGRAMS += %D%/locks-all
%C%_locks_all_CFLAGS = $(BASE_CFLAGS)
%C%_locks_all_LDADD =
IT_TESTS += %D%/test-locks-all.sh
EXTRA_DIST += %D%/test-locks-all.sh

# ---- mremap of what is being adopted ----

check_PROGRAMS += %D%/moves-whole
%C%_moves_whole_SOURCES = %D%/moves-whole.c %D%/pattern.c %D%/pattern.h
%C%_moves_whole_CFLAGS = $(BASE_CFLAGS)
%C%_moves_whole_LDADD =
IT_TESTS += %D%/test-moves-whole.sh
EXTRA_DIST += %D%/test-moves-whole.sh

check_PROGRAMS += %D%/thread-ends
%C%_thread_ends_CFLAGS = $(BASE_CFLAGS) -pthread
%C%_thread_ends_LDADD =
IT_TESTS += %D%/test-thread-ends.sh
EXTRA_DIST += %D%/test-thread-ends.sh

# ---- run-time control ----

check_PROGRAMS += %D%/holder
%C%_holder_CFLAGS = $(BASE_CFLAGS)
%C%_holder_LDADD =
IT_TESTS += \
	%D%/test-config.sh \
	%D%/test-control-limit.sh \
	%D%/test-control-reclaim.sh \
	%D%/test-daemon-ends.sh \
	%D%/test-daemon-protects-itself.sh
EXTRA_DIST += \
	%D%/holder.sh \
	%D%/test-config.sh \
	%D%/test-control-limit.sh \
	%D%/test-control-reclaim.sh \
	%D%/test-daemon-ends.sh \
	%D%/test-daemon-protects-itself.sh

# ---- the two ways to take pages out ----

check_PROGRAMS += %D%/pinned
%C%_pinned_CFLAGS = $(BASE_CFLAGS) $(LIBURING_CFLAGS)
%C%_pinned_LDADD = $(LIBURING_LIBS)
IT_TESTS += %D%/test-capture-mremap.sh
EXTRA_DIST += %D%/test-capture-mremap.sh

# ---- the swap file ----

check_PROGRAMS += %D%/swapped
%C%_swapped_CFLAGS = $(BASE_CFLAGS)
%C%_swapped_LDADD =
IT_TESTS += \
	%D%/test-swap-failures.sh \
	%D%/test-swap-file.sh
EXTRA_DIST += \
	%D%/test-swap-failures.sh \
	%D%/test-swap-file.sh

# ---- forked children ----

check_PROGRAMS += %D%/forks
%C%_forks_SOURCES = %D%/forks.c %D%/raw_clone.h
%C%_forks_CFLAGS = $(BASE_CFLAGS) -pthread
%C%_forks_LDADD =
check_PROGRAMS += %D%/fork-thief
%C%_fork_thief_SOURCES = %D%/fork-thief.c %D%/attach.h %D%/raw_clone.h
%C%_fork_thief_CFLAGS = $(BASE_CFLAGS)
%C%_fork_thief_LDADD =
check_PROGRAMS += %D%/fork-wipes
%C%_fork_wipes_SOURCES = %D%/fork-wipes.c %D%/raw_clone.h
%C%_fork_wipes_CFLAGS = $(BASE_CFLAGS) -pthread
%C%_fork_wipes_LDADD =
IT_TESTS += %D%/test-fork-thief.sh %D%/test-fork-wipes.sh %D%/test-forks.sh
EXTRA_DIST += %D%/test-fork-thief.sh %D%/test-fork-wipes.sh %D%/test-forks.sh
TIMED_TESTS += %D%/test-forks.sh

# ---- the benches: that they run and put back what they change ----

IT_TESTS += %D%/test-bench-restores.sh
EXTRA_DIST += %D%/test-bench-restores.sh
