# Faults put into the core on purpose, which the simulator has to find.
SIM_TESTS += %D%/test-mutants.sh
EXTRA_DIST += %D%/test-mutants.sh
LONG_TESTS += %D%/test-rare-mutants.sh
EXTRA_DIST += %D%/test-rare-mutants.sh
