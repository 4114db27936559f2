/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TEST_UFFD_PROGRAM_H
#define TEST_UFFD_PROGRAM_H
/*
 * A program that a userfaultfd's owner sees, for tests of the kernel's real answers: a
 * second thread of the test itself touches and changes registered memory, the first
 * one pages it.
 */
#include <check.h>

#include "kernel/kernel.h"

#define NR_PAGES 16
#define BYTES (NR_PAGES * PAGE_SIZE)

extern struct kernel_features features;
extern int uffd;
extern char *mem;         /* NR_PAGES, registered */
extern char bytes[BYTES]; /* page i is full of 'a' + i */

/* The fixture of each test: makes the above anew. */
void set_up(void);
void tear_down(void);

int open_uffd(void);
uint64_t main_features(void);
char *map_pages(int prot);
struct uaddr at(size_t page);
struct urange pages(size_t first, size_t nr);

/* Waits for a message and reads it alone. */
struct kuffd_msg next_message(void);
/* Pages of `bytes`, to where they belong. */
enum kres copy(size_t page, size_t nr, uint64_t *ret_done);

/* The second thread, and what it may do: each takes an address. */
void start(void *(*f)(void *), void *arg);
void *end(void);
void *load(void *p); /* gives the byte */
void *store(void *p);
void *drop_page(void *p);
void *unmap_page(void *p);
void *grow_elsewhere(void *p); /* gives the new place */
void *fork_child(void *unused); /* gives the child's pid */

/* Another process with NR_PAGES at `mem`, which is made so here, and nothing in them. */
struct other_process {
    pid_t pid;
    int uffd; /* of its address space, without UFFDIO_API; the caller's to close */
    int sock;
};
void other_start(struct other_process *o);
void other_end(struct other_process *o);

/* Runs the tests that add_tests() adds; exit status: 77 where this kernel lacks what pagerd needs. */
int run_uffd_tests(const char *name, void (*add_tests)(TCase *tc));

#endif
