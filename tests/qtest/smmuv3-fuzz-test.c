/*
 * QTest of accel=on: the inputs that the fuzzer has found
 *
 * Each file of SMMUV3_FUZZ_CORPUS, a directory, is played to a QEMU on the host
 * model: see smmuv3-fuzz.h. SMMUV3_FUZZ_INPUT plays one file, with what QEMU
 * and the test do in the log.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "smmuv3-fuzz.h"

/* One QEMU for all, because each input leaves it as it was */
static Fuzz *fuzz;

static void play(const void *path)
{
    g_autofree char *data = NULL;
    size_t size;

    g_assert_true(g_file_get_contents(path, &data, &size, NULL));
    hostile_run(fuzz, (uint8_t *)data, size);
}

static void add(const char *path)
{
    g_autofree char *base = g_path_get_basename(path);
    g_autofree char *name = g_strdup_printf("/smmuv3-fuzz/%s", base);

    qtest_add_data_func_full(name, g_strdup(path), play, g_free);
}

static void test_skipped(void)
{
    g_test_skip("QTEST_HOST_MODEL or SMMUV3_FUZZ_CORPUS is not set");
}

static int compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void add_all(const char *directory)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    GDir *dir = g_dir_open(directory, 0, NULL);
    const char *name;

    g_assert(dir);
    while ((name = g_dir_read_name(dir))) {
        g_ptr_array_add(names, g_build_filename(directory, name, NULL));
    }
    g_dir_close(dir);
    g_ptr_array_sort(names, compare);
    for (unsigned n = 0; n < names->len; n++) {
        add(names->pdata[n]);
    }
}

/* An input may let the host fail; what the guest does is not to be heard */
static const char *const host_fails[] = {
    SAID_CANNOT_MOVE, SAID_TAKES_NONE, SAID_NO_EVENTS, SAID_NO_THREAD,
    SAID_SHORT_QUEUES, "QEMU carries out the commands of VCMDQs",
    "VFIO_DEVICE_SET_IRQS failure", "a vEVENTQ cannot be freed: ",
    "Failed to free id: ", "vfio_container_dma_unmap(", "VFIO_FD",
};

int main(int argc, char **argv)
{
    const char *corpus = getenv("SMMUV3_FUZZ_CORPUS");
    const char *input = getenv("SMMUV3_FUZZ_INPUT");
    HostGuestConfig config = smmuv3_fuzz_config();
    int ret;

    g_test_init(&argc, &argv, NULL);
    if (!host_model_available() || (!corpus && !input)) {
        qtest_add_func("/smmuv3-fuzz/skipped", test_skipped);
        return g_test_run();
    }
    if (input) {
        add(input);
    } else {
        add_all(corpus);
    }
    fuzz = hostile_new(host_guest_new(&config));
    for (int i = 0; i < ARRAY_SIZE(host_fails); i++) {
        host_allow(fuzz->g, host_fails[i]);
    }
    ret = g_test_run();
    host_guest_free(fuzz->g);
    hostile_free(fuzz);
    return ret;
}
