# SIM_TESTS += %D%/x.sh   EXTRA_DIST += %D%/x.sh
