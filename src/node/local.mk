CORE_SOURCES += \
	%D%/node.h \
	%D%/ram.c
