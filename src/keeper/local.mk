pagerd_SOURCES += \
	%D%/keeper.h \
	%D%/keeper_priv.h \
	%D%/main.c \
	%D%/keeper.c \
	%D%/conn.c \
	%D%/domain.c \
	%D%/listener.c \
	%D%/swapfile.c \
	%D%/packet.c
