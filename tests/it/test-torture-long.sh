#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# test-torture.sh with 1 GiB under 256 MiB for a minute.

TORTURE_MIB=${TORTURE_MIB:-1024} TORTURE_SECONDS=${TORTURE_SECONDS:-60} \
    exec "${top_srcdir:?}/tests/it/test-torture.sh"
