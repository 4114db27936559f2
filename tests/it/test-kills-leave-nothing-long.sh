#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# test-kills-leave-nothing.sh with a thousand programs.

KILL_ROUNDS=${KILL_ROUNDS:-1000} exec "${top_srcdir:?}/tests/it/test-kills-leave-nothing.sh"
