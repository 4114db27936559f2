/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Numbers of address spaces.  They stand in leaves and reverse maps, which both
 * live on while clients come and go; small, so that a table finds the mm at once.
 */
#include <errno.h>

#include "pgtable/pgtable.h"

int mm_ids_take(struct mm_ids *ids, struct mm *mm)
{
    for (uint32_t i = 0; i < MM_MAX_ID; i++) {
        uint32_t id = (ids->last + i) % MM_MAX_ID + 1;
        if (ids->mm[id])
            continue;
        ids->mm[id] = mm;
        ids->last = id;
        return (int)id;
    }
    return -ENOSPC;
}

int mm_ids_claim(struct mm_ids *ids, struct mm *mm, uint32_t id)
{
    if (!id || id > MM_MAX_ID)
        return -EINVAL;
    if (ids->mm[id])
        return -EBUSY;
    ids->mm[id] = mm;
    return 0;
}

void mm_ids_release(struct mm_ids *ids, uint32_t id)
{
    BUG_ON(!id || id > MM_MAX_ID || !ids->mm[id]);
    ids->mm[id] = NULL;
}
