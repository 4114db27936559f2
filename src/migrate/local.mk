CORE_SOURCES += \
	%D%/migrate.h \
	%D%/migrate.c \
	%D%/writeback.c
