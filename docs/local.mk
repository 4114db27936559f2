# EXTRA_DIST += %D%/x.md
