/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PAGERD_TEST_SWAPPED_DOMAIN_H
#define PAGERD_TEST_SWAPPED_DOMAIN_H
/* The domain of fake_domain.h with a file node, and so many pages that write-back begins. */
#include "fake_domain.h"

#define NR_FRAMES PAGEBLOCK_FRAMES
#define NR_SLOTS (2 * PAGEBLOCK_FRAMES)
#define NR_PAGES 400

extern uint64_t now; /* 1000 at first */

/* A test's fixture. */
void swapped_open(void);
void swapped_close(void);

bool is_swapped(uint32_t n);
uint32_t slot_of(uint32_t n); /* it is swapped */
void fault(uint32_t n, bool write);
/* Pages [0, NR_PAGES) are moved out, the oldest of them to the disk. */
void some_swapped(void);
void all_is_right(const struct client *c);

#endif
