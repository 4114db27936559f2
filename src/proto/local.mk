CORE_SOURCES += %D%/proto.h
