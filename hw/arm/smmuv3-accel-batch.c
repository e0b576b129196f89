/*
 * Accelerated SMMUv3: invalidations for the host
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * How commands become one call, how pages become ranges, and how to recover
 * after the host has refused a command.
 */

#include "qemu/osdep.h"
#include "qemu/bitops.h"
#include "qemu/bswap.h"
#include "qemu/error-report.h"
#include "qemu/timer.h"
#include "qapi/error.h"
#include "trace.h"
#include "hw/arm/smmuv3.h"
#include "smmuv3-accel-batch.h"
#include "smmuv3-internal.h"     /* the architecture's constants */

/* Indexed by TG; the granule's bit in IDR5.GRAN* is TG - 1 */
static const uint8_t granule_shift[] = { 0, 12, 14, 16 };

#define NUM_MAX         32      /* the field NUM holds one less */
#define SCALE_MAX       31      /* without DS */

static unsigned opcode(const SMMUv3HostCmd *cmd)
{
    return le64_to_cpu(cmd->word[0]) & CMD0_OP;
}

static const SMMUv3AccelCmdType *type_of(const SMMUv3HostCmd *cmd)
{
    return smmuv3_accel_cmd_type(opcode(cmd));
}

static bool is_tlbi(const SMMUv3HostCmd *cmd)
{
    return type_of(cmd)->kind == SMMUV3_ACCEL_CMD_TLB;
}

static void drop_tlbi(SMMUv3AccelBatch *batch)
{
    unsigned kept = 0;

    for (unsigned i = 0; i < batch->n; i++) {
        if (!is_tlbi(&batch->cmd[i])) {
            batch->cmd[kept] = batch->cmd[i];
            batch->cons[kept++] = batch->cons[i];
        }
    }
    batch->n = kept;
}

void smmuv3_accel_batch_add(SMMUv3AccelBatch *batch, const SMMUv3HostCmd *cmd,
                            uint32_t cons)
{
    const SMMUv3AccelCmdType *type = type_of(cmd);
    bool tlbi = type->kind == SMMUV3_ACCEL_CMD_TLB;

    if ((batch->all && tlbi) ||
        (batch->n && !memcmp(cmd, &batch->cmd[batch->n - 1], sizeof(*cmd)))) {
        return;
    }
    if (type->all) {
        drop_tlbi(batch);
        batch->all = true;
    } else if (!tlbi) {
        batch->all = false;
    }
    batch->cmd[batch->n] = *cmd;
    batch->cons[batch->n] = cons;
    batch->n++;
}

/* Do two commands differ in their address only? */
static bool alike(const uint64_t a[2], const uint64_t b[2])
{
    return a[0] == b[0] && !((a[1] ^ b[1]) & ~CMD1_ADDR);
}

unsigned smmuv3_accel_batch_add_pages(SMMUv3AccelBatch *batch,
                                      const uint64_t (*cmd)[2], unsigned n,
                                      uint32_t cons, uint32_t mask)
{
    unsigned done;

    if (!batch->n || batch->all ||
        !smmuv3_accel_cmd_type(cmd[0][0] & CMD0_OP)->page) {
        return 0;
    }
    /* Leave the last place free: the command that fills a batch flushes it */
    for (done = 0; done < n && batch->n < SMMUV3_ACCEL_BATCH_MAX - 1 &&
                   alike(cmd[0], cmd[done + 1]); done++) {
        SMMUv3HostCmd *last = &batch->cmd[batch->n - 1];
        uint64_t word1 = le64_to_cpu(last->word[1]);
        uint64_t next = (word1 & ~CMD1_ADDR) | (cmd[done + 1][1] & CMD1_ADDR);

        if (next != word1) {
            last[1] = (SMMUv3HostCmd) { { last->word[0], cpu_to_le64(next) } };
            batch->cons[batch->n++] = (cons + done) & mask;
        }
    }
    return done;
}

/*
 * Returns how many commands from @first on name adjacent pages and are equal
 * otherwise.  The page at 0 follows no other page, because ranges do not wrap.
 */
static unsigned run_length(const SMMUv3AccelBatch *batch, unsigned first)
{
    const SMMUv3HostCmd *cmd = &batch->cmd[first];
    uint64_t word1 = le64_to_cpu(cmd->word[1]);
    uint64_t page;
    unsigned n = 1;

    if (!type_of(cmd)->page || (word1 & CMD1_TG) ||
        first + 1 == batch->n) {
        return 1;
    }
    page = le64_to_cpu(cmd[1].word[1]) - word1;
    while (first + n < batch->n && cmd[n].word[0] == cmd->word[0] &&
           le64_to_cpu(cmd[n].word[1]) == word1 + n * page &&
           word1 + n * page > word1) {
        n++;
    }
    for (unsigned tg = 1; tg < ARRAY_SIZE(granule_shift); tg++) {
        if (page == 1ULL << granule_shift[tg]) {
            return n;
        }
    }
    return 1;
}

/*
 * Returns a range of granule @tg that replaces @cmd and the TLBIs after it, up
 * to address @last.  The range consists of whole, aligned units.  So it does
 * not extend beyond the last address.
 */
static SMMUv3HostCmd range_of(const SMMUv3HostCmd *cmd, uint64_t last,
                              unsigned tg)
{
    uint64_t word0 = le64_to_cpu(cmd->word[0]);
    uint64_t word1 = le64_to_cpu(cmd->word[1]);
    unsigned shift = granule_shift[tg], scale = 0;
    uint64_t first = word1 & CMD1_ADDR;
    uint64_t pages;

    while ((last >> shift) - (first >> shift) >= NUM_MAX && scale < SCALE_MAX) {
        shift++;
        scale++;
    }
    /* NUM, SCALE and TTL are reserved if all are 0: one page becomes two */
    if (!scale && first >> shift == last >> shift) {
        first &= ~(1ULL << shift);
        last |= 1ULL << shift;
    }
    pages = (last >> shift) - (first >> shift) + 1;
    first = first >> shift << shift;
    word0 = deposit64(word0, 12, 5, pages - 1);
    word0 = deposit64(word0, 20, 5, scale);
    word1 = first | deposit64(word1 & CMD1_LEAF, 10, 2, tg);
    return (SMMUv3HostCmd) { { cpu_to_le64(word0), cpu_to_le64(word1) } };
}

void smmuv3_accel_batch_to_ranges(SMMUv3AccelBatch *batch, unsigned granules)
{
    unsigned kept = 0, n;

    if (!granules) {
        return;
    }
    for (unsigned i = 0; i < batch->n; i += n) {
        SMMUv3HostCmd first = batch->cmd[i];
        uint32_t cons = batch->cons[i];
        uint64_t last;

        n = run_length(batch, i);
        if (n <= ctpop32(granules)) {
            n = 1;
            batch->cmd[kept] = first;
            batch->cons[kept++] = cons;
            continue;
        }
        last = le64_to_cpu(batch->cmd[i + n - 1].word[1]) & CMD1_ADDR;
        for (unsigned tg = 1; tg < ARRAY_SIZE(granule_shift); tg++) {
            if (granules & BIT(tg - 1)) {
                batch->cmd[kept] = range_of(&first, last, tg);
                batch->cons[kept++] = cons;
            }
        }
    }
    batch->n = kept;
}

/*
 * From the first command that is not complete on.  Returns 0, or -ECANCELED
 * with the rest to be done, or the host's error.
 */
static int issue(const SMMUv3AccelVsmmu *vsmmu, SMMUv3AccelBatch *batch)
{
    const SMMUv3HostCmd *cmd = &batch->cmd[batch->done];
    unsigned done, n = batch->n - batch->done;
    int ret = smmuv3_accel_vsmmu_invalidate(vsmmu, cmd, n, &done);

    trace_smmuv3_accel_invalidate(vsmmu->name, n, opcode(cmd), ret);
    batch->done += done;
    batch->error = ret == -ECANCELED ? 0 : ret;
    return ret;
}

bool smmuv3_accel_batch_try(SMMUv3AccelVsmmu *vsmmu, SMMUv3AccelBatch *batch)
{
    if (smmuv3_accel_batch_needs_host(vsmmu, batch) &&
        issue(vsmmu, batch)) {
        return false;
    }
    smmuv3_accel_batch_clear(batch);
    return true;
}

/*
 * A job: what may take long
 */

void smmuv3_accel_job_begin(SMMUv3AccelJob *job, SMMUv3AccelVsmmu *vsmmu,
                            SMMUv3AccelBatch *batch, bool thread)
{
    job->vsmmu = *vsmmu;
    job->vsmmu.cancelled = thread ? &job->cancelled : NULL;
    job->cancelled = job->invalidated = false;
    job->result = SMMUV3_ACCEL_FLUSH_OK;
    job->everything = smmuv3_accel_vsmmu_everything(vsmmu, &job->n_everything);
    job->done = 0;
    job->failed = !batch;
    smmuv3_accel_batch_clear(&job->batch);
    if (batch) {
        job->batch = *batch;
        smmuv3_accel_batch_clear(batch);
    }
}

static bool invalidate_everything(SMMUv3AccelJob *job)
{
    unsigned done;

    job->error = smmuv3_accel_vsmmu_invalidate(&job->vsmmu,
                                               job->everything + job->done,
                                               job->n_everything - job->done,
                                               &done);
    job->done += done;
    job->invalidated = job->error != -ECANCELED;
    return job->invalidated;
}

/*
 * May a device have caused the error, by not answering?  A search that goes on
 * may have found it already, so that it is not among those that are left.
 */
static bool has_atc_inv(const SMMUv3AccelBatch *batch)
{
    for (unsigned i = 0; i < batch->n; i++) {
        if (smmuv3_accel_cmd_is_atc_inv(&batch->cmd[i])) {
            return true;
        }
    }
    return false;
}

/*
 * The batch has failed: find out why.  Sets job->failed if everything has to be
 * invalidated.  Returns false if it has stopped.
 */
static bool find_error(SMMUv3AccelJob *job, int64_t start)
{
    SMMUv3AccelBatch *batch = &job->batch;

    if (batch->error != -EIO && !has_atc_inv(batch)) {
        job->failed = true;
        return true;
    }
    for (; batch->done < batch->n; batch->done++) {
        const SMMUv3HostCmd *cmd = &batch->cmd[batch->done];
        unsigned done;
        int ret;

        if (smmuv3_accel_vsmmu_must_stop(&job->vsmmu, start)) {
            return false;
        }
        ret = smmuv3_accel_vsmmu_invalidate(&job->vsmmu, cmd, 1, &done);
        trace_smmuv3_accel_invalidate(job->vsmmu.name, 1, opcode(cmd), ret);
        if (ret == -ECANCELED) {
            return false;
        }
        if (ret == -EIO) {
            /* The guest may repeat the command or, like Linux, skip it */
            job->cons = batch->cons[batch->done];
            job->result |= SMMUV3_ACCEL_FLUSH_ILLEGAL;
        } else if (ret == -ETIMEDOUT && smmuv3_accel_cmd_is_atc_inv(cmd)) {
            /* IHI 0070 3.9.1.4, 4.7.3: the device's fault; continue */
            job->result |= SMMUV3_ACCEL_FLUSH_ATC_TIMEOUT;
            continue;
        }
        if (ret) {
            job->failed = true;
            break;
        }
    }
    return true;
}

bool smmuv3_accel_job_run(SMMUv3AccelJob *job)
{
    int64_t start = get_clock();

    if (!job->failed && !job->batch.error && job->batch.n &&
        issue(&job->vsmmu, &job->batch) == -ECANCELED) {
        return false;
    }
    if (!job->failed && job->batch.error && !find_error(job, start)) {
        return false;
    }
    return !job->failed ||
           (!smmuv3_accel_vsmmu_must_stop(&job->vsmmu, start) &&
            invalidate_everything(job));
}

void smmuv3_accel_vsmmu_report_lost(const SMMUv3AccelVsmmu *vsmmu, int error)
{
    error_report("%s: the host SMMUv3 does not take invalidations (%s): its "
                 "streams abort until the guest configures them again; see the "
                 "host's log", vsmmu->name, strerror(-error));
}

unsigned smmuv3_accel_job_end(SMMUv3AccelJob *job, SMMUv3AccelVsmmu *vsmmu,
                              uint32_t *cons)
{
    bool reported = vsmmu->stale;

    g_clear_pointer(&job->everything, g_free);
    if (job->vsmmu.epoch != vsmmu->epoch) {
        /* The host may have refused a StreamID that has just gone */
        job->result &= ~SMMUV3_ACCEL_FLUSH_ILLEGAL;
        if (job->invalidated && job->error) {
            unsigned result = job->result;

            smmuv3_accel_job_begin(job, vsmmu, NULL, true);
            job->result = result;
            return SMMUV3_ACCEL_FLUSH_AGAIN;
        }
    }
    /* A job does not make up for what was lost after it began */
    if (job->invalidated &&
        (job->error || job->vsmmu.losses == vsmmu->losses)) {
        smmuv3_accel_vsmmu_invalidated(vsmmu, job->error);
        if (job->error && !reported) {
            smmuv3_accel_vsmmu_report_lost(vsmmu, job->error);
        }
    }
    if (job->result & SMMUV3_ACCEL_FLUSH_ILLEGAL) {
        *cons = job->cons;
    } else if (job->invalidated && job->error) {
        job->result = SMMUV3_ACCEL_FLUSH_FAILED;
    }
    return job->result;
}

bool smmuv3_accel_park_next(SMMUv3AccelVsmmu *vsmmu)
{
    SMMUv3AccelDecision park = smmuv3_accel_decide_disabled(true);
    SMMUv3AccelStream *stream;

    QLIST_FOREACH(stream, &vsmmu->streams, next) {
        if (stream->detached) {
            continue;       /* it stands still, and is tried again */
        }
        if ((stream->want.action == SMMUV3_ACCEL_TRANSLATE &&
             !smmuv3_accel_stream_waits(stream)) ||
            (stream->now.action == SMMUV3_ACCEL_TRANSLATE &&
             !smmuv3_accel_decision_equal(&stream->want, &park))) {
            smmuv3_accel_stream_apply(stream, stream->sid, &park, NULL);
            stream->parked = true;
            return true;
        }
    }
    return false;
}

unsigned smmuv3_accel_batch_recover(SMMUv3AccelVsmmu *vsmmu,
                                    SMMUv3AccelBatch *batch, uint32_t *cons)
{
    g_autofree SMMUv3AccelJob *job = g_new(SMMUv3AccelJob, 1);
    unsigned result;
    int64_t start;

    smmuv3_accel_job_begin(job, vsmmu, batch, false);
    if (!smmuv3_accel_job_run(job)) {
        g_free(job->everything);
        *batch = job->batch;
        return (job->result & SMMUV3_ACCEL_FLUSH_ATC_TIMEOUT) |
               SMMUV3_ACCEL_FLUSH_AGAIN;
    }
    result = smmuv3_accel_job_end(job, vsmmu, cons);
    /* No stream may continue to translate */
    start = get_clock();
    while (vsmmu->stale && smmuv3_accel_park_next(vsmmu)) {
        if (smmuv3_accel_vsmmu_must_stop(&job->vsmmu, start)) {
            return result | SMMUV3_ACCEL_FLUSH_AGAIN;
        }
    }
    return result;
}
