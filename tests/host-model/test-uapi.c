/*
 * What the test programs for the host model share
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include "test-uapi.h"

static unsigned points, failures;

void point(bool good, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    printf("%sok %u - ", good ? "" : "not ", ++points);
    vprintf(format, args);
    putchar('\n');
    va_end(args);
    failures += !good;
}

void need(long result, const char *what)
{
    if (result < 0) {
        printf("Bail out! %s: %s\n", what, strerror(-result));
        exit(1);
    }
}

int points_end(void)
{
    printf("1..%u\n", points);
    return failures != 0;
}

/*
 * The control socket
 */

static FILE *control_file;

const char *control(const char *format, ...)
{
    static char line[16384];
    va_list args;

    va_start(args, format);
    vfprintf(control_file, format, args);
    va_end(args);
    fputc('\n', control_file);
    fflush(control_file);
    if (!fgets(line, sizeof(line), control_file)) {
        need(-EPIPE, "the control socket");
    }
    return line;
}

void control_open(const char *path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    need(connect(fd, (struct sockaddr *)&address, sizeof(address)) ? -errno : 0,
         path);
    control_file = fdopen(fd, "r+");
}

/* A number behind "key": in an answer; -1 if it is not there */
int64_t value_of(const char *json, const char *key)
{
    char text[64];
    const char *at;

    snprintf(text, sizeof(text), "\"%s\": ", key);
    at = strstr(json, text);
    if (!at) {
        return -1;
    }
    at += strlen(text);
    return strtoll(at + (*at == '"'), NULL, 0);
}

uint64_t counter(const char *name)
{
    int64_t n = value_of(control("counters"), name);

    return n < 0 ? 0 : n;
}

long call(int fd, unsigned long request, void *arg)
{
    int ret = ioctl(fd, request, arg);

    return ret < 0 ? -errno : ret;
}
