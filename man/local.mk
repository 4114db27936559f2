# dist_man_MANS += %D%/x.1
dist_man_MANS += \
	%D%/pagerctl.8 \
	%D%/pagerd.8 \
	%D%/pagerd.conf.5 \
	%D%/pagerd-preload.7
