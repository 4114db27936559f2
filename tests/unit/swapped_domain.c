/* SPDX-License-Identifier: Apache-2.0 */
#include <check.h>

#include "swapped_domain.h"

uint64_t now;

void swapped_open(void)
{
    log_init("test", LOG_LEVEL_ERROR, -1);
    dom_open_with_file(8, NR_FRAMES, NR_SLOTS);
    now = 1000;
}

void swapped_close(void)
{
    dom_close();
}

bool is_swapped(uint32_t n)
{
    return dom_tag(&dom.c, n) == PTE_SWAPPED;
}

uint32_t slot_of(uint32_t n)
{
    ck_assert(is_swapped(n));
    return pte_index(pte_get(&dom.c.mm, fake_addr(n)));
}

void fault(uint32_t n, bool write)
{
    dom_fault_to_the_end(n, write, now);
}

void some_swapped(void)
{
    dom_adopt(0, NR_PAGES, false);
    dom_store(0, NR_PAGES);
    dom_write_back(now);
    ck_assert(is_swapped(0) && is_swapped(100));
    ck_assert_int_eq(dom_tag(&dom.c, NR_PAGES - 1), PTE_FRAME);
    fake_forget_calls(&dom.t);
}

void all_is_right(const struct client *c)
{
    for (uint32_t i = 0; i < NR_PAGES; i++) {
        const void *bytes = dom_bytes(c, i);
        ck_assert_msg(bytes && fake_is_pattern(bytes, i), "page %u is wrong", i);
    }
}
