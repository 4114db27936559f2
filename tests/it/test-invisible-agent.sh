#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The same observations under shim and agent alone: what differs here is theirs.
exec "$top_srcdir/tests/it/test-invisible.sh" fake
