/*
 * libvirtd in a sandbox: preloaded into it, so that the test needs no root
 *
 * libvirtd sets the groups of QEMU, and the limit of the memory that it may
 * lock.  In a user namespace, or without CAP_SYS_RESOURCE, Linux refuses
 * both.  Neither is under test, and the host model has no need of them.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <grp.h>
#include <stddef.h>
#include <sys/resource.h>
#include <sys/types.h>

int setgroups(size_t n, const gid_t *groups)
{
    return 0;
}

/* glibc has it under both names; libvirt calls this one */
int limit(pid_t pid, int resource, const struct rlimit64 *new,
          struct rlimit64 *old) __asm__("prlimit64");

int limit(pid_t pid, int resource, const struct rlimit64 *new,
          struct rlimit64 *old)
{
    static int (*real)(pid_t, int, const void *, void *);

    if (resource == RLIMIT_MEMLOCK && new) {
        return 0;
    }
    if (!real) {
        real = (__typeof__(real))dlsym(RTLD_NEXT, "prlimit64");
    }
    return real(pid, resource, new, old);
}
