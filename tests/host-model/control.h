/*
 * Host model: what preload.c and control.c share
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HOST_MODEL_CONTROL_H
#define HOST_MODEL_CONTROL_H

#include <stdbool.h>

/* The model's one lock */
void hm_lock(void);
void hm_unlock(void);

/* Whether this process has a model in it: HOST_MODEL_CONFIG names one. */
bool hm_active(void);

/*
 * hm_fail(), and the delay that may have been asked for, which passes without
 * the lock.  Called with the lock held, which is held again on return.
 */
int hm_call(const char *kind);

#endif /* HOST_MODEL_CONTROL_H */
