/*
 * Host model: configuration, counters, failure injection, log, control socket
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#define _GNU_SOURCE
#include <glib/gstdio.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "control.h"
#include "model.h"

GPtrArray *hm_devices;
GPtrArray *hm_smmus;

uint64_t hm_advanced_ns;

static bool active;
static FILE *log_file;
static struct timespec log_start;

bool hm_active(void)
{
    return active;
}

void hm_bug(const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    fputs("host model: ", stderr);
    vfprintf(stderr, format, ap);
    fputc('\n', stderr);
    va_end(ap);
    abort();
}

void hm_log(const char *format, ...)
{
    struct timespec now;
    va_list ap;

    if (!log_file) {
        return;
    }
    clock_gettime(CLOCK_MONOTONIC, &now);
    fprintf(log_file, "%12.6f ", now.tv_sec - log_start.tv_sec +
            (now.tv_nsec - log_start.tv_nsec) / 1e9);
    va_start(ap, format);
    vfprintf(log_file, format, ap);
    va_end(ap);
    fputc('\n', log_file);
    fflush(log_file);
}

static void set_log(const char *path)
{
    if (log_file) {
        fclose(log_file);
        log_file = NULL;
    }
    if (path && *path && strcmp(path, "off")) {
        log_file = fopen(path, "ae");
        if (!log_file) {
            hm_bug("log %s: %s", path, strerror(errno));
        }
    }
}

/*
 * Counters
 */

static GHashTable *counters;            /* name -> uint64_t * */

uint64_t *hm_counter(const char *name)
{
    uint64_t *counter;

    if (!counters) {
        counters = g_hash_table_new(g_str_hash, g_str_equal);
    }
    counter = g_hash_table_lookup(counters, name);
    if (!counter) {
        counter = g_new0(uint64_t, 1);
        g_hash_table_insert(counters, g_strdup(name), counter);
    }
    return counter;
}

static void print_counters(GString *json)
{
    g_autoptr(GList) names = g_list_sort(g_hash_table_get_keys(counters),
                                         (GCompareFunc)strcmp);

    g_string_append_c(json, '{');
    for (GList *l = names; l; l = l->next) {
        g_string_append_printf(json, "%s\"%s\": %" G_GUINT64_FORMAT,
                               l == names ? "" : ", ", (char *)l->data,
                               *hm_counter(l->data));
    }
    g_string_append_c(json, '}');
}

static void advance(uint64_t us)
{
    __atomic_fetch_add(&hm_advanced_ns, us * 1000, __ATOMIC_RELAXED);
}

/*
 * Failures: KIND[:FIRST[+COUNT]]=ERRNO, or ~MICROSECONDS in place of =ERRNO, or
 * ~hold, which lasts until the command `release`.  ^MICROSECONDS advances the
 * clock.
 * The KIND `*` matches any.  FIRST counts calls from 1, since the rule was
 * made; the default is 1.  COUNT is 1 by default, and `*` means all later
 * calls.
 */

typedef struct HmRule {
    char *kind;
    uint64_t first, last;               /* calls of the kind, from 1 */
    uint64_t seen;
    int err;
    unsigned delay;                     /* microseconds */
    unsigned jump;                      /* likewise, of the clock alone */
    bool hold;
} HmRule;

static GPtrArray *rules;
static unsigned delay;                  /* how long the current call waits */
static bool hold;                       /* it waits for a release */
static unsigned releases;

static const struct {
    const char *name;
    int err;
} errnos[] = {
#define E(name) { #name, name }
    E(EPERM), E(ENOENT), E(EINTR), E(EIO), E(ENXIO), E(E2BIG), E(EBADF),
    E(EAGAIN), E(ENOMEM), E(EACCES), E(EFAULT), E(EBUSY), E(EEXIST), E(ENODEV),
    E(EINVAL), E(ENFILE), E(EMFILE), E(ENOTTY), E(ENOSPC), E(ERANGE),
    E(ENOSYS), E(EOVERFLOW), E(EOPNOTSUPP), E(EADDRINUSE), E(ETIMEDOUT),
    E(ENOLINK), E(ECANCELED), { "NOTHING", HM_NOTHING },
#undef E
};

static int parse_errno(const char *text)
{
    for (size_t i = 0; i < G_N_ELEMENTS(errnos); i++) {
        if (!strcmp(errnos[i].name, text)) {
            return errnos[i].err;
        }
    }
    return atoi(text);
}

static void free_rule(void *opaque)
{
    HmRule *rule = opaque;

    g_free(rule->kind);
    g_free(rule);
}

static bool add_rule(const char *spec)
{
    g_autofree char *text = g_strdup(spec);
    char *action = text + strcspn(text, "=~^");
    char *first, *count = NULL;
    char what = *action;
    HmRule *rule;

    if (!what) {
        return false;
    }
    *action++ = '\0';
    first = strchr(text, ':');
    if (first) {
        *first++ = '\0';
        count = strchr(first, '+');
        if (count) {
            *count++ = '\0';
        }
    }
    rule = g_new0(HmRule, 1);
    rule->kind = g_strdup(text);
    rule->first = first ? g_ascii_strtoull(first, NULL, 0) : 1;
    if (!count) {
        rule->last = rule->first;
    } else if (!strcmp(count, "*")) {
        rule->last = UINT64_MAX;
    } else {
        rule->last = rule->first + g_ascii_strtoull(count, NULL, 0) - 1;
    }
    if (what == '=') {
        rule->err = parse_errno(action);
    } else if (what == '^') {
        rule->jump = g_ascii_strtoull(action, NULL, 0);
    } else if (!strcmp(action, "hold")) {
        rule->hold = true;
    } else {
        rule->delay = g_ascii_strtoull(action, NULL, 0);
    }
    if (!rule->first ||
        (!rule->err && !rule->delay && !rule->jump && !rule->hold)) {
        free_rule(rule);
        return false;
    }
    g_ptr_array_add(rules, rule);
    return true;
}

/* A rule for an ioctl is one for all that it can be about: IOMMU_X.cmdqv */
static char *base_kind(const char *kind)
{
    const char *dot = strchr(kind, '.');

    return dot && g_str_has_prefix(kind, "IOMMU_") ?
           g_strndup(kind, dot - kind) : g_strdup(kind);
}

int hm_fail(const char *kind)
{
    g_autofree char *base = base_kind(kind);
    g_autofree char *name = g_strconcat("call.", kind, NULL);
    g_autofree char *base_name = g_strconcat("call.", base, NULL);
    int err = 0;

    HM_COUNT("calls");
    (*hm_counter(base_name))++;
    if (strcmp(base, kind)) {
        (*hm_counter(name))++;
    }
    delay = 0;
    hold = false;
    for (guint i = 0; i < rules->len; i++) {
        HmRule *rule = rules->pdata[i];

        if (strcmp(rule->kind, "*") && strcmp(rule->kind, kind) &&
            strcmp(rule->kind, base)) {
            continue;
        }
        rule->seen++;
        if (rule->seen >= rule->first && rule->seen <= rule->last) {
            if (!err) {
                err = rule->err;
            }
            delay += rule->delay;
            advance(rule->jump);
            hold |= rule->hold;
        }
    }
    if (err) {
        HM_COUNT("injected");
        hm_log("%s fails with %s", kind, strerror(err));
    }
    return err;
}

int hm_fail_only(const char *kind)
{
    for (guint i = 0; rules && i < rules->len; i++) {
        HmRule *rule = rules->pdata[i];

        if (!strcmp(rule->kind, kind) &&
            ++rule->seen >= rule->first && rule->seen <= rule->last) {
            g_autofree char *name = g_strconcat("call.", kind, NULL);

            (*hm_counter(name))++;
            return rule->err;
        }
    }
    return 0;
}

int hm_call(const char *kind)
{
    int err = hm_fail(kind);
    bool wait = hold;
    unsigned us = delay, before = releases;

    delay = 0;
    hold = false;
    if (wait) {
        HM_COUNT("held");
        hm_log("%s is held", kind);
    }
    while (us || (wait && releases == before)) {
        hm_unlock();
        g_usleep(us ?: 100);
        us = 0;
        hm_lock();
    }
    return err;
}

/*
 * The machine
 */

HmDevice *hm_device_by_name(const char *name)
{
    for (guint i = 0; hm_devices && i < hm_devices->len; i++) {
        HmDevice *dev = hm_devices->pdata[i];

        if (!strcmp(dev->name, name)) {
            return dev;
        }
    }
    return NULL;
}

HmSmmu *hm_smmu_by_name(const char *name)
{
    for (guint i = 0; hm_smmus && i < hm_smmus->len; i++) {
        if (!strcmp(hm_smmu_config(hm_smmus->pdata[i])->name, name)) {
            return hm_smmus->pdata[i];
        }
    }
    return NULL;
}

static uint32_t key_u32(GKeyFile *file, const char *group, const char *key,
                        uint32_t otherwise)
{
    g_autofree char *text = g_key_file_get_string(file, group, key, NULL);
    char *end;
    guint64 value;

    if (!text) {
        return otherwise;
    }
    value = g_ascii_strtoull(g_strstrip(text), &end, 0);
    if (!*text || *end || value > UINT32_MAX) {
        hm_bug("[%s] %s=%s is not a 32-bit number", group, key, text);
    }
    return value;
}

/* Fields of IDR0 to IDR5 that a configuration may set by name */
static const struct {
    const char *key;
    uint8_t idr, shift, width;
} idr_fields[] = {
    { "httu", 0, 6, 2 }, { "hyp", 0, 9, 1 }, { "ats", 0, 10, 1 },
    { "asid16", 0, 12, 1 }, { "msi", 0, 13, 1 }, { "pri", 0, 16, 1 },
    { "vmid16", 0, 18, 1 }, { "cd2l", 0, 19, 1 }, { "stall_model", 0, 24, 2 },
    { "term_model", 0, 26, 1 }, { "st_level", 0, 27, 2 },
    { "sidsize", 1, 0, 6 }, { "ssidsize", 1, 6, 5 }, { "priqs", 1, 11, 5 },
    { "eventqs", 1, 16, 5 }, { "cmdqs", 1, 21, 5 },
    { "had", 3, 2, 1 }, { "fwb", 3, 8, 1 }, { "stt", 3, 9, 1 },
    { "ril", 3, 10, 1 }, { "bbml", 3, 11, 2 },
    { "oas", 5, 0, 3 }, { "gran4k", 5, 4, 1 }, { "gran16k", 5, 5, 1 },
    { "gran64k", 5, 6, 1 }, { "ds", 5, 7, 1 }, { "vax", 5, 10, 2 },
};

static void load_fields(GKeyFile *file, const char *group, uint32_t *idr)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(idr_fields); i++) {
        unsigned shift = idr_fields[i].shift, n = idr_fields[i].idr;
        uint32_t mask = (1u << idr_fields[i].width) - 1;
        uint32_t value = key_u32(file, group, idr_fields[i].key,
                                 idr[n] >> shift & mask);

        if (value > mask) {
            hm_bug("[%s] %s=%u does not fit", group, idr_fields[i].key, value);
        }
        idr[n] = (idr[n] & ~(mask << shift)) | value << shift;
    }
}

static void load_cmdqv(GKeyFile *file, const char *group, HmSmmuConfig *config)
{
    const struct {
        const char *key;
        uint8_t *value;
        unsigned max;                   /* fields of PARAM; 128 VCMDQs */
    } keys[] = {
        { "cmdqv", &config->cmdqv, 15 },
        { "cmdqv_vintfs", &config->cmdqv_vintfs, 6 },
        { "cmdqv_vcmdqs", &config->cmdqv_vcmdqs, 7 },
        { "cmdqv_sids", &config->cmdqv_sids, 4 },
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(keys); i++) {
        uint32_t value = key_u32(file, group, keys[i].key, *keys[i].value);

        if (value > keys[i].max) {
            hm_bug("[%s] %s=%u is above %u", group, keys[i].key, value,
                   keys[i].max);
        }
        *keys[i].value = value;
    }
}

static void load_smmu(GKeyFile *file, const char *group, const char *name)
{
    HmSmmuConfig config = {};
    g_autofree char *profile = g_key_file_get_string(file, group, "profile",
                                                     NULL);
    HmSmmu *smmu;

    if (!hm_smmu_profile(profile ? g_strstrip(profile) : "grace", &config)) {
        hm_bug("[%s] profile=%s is unknown", group, profile);
    }
    config.name = (char *)name;         /* hm_smmu_new() copies it */
    for (int i = 0; i < 6; i++) {
        char key[] = { 'i', 'd', 'r', '0' + i, 0 };

        config.idr[i] = key_u32(file, group, key, config.idr[i]);
    }
    load_fields(file, group, config.idr);
    config.iidr = key_u32(file, group, "iidr", config.iidr);
    config.aidr = key_u32(file, group, "aidr", config.aidr);
    config.hw_info_flags = key_u32(file, group, "flags", config.hw_info_flags);
    config.unlisted = key_u32(file, group, "unlisted", config.unlisted);
    config.no_hw_info = key_u32(file, group, "no_hw_info", config.no_hw_info);
    config.vtd = key_u32(file, group, "vtd", config.vtd);
    config.coherent = key_u32(file, group, "coherent", config.coherent);
    config.canwbs = key_u32(file, group, "canwbs", config.canwbs);
    config.repeat = key_u32(file, group, "repeat", config.repeat);
    config.httu_update = key_u32(file, group, "httu_update",
                                 config.httu_update);
    load_cmdqv(file, group, &config);
    smmu = hm_smmu_new(&config);
    g_ptr_array_add(hm_smmus, smmu);
    hm_driver_probe(smmu);
}

/* Call @open for each number in "fds" of @group */
static void load_fds(GKeyFile *file, const char *group,
                     int (*open_fd)(HmDevice *dev, int want), HmDevice *dev)
{
    gsize n = 0;
    g_autofree int *fds = g_key_file_get_integer_list(file, group, "fds", &n,
                                                      NULL);

    for (gsize i = 0; i < n; i++) {
        int fd = open_fd(dev, fds[i]);

        if (fd < 0) {
            hm_bug("[%s] fd %d: %s", group, fds[i], strerror(-fd));
        }
    }
}

static int open_iommufd(HmDevice *unused, int want)
{
    return hm_fd_new_ctx(want);
}

static void load_device(GKeyFile *file, const char *group, const char *name)
{
    g_autofree char *error = NULL;
    HmDevice *dev = hm_device_new(name, file, &error);

    if (!dev) {
        hm_bug("[%s] %s", group, error);
    }
    if (!hm_device_by_name(name)) {
        g_ptr_array_add(hm_devices, dev);
    }
    load_fds(file, group, hm_fd_new_device, dev);
}

static void load(const char *path)
{
    g_autoptr(GKeyFile) file = g_key_file_new();
    g_autoptr(GError) error = NULL;
    g_auto(GStrv) groups = NULL;

    if (!g_key_file_load_from_file(file, path, G_KEY_FILE_NONE, &error)) {
        hm_bug("%s: %s", path, error->message);
    }
    groups = g_key_file_get_groups(file, NULL);
    for (char **group = groups; *group; group++) {
        if (g_str_has_prefix(*group, "smmu ")) {
            load_smmu(file, *group, *group + strlen("smmu "));
        }
    }
    for (char **group = groups; *group; group++) {
        if (g_str_has_prefix(*group, "device ")) {
            load_device(file, *group, *group + strlen("device "));
        } else if (!strcmp(*group, "iommufd")) {
            load_fds(file, *group, open_iommufd, NULL);
        } else if (!g_str_has_prefix(*group, "smmu ")) {
            hm_bug("%s: [%s] is neither an smmu nor a device", path, *group);
        }
    }
}

/*
 * The control socket: each command and each answer is one line
 */

static void answer_state(GString *json, HmDevice *dev)
{
    const uint64_t *ste = hm_smmu_ste(dev->smmu, dev->sid);

    g_string_append(json, "{\"ste\": [");
    for (int i = 0; i < 8; i++) {
        g_string_append_printf(json, "%s\"0x%" G_GINT64_MODIFIER "x\"",
                               i ? ", " : "", ste[i]);
    }
    g_string_append_printf(json, "], \"bound\": %s, \"fds\": %u}",
                           dev->ctx ? "true" : "false", dev->open_count);
}

/*
 * A thread of its own raises these events while the program runs.  Word 2 grows
 * by one with each event, so that the receiver can see which are missing.
 */
#define STORM_BURST 64

typedef struct HmStorm {
    HmDevice *dev;
    uint64_t event[4];
    uint64_t n;
} HmStorm;

static void *storm(void *opaque)
{
    g_autofree HmStorm *s = opaque;

    while (s->n) {
        hm_lock();
        for (unsigned i = 0; i < STORM_BURST && s->n; i++, s->n--) {
            hm_driver_raise_event(s->dev, s->event);
            s->event[2]++;
            HM_COUNT("storm.raised");
        }
        hm_unlock();
        /* Without a pause nobody else would get the lock. */
        g_usleep(1);
    }
    return NULL;
}

static int start_storm(HmDevice *dev, const uint64_t event[4], uint64_t n)
{
    HmStorm *s = g_new0(HmStorm, 1);
    int ret;

    s->dev = dev;
    s->n = n;
    memcpy(s->event, event, sizeof(s->event));
    ret = hm_thread_create(storm, s);
    if (ret) {
        g_free(s);
        return -ret;
    }
    return 0;
}

/* A thread of its own lets the host reset the device, again and again */
typedef struct HmResets {
    HmDevice *dev;
    uint64_t n;
} HmResets;

static void *resets(void *opaque)
{
    g_autofree HmResets *r = opaque;

    for (uint64_t i = 0; i < 2 * r->n; i++) {
        hm_lock();
        hm_device_reset(r->dev, !(i & 1));
        hm_unlock();
        g_usleep(g_random_int_range(1, 1000));
    }
    hm_lock();
    --*hm_counter("resets.running");
    hm_unlock();
    return NULL;
}

static int start_resets(HmDevice *dev, uint64_t n)
{
    HmResets *r = g_new0(HmResets, 1);
    int ret;

    r->dev = dev;
    r->n = n;
    HM_COUNT("resets.running");
    ret = hm_thread_create(resets, r);
    if (ret) {
        hm_bug("no thread: %s", strerror(ret));
    }
    return 0;
}

static int raise_events(HmDevice *dev, const uint64_t event[4], uint64_t n)
{
    int ret = 0;

    while (n-- && !ret) {
        ret = hm_driver_raise_event(dev, event);
    }
    return ret;
}

static HmDevice *device_argument(char **words)
{
    return words[0] && words[1] ? hm_device_by_name(words[1]) : NULL;
}

/* Answer the words of a command.  The lock is held. */
static void answer(GString *json, char **words)
{
    const char *verb = words[0] ? words[0] : "";
    const char *argument = words[0] ? words[1] : NULL;
    HmDevice *dev = device_argument(words);

    if (!strcmp(verb, "counters")) {
        print_counters(json);
    } else if (!strcmp(verb, "zero")) {
        GHashTableIter iter;
        void *value;

        g_hash_table_iter_init(&iter, counters);
        while (g_hash_table_iter_next(&iter, NULL, &value)) {
            *(uint64_t *)value = 0;
        }
        g_string_append(json, "{}");
    } else if (!strcmp(verb, "objects")) {
        hm_iommufd_objects(json);
    } else if (!strcmp(verb, "fail") && argument) {
        if (!strcmp(argument, "clear")) {
            g_ptr_array_set_size(rules, 0);
        } else if (!add_rule(argument)) {
            g_string_append(json, "{\"error\": \"no such rule\"}");
            return;
        }
        g_string_append(json, "{}");
    } else if (!strcmp(verb, "advance") && argument) {
        advance(g_ascii_strtoull(argument, NULL, 0));
        g_string_append(json, "{}");
    } else if (!strcmp(verb, "vcmdqs") && argument) {
        hm_vcmdqs_held = !strcmp(argument, "hold");
        hm_vcmdqs_forget = !strcmp(argument, "forget");
        g_string_append(json, "{}");
    } else if (!strcmp(verb, "contiguous") && argument) {
        hm_contiguous = g_ascii_strtoull(argument, NULL, 0);
        g_string_append(json, "{}");
    } else if (!strcmp(verb, "release")) {
        releases++;
        g_string_append(json, "{}");
    } else if (!strcmp(verb, "log")) {
        set_log(argument);
        g_string_append(json, "{}");
    } else if (!strcmp(verb, "state") && dev) {
        answer_state(json, dev);
    } else if (!strcmp(verb, "open") && dev) {
        g_string_append_printf(json, "{\"fd\": %d}",
                               hm_fd_new_device(dev, -1));
    } else if (!strcmp(verb, "watch") && dev && words[2]) {
        hm_driver_watch(dev, g_ascii_strtoull(words[2], NULL, 0));
        g_string_append(json, "{}");
    } else if ((!strcmp(verb, "dma") || !strcmp(verb, "atc")) && dev &&
               hm_dma_control(dev, words, json)) {
        return;
    } else if (!strcmp(verb, "request") && dev) {
        g_string_append_printf(json, "{\"ret\": %d}", hm_device_request(dev));
    } else if (!strcmp(verb, "reset") && dev && words[2]) {
        g_string_append_printf(json, "{\"ret\": %d}", hm_device_reset(
                                   dev, !strcmp(words[2], "begin")));
    } else if (!strcmp(verb, "resets") && dev && words[2]) {
        g_string_append_printf(json, "{\"ret\": %d}", start_resets(
                                   dev, g_ascii_strtoull(words[2], NULL, 0)));
    } else if (!strcmp(verb, "msix") && dev && words[2]) {
        hm_device_msix(dev, atoi(words[2]));
        g_string_append(json, "{}");
    } else if ((!strcmp(verb, "event") || !strcmp(verb, "storm")) && dev &&
               g_strv_length(words) >= 6) {
        uint64_t event[4], n = words[6] ? g_ascii_strtoull(words[6], NULL, 0)
                                        : 1;

        for (int i = 0; i < 4; i++) {
            event[i] = g_ascii_strtoull(words[2 + i], NULL, 0);
        }
        g_string_append_printf(json, "{\"ret\": %d}",
                               (*verb == 's' ? start_storm : raise_events)(
                                   dev, event, n));
    } else {
        g_string_append(json, "{\"error\": \"no such command or device\"}");
    }
}

/*
 * A line of the peer, or false at the end.  A FILE would stay locked while it
 * waits, and exit() waits for that lock since glibc 2.41.
 */
static bool read_line(int fd, char *line, size_t size)
{
    for (size_t n = 0; n < size && recv(fd, line + n, 1, 0) == 1; n++) {
        if (line[n] == '\n') {
            line[n] = '\0';
            return true;
        }
    }
    return false;
}

static void *serve(void *opaque)
{
    int listener = GPOINTER_TO_INT(opaque);

    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        char line[1024];

        while (fd >= 0 && read_line(fd, line, sizeof(line))) {
            g_auto(GStrv) words = g_strsplit(g_strstrip(line), " ", -1);
            g_autoptr(GString) json = g_string_new(NULL);

            hm_lock();
            answer(json, words);
            hm_unlock();
            g_string_append_c(json, '\n');
            if (send(fd, json->str, json->len, MSG_NOSIGNAL) < 0) {
                break;
            }
        }
        if (fd >= 0) {
            close(fd);
        }
    }
    return NULL;
}

static void start_server(const char *path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sigset_t all, old;

    g_unlink(path);
    g_strlcpy(address.sun_path, path, sizeof(address.sun_path));
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) ||
        listen(fd, 4)) {
        hm_bug("%s: %s", path, strerror(errno));
    }
    /* Signals are for the program's own threads. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    if (hm_thread_create(serve, GINT_TO_POINTER(fd))) {
        hm_bug("no thread for %s", path);
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
}

/* Write HOST_MODEL_COUNTERS when the program exits by itself. */
static void write_counters(void)
{
    g_autoptr(GString) json = g_string_new("{\"counters\": ");
    const char *path = g_getenv("HOST_MODEL_COUNTERS");

    hm_lock();
    print_counters(json);
    g_string_append(json, ", \"objects\": ");
    hm_iommufd_objects(json);
    g_string_append(json, "}\n");
    hm_unlock();
    if (!g_file_set_contents(path, json->str, json->len, NULL)) {
        fprintf(stderr, "host model: %s cannot be written\n", path);
    }
}

/*
 * HOST_MODEL_PROGRAM names the program that the model is for, because shells
 * and helpers inherit LD_PRELOAD as well.
 */
static bool is_meant(void)
{
    const char *program = g_getenv("HOST_MODEL_PROGRAM");

    return g_getenv("HOST_MODEL_CONFIG") &&
           (!program ||
            g_str_has_prefix(program_invocation_short_name, program));
}

__attribute__((constructor)) static void start(void)
{
    const char *control = g_getenv("HOST_MODEL_CONTROL");
    const char *fail = g_getenv("HOST_MODEL_FAIL");

    if (!is_meant()) {
        return;
    }
    clock_gettime(CLOCK_MONOTONIC, &log_start);
    hm_lock();
    active = true;
    rules = g_ptr_array_new_with_free_func(free_rule);
    hm_devices = g_ptr_array_new();
    hm_smmus = g_ptr_array_new();
    hm_counter("calls");
    hm_counter("smmu.stale");
    set_log(g_getenv("HOST_MODEL_LOG"));
    if (fail) {
        g_auto(GStrv) specs = g_strsplit(fail, ",", -1);

        for (char **spec = specs; *spec; spec++) {
            if (**spec && !add_rule(*spec)) {
                hm_bug("HOST_MODEL_FAIL: %s is not a rule", *spec);
            }
        }
    }
    load(g_getenv("HOST_MODEL_CONFIG"));
    hm_unlock();
    if (g_getenv("HOST_MODEL_COUNTERS")) {
        atexit(write_counters);
    }
    if (control) {
        start_server(control);
    }
}
