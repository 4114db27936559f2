CORE_SOURCES += \
	%D%/migrate.h \
	%D%/migrate_priv.h \
	%D%/migrate.c \
	%D%/store.c \
	%D%/writeback.c
