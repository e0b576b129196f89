/*
 * QEMU with a hostile guest in it, and with the interface of libFuzzer
 *
 * It takes the place of QEMU's main(). The guest (tests/qtest/smmuv3-fuzz.h)
 * runs in the main loop's thread, and its accesses are calls, as those of
 * QEMU's own fuzz targets. QEMU is started as the base does it in
 * tests/qtest/fuzz/fuzz.c. The first run of the program sets the host model up
 * and executes itself again, with the library preloaded. QTEST_HOST_MODEL names
 * the library.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <wordexp.h>
#include "qemu/cutils.h"
#include "qemu/main-loop.h"
#include "qemu/module.h"
#include "qemu/rcu.h"
#include "exec/memory.h"
#include "qapi/qmp-registry.h"
#include "system/qtest.h"
#include "system/runstate.h"
#include "system/system.h"
#include "tests/qtest/smmuv3-fuzz.h"

#define DIR_VARIABLE "SMMUV3_FUZZ_DIR"
#define MAX_EVENT_LOOPS 10

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv, char ***envp);
void fuzz_qtest_set_serialize(bool option);

extern QmpCommandList qmp_commands;

/* As in system/main.c */
int (*qemu_main)(void);

static HostGuest *guest;
static Fuzz *fuzz;

static QDict *call_qmp(HostGuest *g, QDict *request)
{
    QDict *answer = qmp_dispatch(&qmp_commands, QOBJECT(request), false, NULL);

    qobject_unref(request);
    return answer;
}

static void run_main_loop(HostGuest *g, bool wait)
{
    for (int n = 0; n < MAX_EVENT_LOOPS && g_main_context_pending(NULL); n++) {
        main_loop_wait(true);
    }
    main_loop_wait(true);
    if (wait) {
        bql_unlock();
        g_usleep(10);
        bql_lock();
    }
}

static void hold(HostGuest *g, bool on)
{
    if (on) {
        memory_region_transaction_begin();
    } else {
        memory_region_transaction_commit();
    }
}

static void reset(HostGuest *g)
{
    qemu_system_reset(SHUTDOWN_CAUSE_GUEST_RESET);
}

static const HostHooks hooks = {
    .qmp = call_qmp,
    .reset = reset,
    .pause = run_main_loop,
    .hold = hold,
};

/* With the model preloaded from the start */
static void start_again(char **argv)
{
    execv("/proc/self/exe", argv);
    perror("/proc/self/exe");
    exit(1);
}

/* GLib would end in a SIGTRAP, for which the engine keeps no input */
static void die(const char *domain, GLogLevelFlags level, const char *message,
                void *opaque)
{
    fprintf(stderr, "%s\n", message);
    if (level & (G_LOG_FLAG_FATAL | G_LOG_LEVEL_ERROR)) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    hostile_run(fuzz, data, size);
    return 0;
}

static void start_qemu(const char *args)
{
    static QTestState *qts;
    g_autofree char *line =
        g_strconcat("qemu-system-aarch64 -display none -audio none ", args,
                    " -accel qtest -qtest-log none -qtest /dev/null", NULL);
    wordexp_t words;

    fuzz_qtest_set_serialize(false);
    qtest_server_set_send_handler(&qtest_client_inproc_recv, &qts);
    qtest_inproc_init(&qts, false, "aarch64", &qtest_server_inproc_recv);
    g_assert(!wordexp(line, &words, WRDE_NOCMD));
    qemu_init(words.we_wordc, words.we_wordv);
    rcu_enable_atfork();
    signal(SIGINT, SIG_DFL);
    signal(SIGHUP, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    host_guest_join(guest, qts, &hooks);
    fuzz = hostile_new(guest);
}

int LLVMFuzzerInitialize(int *argc, char ***argv, char ***envp)
{
    HostGuestConfig config = smmuv3_fuzz_config();
    const char *dir = getenv(DIR_VARIABLE);
    g_autofree char *made = NULL, *args = NULL;

    if (!host_model_available()) {
        fprintf(stderr, "QTEST_HOST_MODEL does not name the host model\n");
        exit(1);
    }
    if (!dir) {
        made = g_dir_make_tmp("smmuv3-fuzz-XXXXXX", NULL);
        g_setenv(DIR_VARIABLE, made, true);
        guest = host_guest_prepare(&config, made, "qemu-fuzz", &args);
        start_again(*argv);
    }
    g_log_set_default_handler(die, NULL);
    module_call_init(MODULE_INIT_QOM);
    qemu_init_exec_dir(**argv);
    guest = host_guest_prepare(&config, dir, "qemu-fuzz", &args);
    start_qemu(args);
    return 0;
}
