CORE_SOURCES += \
	%D%/node.h \
	%D%/node_priv.h \
	%D%/node.c \
	%D%/fresh.c \
	%D%/orphan.c \
	%D%/sum.c
