# SIM_TESTS += %D%/x   check_PROGRAMS += %D%/x
