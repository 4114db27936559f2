# Programs that measure: noinst_PROGRAMS or EXTRA_DIST.
