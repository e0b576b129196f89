/*
 * A small fuzzer that is guided by coverage, with the interface of libFuzzer
 *
 * QEMU's fuzz targets are written for libFuzzer, which needs clang, and so all
 * of QEMU would have to be built once more. gcc can count as well
 * (-fsanitize-coverage=trace-pc,trace-cmp), so this has main(), the counters
 * and the mutations. It knows that inputs are records of 16 bytes.
 *
 *   qemu-fuzz-aarch64 --fuzz-target=NAME [-max_total_time=S] [-timeout=S]
 *                     [-seed=N] OUT [IN...]      fuzz, into the directory OUT
 *   ... -merge=1 OUT IN...    a part of IN with the same coverage
 *   ... -runs=0 IN...         only play what there is, files or directories
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv, char ***envp);

#define RECORD          16
#define MAX_RECORDS     96
#define MAX_SIZE        (RECORD * MAX_RECORDS)
#define MAP_SIZE        (1u << 16)
#define N_CONSTANTS     1024

typedef struct Input {
    uint8_t *data;
    size_t size;
    unsigned picked;
} Input;

static Input *corpus;
static size_t n_corpus;

static uint8_t map[MAP_SIZE];           /* of this run: how often each edge */
static uint8_t seen[MAP_SIZE];          /* of all: a bit for each order */
static uint64_t constants[N_CONSTANTS]; /* that the code has compared with */
static unsigned n_constants;
static bool counting;

static uint8_t current[MAX_SIZE];       /* for the handler of signals */
static size_t current_size;
static unsigned timeout_s = 60;
static const char *out_dir;

/*
 * What gcc calls
 */

void __sanitizer_cov_trace_pc(void);
void __sanitizer_cov_trace_pc(void)
{
    static __thread uintptr_t before;
    uintptr_t here = (uintptr_t)__builtin_return_address(0) * 0x9e3779b1u >> 8;

    if (counting) {
        uint8_t *count = &map[(here ^ before) % MAP_SIZE];

        *count += *count != UINT8_MAX;
    }
    before = here >> 1;
}

static void constant(uint64_t value)
{
    if (counting && value > 3) {
        constants[n_constants++ % N_CONSTANTS] = value;
    }
}

#define TRACE_CMP(bits, type) \
    void __sanitizer_cov_trace_const_cmp##bits(type a, type b); \
    void __sanitizer_cov_trace_const_cmp##bits(type a, type b) \
    { \
        constant(a); \
    } \
    void __sanitizer_cov_trace_cmp##bits(type a, type b); \
    void __sanitizer_cov_trace_cmp##bits(type a, type b) \
    { \
        constant(b); \
    }
TRACE_CMP(1, uint8_t)
TRACE_CMP(2, uint16_t)
TRACE_CMP(4, uint32_t)
TRACE_CMP(8, uint64_t)

void __sanitizer_cov_trace_cmpf(float a, float b);
void __sanitizer_cov_trace_cmpf(float a, float b) { }
void __sanitizer_cov_trace_cmpd(double a, double b);
void __sanitizer_cov_trace_cmpd(double a, double b) { }

void __sanitizer_cov_trace_switch(uint64_t value, uint64_t *cases);
void __sanitizer_cov_trace_switch(uint64_t value, uint64_t *cases)
{
    for (uint64_t n = 0; n < cases[0]; n++) {
        constant(cases[2 + n]);
    }
}

/*
 * Files
 */

static uint64_t hash(const uint8_t *data, size_t size)
{
    uint64_t h = 0xcbf29ce484222325;

    while (size--) {
        h = (h ^ *data++) * 0x100000001b3;
    }
    return h;
}

static void write_input(const char *dir, const char *kind, const uint8_t *data,
                        size_t size)
{
    char path[4096];
    int fd;

    snprintf(path, sizeof(path), "%s/%s%016llx", dir, kind,
             (unsigned long long)hash(data, size));
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size) {
        fprintf(stderr, "%s cannot be written\n", path);
    }
    close(fd);
    if (*kind) {
        fprintf(stderr, "the input is in %s\n", path);
    }
}

static void on_signal(int number)
{
    signal(SIGABRT, SIG_DFL);
    signal(SIGALRM, SIG_DFL);
    if (number == SIGALRM) {
        fprintf(stderr, "a run takes more than %u s\n", timeout_s);
    }
    write_input(".", number == SIGALRM ? "timeout-" : "crash-", current,
                current_size);
    abort();
}

static void add(const uint8_t *data, size_t size)
{
    corpus = realloc(corpus, (n_corpus + 1) * sizeof(*corpus));
    corpus[n_corpus].data = malloc(size + 1);
    memcpy(corpus[n_corpus].data, data, size);
    corpus[n_corpus].picked = 0;
    corpus[n_corpus++].size = size;
}

static void load(const char *path)
{
    struct dirent **names = NULL;
    struct stat info;
    uint8_t data[MAX_SIZE];
    ssize_t size;
    int fd, n;

    if (stat(path, &info)) {
        fprintf(stderr, "%s is not there\n", path);
        exit(1);
    }
    if (S_ISDIR(info.st_mode)) {
        n = scandir(path, &names, NULL, alphasort);
        for (int i = 0; i < n; i++) {
            char file[4096];

            snprintf(file, sizeof(file), "%s/%s", path, names[i]->d_name);
            if (names[i]->d_name[0] != '.') {
                load(file);
            }
        }
        return;
    }
    fd = open(path, O_RDONLY);
    size = read(fd, data, sizeof(data));
    close(fd);
    if (size >= RECORD) {
        add(data, size - size % RECORD);
    }
}

/*
 * Runs
 */

static unsigned order(uint8_t count)
{
    return count < 4 ? count - 1 : count < 8 ? 3 : count < 16 ? 4 :
           count < 32 ? 5 : count < 128 ? 6 : 7;
}

static void play(const uint8_t *data, size_t size)
{
    memcpy(current, data, size);
    current_size = size;
    memset(map, 0, sizeof(map));
    alarm(timeout_s);
    counting = true;
    LLVMFuzzerTestOneInput(data, size);
    counting = false;
    alarm(0);
}

/* How many features of the last run are new; @keep: they are not any more */
static unsigned news(bool keep)
{
    unsigned n = 0;

    for (unsigned i = 0; i < MAP_SIZE; i++) {
        uint8_t bit = map[i] ? 1u << order(map[i]) : 0;

        if (bit & ~seen[i]) {
            n++;
            if (keep) {
                seen[i] |= bit;
            }
        }
    }
    return n;
}

static unsigned edges(void)
{
    unsigned n = 0;

    for (unsigned i = 0; i < MAP_SIZE; i++) {
        n += seen[i] != 0;
    }
    return n;
}

/*
 * Mutations
 */

static uint64_t state;

static uint64_t random64(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state * 0x2545f4914f6cdd1d;
}

static unsigned below(unsigned n)
{
    return n ? (random64() >> 33) % n : 0;
}

static void randomize(uint8_t *record)
{
    uint64_t words[2] = { random64(), random64() };

    if (below(2)) {
        words[1] = below(3) ? 1ull << below(64) : ~0ull << below(64);
    }
    memcpy(record, words, RECORD);
}

static void change(uint8_t *record)
{
    unsigned at = below(RECORD);
    uint64_t value;

    switch (below(8)) {
    case 0:
        record[at] ^= 1u << below(8);
        break;
    case 1:
        record[at] = random64();
        break;
    case 2:
        record[at] += below(2) ? 1 + below(8) : -1 - below(8);
        break;
    case 3:
        value = n_constants ? constants[below(n_constants < N_CONSTANTS ?
                                              n_constants : N_CONSTANTS)] : 0;
        memcpy(record + 8, &value, 8);
        break;
    case 4:
        value = 1ull << below(64);
        memcpy(record + 8, &value, 8);
        break;
    case 5:
        value = ~0ull << below(64);
        memcpy(record + 8, &value, 8);
        break;
    case 6:
        record[1 + below(5)] = random64();
        break;
    default:
        randomize(record);
    }
}

static size_t insert(uint8_t *data, size_t size, const uint8_t *from, size_t n)
{
    size_t at = below(size / RECORD + 1) * RECORD;

    n = n > MAX_SIZE - size ? MAX_SIZE - size : n;
    memmove(data + at + n, data + at, size - at);
    memcpy(data + at, from, n);
    return size + n;
}

static size_t cut(uint8_t *data, size_t size, unsigned max)
{
    unsigned records = size / RECORD;
    unsigned n = 1 + below(max < records ? max : records), at;

    if (records <= n) {
        return size;
    }
    at = below(records - n + 1);
    memmove(data + at * RECORD, data + (at + n) * RECORD,
            size - (at + n) * RECORD);
    return size - n * RECORD;
}

static size_t mutate(uint8_t *data, size_t size)
{
    const Input *other = &corpus[below(n_corpus)];
    unsigned records = size / RECORD, from, n;
    uint8_t fresh[4 * RECORD];

    switch (below(10)) {
    case 0:
        return cut(data, size, 4);
    case 1:
        n = 1 + below(4);
        for (unsigned i = 0; i < n; i++) {
            randomize(fresh + i * RECORD);
        }
        return insert(data, size, fresh, n * RECORD);
    case 2:
        from = below(other->size / RECORD);
        n = 1 + below(other->size / RECORD - from);
        return insert(data, size, other->data + from * RECORD, n * RECORD);
    case 3:
        memcpy(fresh, data + below(records) * RECORD, RECORD);
        change(fresh);
        return insert(data, size, fresh, RECORD);
    default:
        change(data + below(records) * RECORD);
        return size;
    }
}

static const Input *pick(void)
{
    /* What came last, or was seldom picked, leads further */
    size_t at = below(3) ? below(n_corpus)
                         : n_corpus - 1 - below((n_corpus + 7) / 8);
    size_t again = below(n_corpus);

    if (corpus[again].picked < corpus[at].picked) {
        at = again;
    }
    corpus[at].picked++;
    return &corpus[at];
}

/* Records that the news does not need are left out */
static size_t trim(uint8_t *data, size_t size, unsigned wanted)
{
    unsigned tries = 40;

    for (size_t n = size / RECORD / 2 ?: 1; n && tries; n /= 2) {
        for (size_t at = 0; size > RECORD && (at + n) * RECORD <= size &&
                            tries; ) {
            uint8_t less[MAX_SIZE];
            size_t left = size - n * RECORD;

            if (!left) {
                break;
            }
            memcpy(less, data, at * RECORD);
            memcpy(less + at * RECORD, data + (at + n) * RECORD,
                   size - (at + n) * RECORD);
            tries--;
            play(less, left);
            if (news(false) >= wanted) {
                memcpy(data, less, left);
                size = left;
            } else {
                at += n;
            }
        }
    }
    return size;
}

/*
 * What to do
 */

static double seconds(void)
{
    static struct timespec first;
    struct timespec now;

    /* The test may let the monotonic clock jump */
    clock_gettime(CLOCK_MONOTONIC_RAW, &now);
    if (!first.tv_sec) {
        first = now;
    }
    return now.tv_sec - first.tv_sec + (now.tv_nsec - first.tv_nsec) / 1e9;
}

static void report(const char *what, unsigned long runs)
{
    fprintf(stderr, "%-6s %8.0f s %9lu runs %6.0f/s %6zu inputs %6u edges\n",
            what, seconds(), runs, runs / (seconds() + 0.001), n_corpus,
            edges());
}

static void fuzz(double until)
{
    double told = 0;
    unsigned long runs;
    uint8_t data[MAX_SIZE];
    size_t size;

    for (size_t n = 0; n < n_corpus; n++) {
        play(corpus[n].data, corpus[n].size);
        news(true);
    }
    if (!n_corpus) {
        randomize(data);
        add(data, RECORD);
    }
    report("start", n_corpus);
    for (runs = n_corpus; seconds() < until; runs++) {
        const Input *input = pick();
        unsigned wanted;

        size = input->size;
        memcpy(data, input->data, size);
        for (unsigned n = 1 + below(1u << below(5)); n; n--) {
            size = mutate(data, size);
        }
        play(data, size);
        wanted = news(false);
        if (wanted) {
            size = trim(data, size, wanted);
            play(data, size);
            news(true);
            add(data, size);
            write_input(out_dir, "", data, size);
        }
        if (seconds() > told + 10) {
            told = seconds();
            report("", runs);
        }
    }
    report("end", runs);
}

static int by_size(const void *a, const void *b)
{
    const Input *x = a, *y = b;

    return (x->size < y->size) - (x->size > y->size);
}

/* Large ones first: what is before and after the operations takes the time */
static void merge(void)
{
    unsigned kept = 0;

    qsort(corpus, n_corpus, sizeof(*corpus), by_size);
    for (size_t n = 0; n < n_corpus; n++) {
        play(corpus[n].data, corpus[n].size);
        if (news(true)) {
            write_input(out_dir, "", corpus[n].data, corpus[n].size);
            kept++;
        }
    }
    fprintf(stderr, "%u of %zu inputs, %u edges\n", kept, n_corpus, edges());
}

int main(int argc, char **argv)
{
    double until = 120;
    bool only_play = false, only_merge = false;
    int n = 0;

    LLVMFuzzerInitialize(&argc, &argv, NULL);
    seconds();
    state = time(NULL) ^ (uint64_t)getpid() << 32;
    for (int i = 1; i < argc; i++) {
        if (!strncmp(argv[i], "-max_total_time=", 16)) {
            until = atof(argv[i] + 16);
        } else if (!strncmp(argv[i], "-timeout=", 9)) {
            timeout_s = atoi(argv[i] + 9);
        } else if (!strncmp(argv[i], "-seed=", 6)) {
            state = strtoull(argv[i] + 6, NULL, 0) ?: 1;
        } else if (!strcmp(argv[i], "-runs=0")) {
            only_play = true;
        } else if (!strcmp(argv[i], "-merge=1")) {
            only_merge = true;
        } else if (argv[i][0] != '-') {
            if (!n++ && !only_play) {
                out_dir = argv[i];
            }
            if (!only_merge || n > 1) {
                load(argv[i]);
            }
        }
    }
    if (!n) {
        fprintf(stderr, "no directory or file is named\n");
        return 1;
    }
    signal(SIGABRT, on_signal);
    signal(SIGALRM, on_signal);
    if (only_play) {
        for (size_t i = 0; i < n_corpus; i++) {
            play(corpus[i].data, corpus[i].size);
            news(true);
        }
        report("played", n_corpus);
    } else if (only_merge) {
        merge();
    } else {
        fuzz(until);
    }
    exit(0);
}
