# SPDX-License-Identifier: Apache-2.0
libpagerd_preload_la_SOURCES += \
	%D%/advise.c \
	%D%/clone.c \
	%D%/forked.c \
	%D%/leave.c \
	%D%/message.c \
	%D%/reap.c \
	%D%/shim.h \
	%D%/start.c \
	%D%/tell.c \
	%D%/thread.c
