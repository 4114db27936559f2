# The core against modelled programs and a modelled kernel.
check_PROGRAMS += %D%/sim
SIM_TESTS += %D%/test-schedules.sh
EXTRA_DIST += %D%/test-schedules.sh
LONG_TESTS += %D%/test-million.sh
EXTRA_DIST += %D%/test-million.sh

%C%_sim_SOURCES = \
	%D%/sim.c \
	%D%/sim.h \
	%D%/runner.c \
	%D%/runner.h \
	%D%/shrink.c \
	%D%/trace.c \
	%D%/schedule.c \
	%D%/schedule.h \
	%D%/disk_model.c \
	%D%/disk_model.h \
	%D%/worker_crash.c \
	%D%/worker_forked.c \
	%D%/worker_model.c \
	%D%/worker_model.h \
	%D%/agent_model.c \
	%D%/worker_adopt.c \
	%D%/app_fork.c \
	%D%/app_model.c \
	%D%/app_model.h \
	%D%/app_ops.c \
	%D%/kernel_model.c \
	%D%/kernel_model.h \
	%D%/kernel_ops.c
%C%_sim_CPPFLAGS = $(AM_CPPFLAGS) -DPAGERD_MUTANTS
%C%_sim_LDADD = libpagerd-core-sim.la $(CORE_LIBS)
