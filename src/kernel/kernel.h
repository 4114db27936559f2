/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PAGERD_KERNEL_H
#define PAGERD_KERNEL_H
/*
 * kernel: the daemon's side of userfaultfd, PAGEMAP_SCAN, /proc/PID, pidfd,
 * kcmp, memfd and futex.  Everything that issues such a call for the daemon is
 * in this room (the agent has its own raw calls; both use kernel/uapi.h), and
 * every answer is classified here, once (KERNEL.md says why each errno means
 * what it means).
 *
 * Functions that return int give 0 (or a number) or -errno.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/base.h"
#include "target/target.h"

/* ---- what this kernel can do (kernel_probe.c) ---- */

struct kernel_features {
    int syscall_errno;    /* of userfaultfd(2) for kernel faults; 0: works */
    int device_errno;     /* of /dev/userfaultfd; 0: works */
    uint64_t features;    /* UFFD_FEATURE_* that UFFDIO_API offers; 0 when neither way works */
    bool move;            /* UFFDIO_MOVE (6.8) */
    bool wp_async;        /* asynchronous write-protection, with WP_UNPOPULATED (6.7) */
    bool poison;          /* UFFDIO_POISON (6.6) */
    bool events;          /* remap, remove and unmap */
    bool event_fork;      /* fork, and this process may ask for it (CAP_SYS_PTRACE) */
    bool pagemap_scan;    /* PAGEMAP_SCAN (6.7) */
    char release[65];     /* uname -r */
};

/*
 * Tries everything on throw-away descriptors.  Fail points: probe-uffd,
 * probe-move, probe-wp-async, probe-pagemap-scan, probe-event-fork.
 */
void kernel_probe(struct kernel_features *ret);

/* NULL when pagerd can run; else buf: one sentence with cause and remedy. */
const char *kernel_features_complaint(const struct kernel_features *f, char *buf, size_t size);

/* ---- userfaultfd (kernel_uffd.c) ---- */

/* UFFD_FEATURE_* of a client's main userfaultfd. */
extern const uint64_t KUFFD_MAIN_FEATURES;
/* The one of them that needs CAP_SYS_PTRACE. */
extern const uint64_t KUFFD_EVENT_FORK;

/* An open /dev/userfaultfd or -errno. */
int kuffd_open_device(void);
/* A non-blocking userfaultfd of the caller: from the device, or with -1 by userfaultfd(2). */
int kuffd_new(int device_fd);
bool kuffd_is_userfaultfd(int fd);
/*
 * UFFDIO_API: fixes the features, once.  -EPERM: EVENT_FORK without CAP_SYS_PTRACE; -EINVAL: the
 * kernel lacks one.
 */
MUST_CHECK int kuffd_api(int fd, uint64_t features);

enum kuffd_op {
    KUFFD_REGISTER,
    KUFFD_UNREGISTER,
    KUFFD_COPY,
    KUFFD_ZERO,
    KUFFD_WAKE,
    KUFFD_POISON,
};
#define NR_KUFFD_OPS (KUFFD_POISON + 1)

/*
 * What errno `err` (0: success) of `op` means.  Pure.  ENOMEM of REGISTER and
 * UNREGISTER is RETRY here; the calls below find out whether it was DEAD.
 */
enum kres kres_classify(enum kuffd_op op, int err);
const char *kres_name(enum kres k);

/*
 * All ranges are page-aligned (BUG_ON).
 *
 * register: for missing pages, and with_wp for asynchronous write-protection.
 *   GONE: no mapping in it, or one that cannot be registered (kind, never
 *   writable, another userfaultfd's).  RETRY: memory or the program's mapping
 *   count is short.  Not stopped by unread events: apply those first.
 */
MUST_CHECK enum kres kuffd_register(int fd, struct urange r, bool with_wp);
/* Wakes waiters; they then get zeros from the kernel.  GONE: no mapping, or not ours. */
MUST_CHECK enum kres kuffd_unregister(int fd, struct urange r);

/*
 * copy, zero, poison: one call fills what it can: a short answer of the kernel
 * is followed up until all is done or a page gives a reason of its own.
 * *ret_done = bytes filled from the start, for every result, and their waiters
 * are woken.  The result is about the page at dst + *ret_done: RETRY (events
 * unread; with errno ENOMEM: the client's cgroup is full, or the machine), RACED (something is
 * there: wake its waiter and go on behind it), GONE (range not mapped, not registered, or crosses a
 * mapping's end), DEAD, FATAL.
 * Fail points kuffd-register, kuffd-copy, kuffd-zero, kuffd-poison: as ENOMEM.
 */
MUST_CHECK enum kres kuffd_copy(int fd, struct uaddr dst, const void *src, uint64_t len,
                                uint64_t *ret_done);
MUST_CHECK enum kres kuffd_zero(int fd, struct uaddr dst, uint64_t len, uint64_t *ret_done);
MUST_CHECK enum kres kuffd_poison(int fd, struct uaddr dst, uint64_t len, uint64_t *ret_done);

/*
 * Is a change of the address space under way: one of its events unread, or the
 * thread that it came from not yet on its way?  Fills and moves are refused then.
 */
bool kuffd_is_changing(int fd);
/* Is a message waiting to be read? */
bool kuffd_has_unread(int fd);
/* Does the page lie in registered anonymous memory?  DONE: it does; GONE: not; else as a fill. */
MUST_CHECK enum kres kuffd_is_registered(int fd, struct uaddr page);

/* Makes waiters look again, and faults that a reader lost be posted again. */
MUST_CHECK enum kres kuffd_wake(int fd, struct urange r);
/* All of them, wherever. */
MUST_CHECK enum kres kuffd_wake_all(int fd);

enum kuffd_msg_type {
    KUFFD_FAULT,
    KUFFD_FORK,
    KUFFD_REMAP,
    KUFFD_REMOVE,
    KUFFD_UNMAP,
    KUFFD_VOID, /* one that kuffd_void() made nobody's */
};

struct kuffd_msg {
    enum kuffd_msg_type type;
    struct uaddr addr;     /* FAULT: the page */
    bool write;            /* FAULT */
    struct urange range;   /* REMOVE, UNMAP */
    struct uaddr from, to; /* REMAP */
    uint64_t len;          /* REMAP: bytes of the new place */
    int fd;                /* FORK: the child's userfaultfd, now the caller's to close; else -1 */
};

/* Bytes of one message as the kernel writes it (struct uffd_msg). */
#define KUFFD_RAW_BYTES 32
/* Pure.  -EPROTO: an event that was never asked for. */
MUST_CHECK int kuffd_decode(const void *raw, struct kuffd_msg *ret);
/* Makes a message nobody's, in one store of a byte: whoever decodes it later finds VOID. */
void kuffd_void(void *raw);
/*
 * At most `max` messages: their number, 0 when none is waiting, -errno.  The
 * kernel delivers waiting faults before events, whichever came first.
 */
int kuffd_read(int fd, struct kuffd_msg *out, unsigned max);
/*
 * Likewise, straight into max slots of KUFFD_RAW_BYTES that outlive the process: slot i
 * is message i; what is not used is left as it was, or zero.
 */
int kuffd_read_raw(int fd, void *slots, struct kuffd_msg *out, unsigned max);

/* ---- whose userfaultfd is it (kernel_match.c) ---- */

/*
 * Two questions about the address space of a userfaultfd, which change nothing in it.
 * readonly: is there, at `page`, a shared mapping of memory that can never be written?
 * anothers: is [r), anonymous memory without pages, registered with another userfaultfd?
 */
bool kuffd_finds_readonly(int fd, struct uaddr page);
bool kuffd_finds_anothers(int fd, struct urange r);
/*
 * Is it the userfaultfd of the address space that /proc/PID/pagemap shows?  [r), at most
 * KUFFD_MATCH_PAGES, is one mapping of anonymous memory that is registered with it for
 * missing pages, as it is again after a true; after a false some of it may be armed for
 * write-protection too.  Pages are neither read nor filled.
 */
bool kuffd_is_of(int fd, int pagemap_fd, struct urange r);
#define KUFFD_MATCH_PAGES 512

/* ---- present pages (kernel_scan.c) ---- */

/* /proc/PID/pagemap for the functions below, or -errno. */
int kscan_open(pid_t pid);

/*
 * Runs of pages that are mapped in [r), in order; a huge mapping is a run of
 * its own kind, and a run may be a part of a huge page where r cuts one.
 * PRESENT only: the kernel's SWAPPED also stands for the markers of poison,
 * guard and write-protection, which are holes to us.  The zero page counts as
 * present; a page that the kernel is just migrating does not.
 * Returns the number of runs (<= max, max >= 1); *ret_next: where to go on.
 */
int kscan_present(int pagemap_fd, struct urange r, struct scan_run *runs, uint32_t max,
                  struct uaddr *ret_next);
/*
 * Does the kernel hold anything for the one page at a: mapped, swapped out, or a
 * marker?  1, 0 or -errno.
 */
int kscan_page_is_held(int pagemap_fd, struct uaddr a);
/*
 * The first guard (MADV_GUARD_INSTALL) in [r), or its end, also where the kernel cannot tell
 * (before 6.15).
 */
struct uaddr kscan_next_guard(int pagemap_fd, struct urange r);
MUST_CHECK int kscan_count_present(int pagemap_fd, struct urange r, uint64_t *ret_pages);

/* ---- mappings (kernel_maps.c; kernel_maps_parse.c is pure) ---- */

enum kmap_kind {
    KMAP_ANON,       /* no name */
    KMAP_HEAP,       /* [heap] */
    KMAP_STACK,      /* [stack] */
    KMAP_NAMED_ANON, /* [anon:...] (PR_SET_VMA_ANON_NAME) */
    KMAP_SPECIAL,    /* [vdso], [vvar], [uprobes], any other bracket */
    KMAP_FILE,       /* has an inode or a path: files, memfds, shared anonymous memory, devices */
};

#define KMAP_PROT_READ (1u << 0)
#define KMAP_PROT_WRITE (1u << 1)
#define KMAP_PROT_EXEC (1u << 2)
#define KMAP_SHARED (1u << 3)

/* VmFlags of smaps; KMAP_VMF_KNOWN once they have been read. */
enum kmap_vmf {
    KMAP_VMF_KNOWN = 1u << 0,
    KMAP_VMF_LOCKED = 1u << 1,     /* lo */
    KMAP_VMF_DONTCOPY = 1u << 2,   /* dc: MADV_DONTFORK */
    KMAP_VMF_WIPEONFORK = 1u << 3, /* wf */
    KMAP_VMF_GROWSDOWN = 1u << 4,  /* gd */
    KMAP_VMF_IO = 1u << 5,         /* io */
    KMAP_VMF_PFNMAP = 1u << 6,     /* pf */
    KMAP_VMF_HUGETLB = 1u << 7,    /* ht */
    KMAP_VMF_UFFD = 1u << 8,       /* um, uw, ui: registered with some userfaultfd */
    KMAP_VMF_HUGEPAGE = 1u << 9,   /* hg */
    KMAP_VMF_NOHUGEPAGE = 1u << 10, /* nh */
    KMAP_VMF_MERGEABLE = 1u << 11, /* mg */
    KMAP_VMF_MIXEDMAP = 1u << 12,  /* mm */
    KMAP_VMF_SHADOWSTACK = 1u << 13, /* ss */
    KMAP_VMF_DROPPABLE = 1u << 14, /* dp */
};

struct kmap_vma {
    struct urange r;
    uint32_t prot;  /* KMAP_PROT_*, KMAP_SHARED */
    uint32_t flags; /* enum kmap_vmf */
    enum kmap_kind kind;
    uint32_t dev_major, dev_minor;
    uint64_t offset;
    uint64_t inode;
};

/* Grows as needed; all zeros is empty.  Ascending addresses, no overlap. */
struct kmap {
    struct kmap_vma *vma;
    size_t nr, cap;
};

void kmap_free(struct kmap *m);
#define _cleanup_kmap_ _cleanup_(kmap_free)
/* The mapping that holds a, or NULL. */
const struct kmap_vma *kmap_find(const struct kmap *m, struct uaddr a);

/* Pure; both skip what they do not understand.  -ENOMEM. */
MUST_CHECK int kmap_parse(struct kmap *m, const char *text, size_t len);
/* Fills `flags` of the mappings of m which the smaps text describes with the same start and end. */
void kmap_parse_flags(struct kmap *m, const char *text, size_t len);

/*
 * /proc/PID/maps into m, replacing what was there; m keeps its memory and is
 * empty after a failure.  A process without memory (zombie) has no mappings.
 */
MUST_CHECK int kmaps_read(pid_t pid, struct kmap *m);
/*
 * /proc/PID/smaps: flags for mappings that are still as m has them; the others
 * stay without KMAP_VMF_KNOWN, and those that begin behind `stop` may.  Walks the page table
 * so far: hundreds of milliseconds a GiB of small pages.
 */
MUST_CHECK int kmaps_read_flags(pid_t pid, struct kmap *m, uint64_t stop);
/* Both by one reading of smaps: a mapping that changes meanwhile is there, with its flags. */
MUST_CHECK int kmaps_read_with_flags(pid_t pid, struct kmap *m);

/*
 * The mapping that holds `a`: 1, 0 (none) or -errno.  PROCMAP_QUERY where the kernel
 * has it (6.11), else all of the maps are read.
 */
int kmaps_find(pid_t pid, struct uaddr a, struct urange *ret);
/* Does [r) lie in one mapping of the process?  1, 0 or -errno. */
int kmaps_covers(pid_t pid, struct urange r);
/* Is [r) one mapping, neither more nor less?  Likewise. */
int kmaps_is_one(pid_t pid, struct urange r);

/* ---- processes (kernel_proc.c) ---- */

int kproc_pidfd(pid_t pid);
/* Has the process behind pidfd ended (all threads)?  1, 0 or -errno. */
int kproc_pidfd_ended(int pidfd);
/* /proc/PID/FILE, read-only, or -errno. */
int kproc_open(pid_t pid, const char *file);
/* Parent's pid; 0: none that we can see. */
int kproc_ppid(pid_t pid);
/* How many threads it has, those of its own that end just now included. */
int kproc_nr_threads(pid_t pid);
/* Pure, over the text of /proc/PID/stat. */
int kproc_parse_ppid(const char *stat);
int kproc_parse_threads(const char *stat);
/* The letter of its state (proc_pid_stat(5)): of a process, its main thread's; or -errno. */
int kproc_state(pid_t pid);
/*
 * Resident anonymous bytes: (resident - shared) pages of an open
 * /proc/PID/statm; 0 for a zombie.  The kernel keeps these counters by CPU, so
 * they are off by some dozens of pages a CPU.
 */
MUST_CHECK int kproc_anon_bytes(int statm_fd, uint64_t *ret);
/*
 * The same, and the bytes mapped: nearly always others when there is a new mapping.  0: a zombie.
 */
MUST_CHECK int kproc_memory(int statm_fd, uint64_t *ret_anon, uint64_t *ret_mapped);
/*
 * The process's part of resident anonymous bytes: a page that n processes map counts
 * for one n-th.  Walks the page table: milliseconds a GiB.
 */
MUST_CHECK int kproc_anon_share(pid_t pid, uint64_t *ret);
/*
 * Do two tasks (thread ids) use one address space?  1, 0 or -errno (-ESRCH,
 * -EPERM).  A task that has none (zombie) shares with nobody.
 */
int kproc_same_mm(pid_t a, pid_t b);
/*
 * Does any live thread of process tgid use the address space of `agent`?  1,
 * 0 (also when tgid is gone), -errno; -ESRCH: the agent has ended, so that none
 * can be told.  A leader that has called pthread_exit does not decide.
 */
int kproc_any_thread_shares(pid_t tgid, pid_t agent);
/* A thread of tgid that has an address space (the leader may be gone): its tid, 0, or -errno. */
pid_t kproc_thread_with_memory(pid_t tgid);

/* Where the kernel makes huge pages of anonymous memory: transparent_hugepage/enabled. */
enum kproc_thp { THP_NEVER = 0, THP_MADVISE, THP_ALWAYS };
enum kproc_thp kproc_thp_mode(void);

/* ---- memfd and futex (kernel_memfd.c) ---- */

/* A memfd of fixed size, which a client may map but not resize. */
int kmemfd_sealed(const char *name, uint64_t bytes);
/* A memfd that grows and shrinks by hole punching. */
int kmemfd_sparse(const char *name, uint64_t bytes);
/* FUTEX_WAKE of all waiters, across processes: number woken or -errno. */
int kfutex_wake_shared(_Atomic uint32_t *word);

#endif
