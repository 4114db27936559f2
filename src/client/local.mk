CORE_SOURCES += \
	%D%/client.h \
	%D%/client_priv.h \
	%D%/client.c \
	%D%/group.c \
	%D%/reclaim_request.c \
	%D%/fork.c \
	%D%/doomed.c
