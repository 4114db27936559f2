# Tests of the source tree itself.
TREE_TESTS += \
	%D%/test-include-order.sh \
	%D%/test-all-tests-listed.sh \
	%D%/test-aarch64-compiles.sh \
	%D%/test-scripts-lint.sh \
	%D%/test-man-options.sh

EXTRA_DIST += \
	$(TREE_TESTS) \
	%D%/coverage-summary.sh \
	%D%/run-one.sh \
	%D%/strip-c.awk
