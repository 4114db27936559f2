CORE_SOURCES += \
	%D%/kernel.h \
	%D%/uapi.h \
	%D%/kernel_uffd.c \
	%D%/kernel_match.c \
	%D%/kernel_scan.c \
	%D%/kernel_maps.c \
	%D%/kernel_maps_parse.c \
	%D%/kernel_proc.c \
	%D%/kernel_memfd.c \
	%D%/kernel_probe.c
