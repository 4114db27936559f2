CORE_SOURCES += \
	%D%/client.h \
	%D%/client_priv.h \
	%D%/client.c \
	%D%/message.c \
	%D%/order.c \
	%D%/order_priv.h \
	%D%/order_lost.c \
	%D%/order_probe.c \
	%D%/order_search.c \
	%D%/order_state.c \
	%D%/domain.c \
	%D%/group.c \
	%D%/reclaim_request.c \
	%D%/fork.c \
	%D%/doomed.c \
	%D%/quiet.c \
	%D%/recover.c
