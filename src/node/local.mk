CORE_SOURCES += \
	%D%/node.h \
	%D%/node.c \
	%D%/fresh.c \
	%D%/sum.c
