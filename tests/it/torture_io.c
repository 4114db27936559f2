/* SPDX-License-Identifier: Apache-2.0 */
/* Operations of torture by system calls whose buffers are in pages that are out or moving. */
#define _GNU_SOURCE
#include "torture.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#define PIPE_PAGES 8u /* a pipe takes 16, whatever their alignment */
#define READ_PAGES 64u

int pattern_file, pattern_direct;

/* The same file once more, by O_DIRECT where its file system can. */
static int reopen_direct(struct torturer *t, int fd)
{
    char path[64];
    int direct;

    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    direct = settings.pins ? open(path, O_RDWR | O_CLOEXEC | O_DIRECT) : -1;
    if (direct < 0) {
        if (settings.pins)
            dprintf(STDERR_FILENO, "torture: no O_DIRECT in %s\n", P_tmpdir);
        direct = open(path, O_RDWR | O_CLOEXEC);
    }
    CHECK(t, NULL, direct >= 0);
    return direct;
}

void io_make(struct torturer *t)
{
    uint64_t page[PAGE / sizeof(uint64_t)];

    pattern_file = open(P_tmpdir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    CHECK(t, NULL, pattern_file >= 0);
    for (uint32_t i = 0; i < FILE_PAGES; i++) {
        tag_fill(page, tag_of_file(i));
        CHECK(t, NULL, pwrite(pattern_file, page, PAGE, (off_t)i * PAGE) == PAGE);
    }
    pattern_direct = reopen_direct(t, pattern_file);
}

void io_open(struct torturer *t)
{
    CHECK(t, NULL, pipe2(t->pipe, O_CLOEXEC) == 0);
    t->scratch = open(P_tmpdir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    CHECK(t, NULL, t->scratch >= 0 && ftruncate(t->scratch, (off_t)(READ_PAGES * PAGE)) == 0);
    t->scratch_direct = reopen_direct(t, t->scratch);
}

/* From pages to pages; both blocks are ours. */
void io_pipe(struct torturer *t)
{
    struct block *from = block_lock(t), *to = from ? block_lock(t) : NULL;
    uint32_t from_page, to_page, nr;
    struct iovec in[3];
    size_t bytes;
    char *at;

    if (to) {
        nr = block_run(t, from, PIPE_PAGES, &from_page);
        bytes = (size_t)nr * PAGE;
        to_page = below(t, to->nr_pages - nr + 1);
        for (uint32_t i = from_page; i < from_page + nr; i++)
            if (from->page[i].maybe_zero)
                page_write(t, from, i);
        note(t, from, "write(2) to a pipe", from_page, nr);
        note(t, to, "read(2) from a pipe", to_page, nr);
        CHECK(t, from, write(t->pipe[1], page_at(from, from_page), bytes) == (ssize_t)bytes);
        for (uint32_t i = from_page; i < from_page + nr; i++) /* else the reader is blamed */
            page_verify(t, from, i);
        at = page_at(to, to_page);
        if (chance(t, 2)) { /* into pieces that do not end where pages do */
            size_t first = below(t, (uint32_t)bytes), second = below(t, (uint32_t)(bytes - first));
            in[0] = (struct iovec){at, first};
            in[1] = (struct iovec){at + first, second};
            in[2] = (struct iovec){at + first + second, bytes - first - second};
            CHECK(t, to, readv(t->pipe[0], in, 3) == (ssize_t)bytes);
        } else {
            CHECK(t, to, read(t->pipe[0], at, bytes) == (ssize_t)bytes);
        }
        for (uint32_t i = 0; i < nr; i++)
            to->page[to_page + i] = from->page[from_page + i];
        for (uint32_t i = 0; i < nr; i++)
            page_verify(t, to, to_page + i);
        block_unlock(to);
    }
    if (from)
        block_unlock(from);
}

void io_file_read(struct torturer *t)
{
    struct block *b = block_lock(t);
    bool direct = chance(t, 2);
    uint32_t page, nr, first;
    struct iovec v[8];
    size_t bytes;

    if (!b)
        return;
    nr = block_run(t, b, READ_PAGES, &page);
    bytes = (size_t)nr * PAGE;
    first = below(t, FILE_PAGES - READ_PAGES);
    if (nr >= 8 && chance(t, 2)) { /* every eighth page, then all others: scattered */
        note(t, b, direct ? "preadv(2), O_DIRECT" : "preadv(2)", page, nr / 8 * 8);
        for (uint32_t i = 0; i < 8; i++) {
            v[i] = (struct iovec){page_at(b, page + i * (nr / 8)), PAGE};
            b->page[page + i * (nr / 8)] = (struct page_state){.tag = tag_of_file(first + i)};
        }
        CHECK(t, b, preadv(direct ? pattern_direct : pattern_file, v, 8, (off_t)first * PAGE) ==
                        8 * PAGE);
    } else {
        note(t, b, direct ? "pread(2), O_DIRECT" : "pread(2)", page, nr);
        CHECK(t, b, pread(direct ? pattern_direct : pattern_file, page_at(b, page), bytes,
                          (off_t)first * PAGE) == (ssize_t)bytes);
        for (uint32_t i = 0; i < nr; i++)
            b->page[page + i] = (struct page_state){.tag = tag_of_file(first + i)};
    }
    for (uint32_t i = 0; i < nr; i++)
        page_verify(t, b, page + i);
    block_unlock(b);
}

void io_file_write(struct torturer *t)
{
    static _Thread_local char copy[READ_PAGES * PAGE];
    struct block *b = block_lock(t);
    bool direct = chance(t, 2);
    uint32_t page, nr;
    size_t bytes;

    if (!b)
        return;
    nr = block_run(t, b, READ_PAGES, &page);
    bytes = (size_t)nr * PAGE;
    note(t, b, direct ? "pwrite(2), O_DIRECT" : "pwrite(2)", page, nr);
    CHECK(t, b, pwrite(direct ? t->scratch_direct : t->scratch, page_at(b, page), bytes, 0) ==
                    (ssize_t)bytes);
    CHECK(t, b, pread(t->scratch, copy, bytes, 0) == (ssize_t)bytes);
    for (uint32_t i = 0; i < nr; i++)
        copy_verify(t, b, page + i, copy + (size_t)i * PAGE);
    block_unlock(b);
}
