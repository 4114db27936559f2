CORE_SOURCES += %D%/target.h
