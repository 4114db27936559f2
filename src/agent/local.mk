# SPDX-License-Identifier: Apache-2.0
# The agent runs without libc and without thread-local storage: a library of
# its own, for flags of its own (tests/it/test-agent-freestanding.sh looks at
# the result).  filter.c is the daemon's.

noinst_LTLIBRARIES += libpagerd-agent.la
libpagerd_agent_la_SOURCES = \
	%D%/agent.h \
	%D%/agent_priv.h \
	%D%/capture.c \
	%D%/remap.c \
	%D%/fill.c \
	%D%/handshake.c \
	%D%/lazy.c \
	%D%/loop.c \
	%D%/mem.c \
	%D%/orphan.c \
	%D%/start.c \
	%D%/sys.h \
	%D%/sys_aarch64.h \
	%D%/sys_x86_64.h
libpagerd_agent_la_CFLAGS = $(BASE_CFLAGS) -ffreestanding -fvisibility=hidden \
	-fno-stack-protector -fno-sanitize=all

libpagerd_preload_la_LIBADD = libpagerd-agent.la

pagerd_SOURCES += %D%/filter.c %D%/filter.h
