#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# The mutants that test-mutants.sh leaves out because they are found late.
RARE_MUTANTS=1 exec "$(dirname "$0")/test-mutants.sh"
