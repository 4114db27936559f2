/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cgroup-ballast CGROUP FILE: joins the memory cgroup and fills FILE (of a tmpfs) with
 * whatever is free in it, as soon as it becomes free, until standard input ends.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define STEP 4096u
#define FILE_MAX ((off_t)1 << 30)

int main(int argc, char **argv)
{
    struct pollfd end = {0, POLLIN, 0};
    static char bytes[STEP];
    char path[4096];
    int procs, fd;

    if (argc != 3)
        return 2;
    memset(bytes, 1, sizeof(bytes));
    snprintf(path, sizeof(path), "%s/cgroup.procs", argv[1]);
    procs = open(path, O_WRONLY | O_CLOEXEC);
    fd = open(argv[2], O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    /* A page fault of ours would wait for memory as the program's do. */
    if (procs < 0 || fd < 0 || mlockall(MCL_CURRENT) < 0 || write(procs, "0", 1) != 1) {
        perror("cgroup-ballast");
        return 1;
    }
    for (off_t bytes_written = 0; poll(&end, 1, 0) == 0;) {
        if (bytes_written < FILE_MAX && write(fd, bytes, STEP) == STEP)
            bytes_written += STEP;
        else
            poll(&end, 1, 5); /* nothing is free: for a moment */
    }
    return 0;
}
