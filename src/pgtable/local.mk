CORE_SOURCES += \
	%D%/pgtable.h \
	%D%/pgtable.c \
	%D%/transition.c \
	%D%/ids.c \
	%D%/area.c
