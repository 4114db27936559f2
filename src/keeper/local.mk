pagerd_SOURCES += \
	%D%/keeper.h \
	%D%/keeper_priv.h \
	%D%/main.c \
	%D%/conffile.h \
	%D%/conffile.c \
	%D%/keeper.c \
	%D%/conn.c \
	%D%/domain.c \
	%D%/listener.c \
	%D%/packet.c \
	%D%/protect.c \
	%D%/swapfile.c
