# One line a test: UNIT_TESTS += %D%/test-room-thing
# The source is test-room-thing.c, linked with libpagerd-core.la and Check.

UNIT_TESTS += \
	%D%/test-base-bitmap \
	%D%/test-base-failpoint \
	%D%/test-base-hist \
	%D%/test-base-list \
	%D%/test-base-log \
	%D%/test-base-scope \
	%D%/test-base-size \
	%D%/test-base-turn \
	%D%/test-kernel-classify \
	%D%/test-kernel-maps \
	%D%/test-kernel-match \
	%D%/test-kernel-memfd \
	%D%/test-kernel-probe \
	%D%/test-kernel-proc \
	%D%/test-kernel-scan \
	%D%/test-kernel-uffd \
	%D%/test-kernel-uffd-fill \
	%D%/test-kernel-uffd-register

UFFD_PROGRAM = %D%/uffd_program.c %D%/uffd_program.h
%C%_test_kernel_match_SOURCES = %D%/test-kernel-match.c $(UFFD_PROGRAM)
%C%_test_kernel_uffd_SOURCES = %D%/test-kernel-uffd.c $(UFFD_PROGRAM)
%C%_test_kernel_uffd_fill_SOURCES = %D%/test-kernel-uffd-fill.c $(UFFD_PROGRAM)
%C%_test_kernel_uffd_register_SOURCES = %D%/test-kernel-uffd-register.c $(UFFD_PROGRAM)

# keeper and ctl are programs and no part of the core: their pure parts come along.
UNIT_TESTS += \
	%D%/test-keeper-config \
	%D%/test-keeper-listener \
	%D%/test-keeper-packet \
	%D%/test-keeper-swapfile \
	%D%/test-ctl-places \
	%D%/test-ctl-program \
	%D%/test-ctl-table
%C%_test_keeper_config_SOURCES = %D%/test-keeper-config.c src/keeper/conffile.c
%C%_test_keeper_config_LDADD = $(LDADD) $(INIH_LIBS)
%C%_test_keeper_listener_SOURCES = %D%/test-keeper-listener.c src/keeper/listener.c
%C%_test_keeper_packet_SOURCES = %D%/test-keeper-packet.c src/keeper/packet.c
%C%_test_keeper_swapfile_SOURCES = %D%/test-keeper-swapfile.c src/keeper/swapfile.c
%C%_test_ctl_places_SOURCES = %D%/test-ctl-places.c src/ctl/complain.c src/ctl/link.c \
	src/ctl/statsfile.c
%C%_test_ctl_program_SOURCES = %D%/test-ctl-program.c src/ctl/complain.c src/ctl/program.c
%C%_test_ctl_table_SOURCES = %D%/test-ctl-table.c src/ctl/complain.c src/ctl/table.c
%C%_test_ctl_table_LDADD = $(LDADD) $(SMARTCOLS_LIBS)

# The core, room by room; fake_target is its outside, driven by hand.
UNIT_TESTS += \
	%D%/test-pgtable-transition \
	%D%/test-pgtable-leaves \
	%D%/test-pgtable-areas \
	%D%/test-pgtable-workingset \
	%D%/test-frame-buddy \
	%D%/test-rmap \
	%D%/test-node-ram \
	%D%/test-migrate \
	%D%/test-migrate-capture \
	%D%/test-migrate-store \
	%D%/test-fault \
	%D%/test-fault-huge \
	%D%/test-fault-readahead \
	%D%/test-reclaim-clock \
	%D%/test-client-messages \
	%D%/test-client-order \
	%D%/test-client-doubt \
	%D%/test-client-fork \
	%D%/test-client-kept \
	%D%/test-client-limit \
	%D%/test-client-read-ahead \
	%D%/test-client-quiet \
	%D%/test-client-reclaim-request \
	%D%/test-client-recover \
	%D%/test-client-recover-disk \
	%D%/test-client-swapin \
	%D%/test-client-writeback \
	%D%/test-pgtable-ids \
	%D%/test-worker-adopt \
	%D%/test-worker-reactor \
	%D%/test-worker-recover \
	%D%/test-worker-sandbox \
	%D%/test-worker-unpageable
FAKE_TARGET = %D%/fake_target.c %D%/fake_target.h
FAKE_DOMAIN = $(FAKE_TARGET) %D%/fake_domain.c %D%/fake_domain.h %D%/fake_disk.c %D%/fake_disk.h
SWAPPED_DOMAIN = $(FAKE_DOMAIN) %D%/swapped_domain.c %D%/swapped_domain.h
%C%_test_migrate_SOURCES = %D%/test-migrate.c $(FAKE_TARGET)
%C%_test_migrate_store_SOURCES = %D%/test-migrate-store.c $(FAKE_DOMAIN)
%C%_test_migrate_capture_SOURCES = %D%/test-migrate-capture.c $(FAKE_TARGET)
%C%_test_fault_SOURCES = %D%/test-fault.c $(FAKE_TARGET)
%C%_test_fault_huge_SOURCES = %D%/test-fault-huge.c $(FAKE_TARGET)
%C%_test_fault_readahead_SOURCES = %D%/test-fault-readahead.c $(FAKE_TARGET)
%C%_test_reclaim_clock_SOURCES = %D%/test-reclaim-clock.c $(FAKE_TARGET)
%C%_test_client_messages_SOURCES = %D%/test-client-messages.c $(FAKE_DOMAIN)
%C%_test_client_order_SOURCES = %D%/test-client-order.c $(FAKE_DOMAIN)
%C%_test_client_recover_SOURCES = %D%/test-client-recover.c $(FAKE_DOMAIN)
%C%_test_client_recover_disk_SOURCES = %D%/test-client-recover-disk.c $(FAKE_DOMAIN)
%C%_test_client_doubt_SOURCES = %D%/test-client-doubt.c $(FAKE_DOMAIN)
%C%_test_client_fork_SOURCES = %D%/test-client-fork.c $(FAKE_DOMAIN)
%C%_test_client_quiet_SOURCES = %D%/test-client-quiet.c $(FAKE_DOMAIN)
%C%_test_client_reclaim_request_SOURCES = %D%/test-client-reclaim-request.c $(FAKE_DOMAIN)
%C%_test_client_swapin_SOURCES = %D%/test-client-swapin.c $(SWAPPED_DOMAIN)
%C%_test_client_writeback_SOURCES = %D%/test-client-writeback.c $(SWAPPED_DOMAIN)
%C%_test_client_read_ahead_SOURCES = %D%/test-client-read-ahead.c $(SWAPPED_DOMAIN)
%C%_test_client_limit_SOURCES = %D%/test-client-limit.c $(FAKE_DOMAIN)
%C%_test_client_kept_SOURCES = %D%/test-client-kept.c $(FAKE_DOMAIN)
# The rules of adoption need nothing of the rest of the worker.
%C%_test_worker_adopt_SOURCES = %D%/test-worker-adopt.c src/worker/adopt.c src/worker/unpageable.c
%C%_test_worker_unpageable_SOURCES = %D%/test-worker-unpageable.c src/worker/adopt.c \
	src/worker/unpageable.c
%C%_test_worker_reactor_SOURCES = %D%/test-worker-reactor.c src/worker/reactor.c
%C%_test_worker_recover_SOURCES = %D%/test-worker-recover.c src/worker/target_linux.c
# It includes reactor.c: what a worker that was taken over does is not in the interface.
%C%_test_worker_sandbox_SOURCES = %D%/test-worker-sandbox.c src/worker/sandbox.c
