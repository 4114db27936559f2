CORE_SOURCES += \
	%D%/node.h \
	%D%/node.c \
	%D%/sum.c
