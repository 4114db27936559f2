/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of steps that an entry can take.  Everything that is not in it is
 * refused by pte_transition(); tests/unit/test-pgtable-transition.c walks every
 * pair of state and event.
 */
#define _GNU_SOURCE
#include <errno.h>

#include "pgtable/pgtable.h"

#define TO(tag) ((tag) + 1) /* 0 = no such step */

static const uint8_t step[PTE_NR_TAGS][PTE_NR_EVENTS] = {
    [PTE_NONE] = {
        [PTE_EV_ADOPT] = TO(PTE_PRESENT),
        /* The program may drop what was never there. */
        [PTE_EV_REMOVE] = TO(PTE_NONE),
    },
    [PTE_PRESENT] = {
        [PTE_EV_CAPTURE] = TO(PTE_MIGRATING),
        [PTE_EV_UNKEEP] = TO(PTE_PRESENT),
        [PTE_EV_REMOVE] = TO(PTE_NONE),
    },
    [PTE_ZERO] = {
        [PTE_EV_FILL] = TO(PTE_PRESENT),
        [PTE_EV_REMOVE] = TO(PTE_NONE),
    },
    [PTE_FRAME] = {
        [PTE_EV_FILL] = TO(PTE_PRESENT),
        [PTE_EV_SWITCH] = TO(PTE_SWAPPED),
        [PTE_EV_ISOLATE] = TO(PTE_MIGRATING),
        [PTE_EV_LOSE] = TO(PTE_POISON),
        [PTE_EV_REMOVE] = TO(PTE_NONE),
    },
    [PTE_SWAPPED] = {
        [PTE_EV_FILL] = TO(PTE_PRESENT),
        [PTE_EV_ISOLATE] = TO(PTE_MIGRATING),
        [PTE_EV_LOSE] = TO(PTE_POISON),
        [PTE_EV_REMOVE] = TO(PTE_NONE),
    },
    [PTE_MIGRATING] = {
        [PTE_EV_ABORT] = TO(PTE_PRESENT),
        [PTE_EV_COMMIT_ZERO] = TO(PTE_ZERO),
        [PTE_EV_COMMIT_FRAME] = TO(PTE_FRAME),
        [PTE_EV_COMMIT_SWAPPED] = TO(PTE_SWAPPED),
        [PTE_EV_COMMIT_MERGED] = TO(PTE_MERGED),
        [PTE_EV_LOSE] = TO(PTE_POISON),
        /* Whatever is in flight: the move sees that the entry is not its own any more. */
        [PTE_EV_REMOVE] = TO(PTE_NONE),
    },
    [PTE_POISON] = {
        [PTE_EV_REMOVE] = TO(PTE_NONE),
    },
    [PTE_MERGED] = {
        [PTE_EV_FILL] = TO(PTE_PRESENT),
        [PTE_EV_LOSE] = TO(PTE_POISON),
        [PTE_EV_REMOVE] = TO(PTE_NONE),
    },
};

int pte_next_tag(enum pte_tag tag, enum pte_event event)
{
    if ((unsigned)tag >= PTE_NR_TAGS || (unsigned)event >= PTE_NR_EVENTS)
        return -EINVAL;
    return step[tag][event] ? step[tag][event] - 1 : -EINVAL;
}

const char *pte_tag_name(enum pte_tag tag)
{
    static const char *const names[PTE_NR_TAGS] = {
        [PTE_NONE] = "none",           [PTE_PRESENT] = "present", [PTE_ZERO] = "zero",
        [PTE_FRAME] = "frame",         [PTE_SWAPPED] = "swapped", [PTE_MIGRATING] = "migrating",
        [PTE_POISON] = "poisoned",     [PTE_MERGED] = "merged",
    };
    return (unsigned)tag < PTE_NR_TAGS ? names[tag] : "?";
}

const char *pte_event_name(enum pte_event event)
{
    static const char *const names[PTE_NR_EVENTS] = {
        [PTE_EV_ADOPT] = "adopt",
        [PTE_EV_CAPTURE] = "capture",
        [PTE_EV_ABORT] = "abort",
        [PTE_EV_COMMIT_ZERO] = "commit-zero",
        [PTE_EV_COMMIT_FRAME] = "commit-frame",
        [PTE_EV_COMMIT_SWAPPED] = "commit-swapped",
        [PTE_EV_COMMIT_MERGED] = "commit-merged",
        [PTE_EV_FILL] = "fill",
        [PTE_EV_ISOLATE] = "isolate",
        [PTE_EV_LOSE] = "lose",
        [PTE_EV_REMOVE] = "remove",
        [PTE_EV_IMPORT] = "import",
        [PTE_EV_SWITCH] = "switch",
        [PTE_EV_UNKEEP] = "unkeep",
    };
    return (unsigned)event < PTE_NR_EVENTS ? names[event] : "?";
}
