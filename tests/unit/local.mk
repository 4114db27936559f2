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
	%D%/test-kernel-classify \
	%D%/test-kernel-maps \
	%D%/test-kernel-memfd \
	%D%/test-kernel-probe \
	%D%/test-kernel-proc \
	%D%/test-kernel-scan \
	%D%/test-kernel-uffd

# keeper and ctl are programs and no part of the core: their pure parts come along.
UNIT_TESTS += \
	%D%/test-keeper-listener \
	%D%/test-keeper-packet \
	%D%/test-ctl-places \
	%D%/test-ctl-program \
	%D%/test-ctl-table
%C%_test_keeper_listener_SOURCES = %D%/test-keeper-listener.c src/keeper/listener.c
%C%_test_keeper_packet_SOURCES = %D%/test-keeper-packet.c src/keeper/packet.c
%C%_test_ctl_places_SOURCES = %D%/test-ctl-places.c src/ctl/complain.c src/ctl/link.c \
	src/ctl/statsfile.c
%C%_test_ctl_program_SOURCES = %D%/test-ctl-program.c src/ctl/complain.c src/ctl/program.c
%C%_test_ctl_table_SOURCES = %D%/test-ctl-table.c src/ctl/complain.c src/ctl/table.c
%C%_test_ctl_table_LDADD = $(LDADD) $(SMARTCOLS_LIBS)

# The core, room by room; fake_target is its outside, driven by hand.
UNIT_TESTS += \
	%D%/test-pgtable-transition \
	%D%/test-pgtable-leaves \
	%D%/test-pgtable-areas
