/*
 * What the test programs for the host model share
 *
 * Programs of the uapi that run on the model alone, with a machine of their own
 * and the model's control socket.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HOST_MODEL_TEST_UAPI_H
#define HOST_MODEL_TEST_UAPI_H

#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#ifndef __counted_by
#define __counted_by(member)
#endif
#include <linux/iommufd.h>
#include <linux/vfio.h>

#define N(a)        (sizeof(a) / sizeof((a)[0]))
#define FORMAT(n)   __attribute__((format(printf, n, n + 1)))

void point(bool good, const char *format, ...) FORMAT(2);
/* The plan; what main() returns */
int points_end(void);

#define is(got, want, ...) do { \
        int64_t got_ = (got), want_ = (want); \
        char what_[200]; \
        snprintf(what_, sizeof(what_), __VA_ARGS__); \
        if (got_ == want_) { \
            point(true, "%s", what_); \
        } else { \
            point(false, "%s: 0x%" PRIx64 ", not 0x%" PRIx64 " (line %d)", \
                  what_, got_, want_, __LINE__); \
        } \
    } while (0)

/* Everything later needs this.  If it is -errno, "Bail out!" and exit. */
void need(long result, const char *what);

/* The model's control socket: a command, and its answer until the next one */
void control_open(const char *path);
const char *control(const char *format, ...) FORMAT(1);
/* A number behind "key": in an answer; -1 if it is not there */
int64_t value_of(const char *json, const char *key);
uint64_t counter(const char *name);

/* ioctl(), but -errno instead of -1 */
long call(int fd, unsigned long request, void *arg);

#endif /* HOST_MODEL_TEST_UAPI_H */
