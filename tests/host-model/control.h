/*
 * Host model: what preload.c and control.c share
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HOST_MODEL_CONTROL_H
#define HOST_MODEL_CONTROL_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

/* How far CLOCK_MONOTONIC is ahead in this process, in ns */
extern uint64_t hm_advanced_ns;

/* The model's one lock */
void hm_lock(void);
void hm_unlock(void);

/* Whether HOST_MODEL_CONFIG is set: this process has a model. */
bool hm_active(void);

/* The error of a rule NOTHING: a read finds nothing, and succeeds */
#define HM_NOTHING 4096

/*
 * hm_fail(), and then the delay that a rule asks for.  The caller holds the
 * lock; it is released during the delay.  A rule may also let the process's clock
 * jump, which is a delay that costs no time.
 */
int hm_call(const char *kind);

/*
 * A thread of the model's own, which no rule refuses and nobody joins.  The
 * caller may hold the lock.  Returns 0 or an errno, as pthread_create().
 */
int hm_thread_create(void *(*start)(void *), void *arg);

#endif /* HOST_MODEL_CONTROL_H */
