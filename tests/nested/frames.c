/*
 * Ethernet frames with contents that are checked, by packet sockets.
 *
 *   frames swap INTERFACE INTERFACE COUNT
 *   frames echo INTERFACE COUNT
 *
 * "swap" sends COUNT frames from each of two interfaces to the other one, and
 * compares each frame that arrives with what was sent.  "echo" returns COUNT
 * frames to those who sent them, with the complement of their contents; it
 * prints "ready" first.  Both end with a line of what they counted, and with
 * status 1 if a frame is missing for PATIENCE, or has other contents.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#define ETHERTYPE   0x88b5      /* local experiments, IEEE 802 */
#define LONGEST     1514
#define SHORTEST    60
#define WINDOW      16          /* frames that are on their way */
#define PATIENCE    10000       /* ms */

typedef struct {
    const char *name;
    int fd;
    uint8_t address[ETH_ALEN];
    unsigned sent, received, wrong;
    /* what this interface is to receive, in order */
    uint8_t frame[WINDOW][LONGEST];
    size_t length[WINDOW];
} Interface;

static void die(const char *what)
{
    printf("frames: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void open_interface(Interface *i, const char *name)
{
    struct sockaddr_ll to = {
        .sll_family = AF_PACKET, .sll_protocol = htons(ETHERTYPE),
        .sll_ifindex = if_nametoindex(name),
    };
    struct ifreq request = { 0 };

    i->name = name;
    i->fd = socket(AF_PACKET, SOCK_RAW, htons(ETHERTYPE));
    strncpy(request.ifr_name, name, IFNAMSIZ - 1);
    if (i->fd < 0 || ioctl(i->fd, SIOCGIFHWADDR, &request) ||
        bind(i->fd, (struct sockaddr *)&to, sizeof(to))) {
        die(name);
    }
    memcpy(i->address, request.ifr_hwaddr.sa_data, ETH_ALEN);
}

/* A frame that has arrived, not one that this host sends; 0: there is none */
static size_t receive(Interface *i, uint8_t *frame)
{
    struct sockaddr_ll from;
    socklen_t size = sizeof(from);
    ssize_t n = recvfrom(i->fd, frame, LONGEST, MSG_DONTWAIT,
                         (struct sockaddr *)&from, &size);

    if (n < 0 && errno != EAGAIN) {
        die(i->name);
    }
    return n > 0 && from.sll_pkttype != PACKET_OUTGOING ? n : 0;
}

static void transmit(Interface *i, const uint8_t *frame, size_t length)
{
    while (send(i->fd, frame, length, 0) < 0) {
        if (errno != ENOBUFS) {
            die(i->name);
        }
        usleep(1000);
    }
    i->sent++;
}

static void send_random(Interface *from, Interface *to)
{
    unsigned n = from->sent % WINDOW;
    struct ether_header *header = (struct ether_header *)to->frame[n];
    uint16_t size;

    if (getrandom(&size, sizeof(size), 0) < 0 ||
        getrandom(to->frame[n], LONGEST, 0) < 0) {
        die("getrandom");
    }
    to->length[n] = SHORTEST + size % (LONGEST - SHORTEST + 1);
    memcpy(header->ether_dhost, to->address, ETH_ALEN);
    memcpy(header->ether_shost, from->address, ETH_ALEN);
    header->ether_type = htons(ETHERTYPE);
    transmit(from, to->frame[n], to->length[n]);
}

static void check(Interface *i, const uint8_t *frame, size_t length)
{
    unsigned n = i->received++ % WINDOW;

    i->wrong += length != i->length[n] || memcmp(frame, i->frame[n], length);
}

static int swap(Interface *i, unsigned count)
{
    struct pollfd polled[2] = {
        { .fd = i[0].fd, .events = POLLIN }, { .fd = i[1].fd, .events = POLLIN },
    };
    uint8_t frame[LONGEST];
    size_t length;

    while (i[0].received < count || i[1].received < count) {
        for (int n = 0; n < 2; n++) {
            while (i[n].sent < count && i[n].sent < i[!n].received + WINDOW) {
                send_random(&i[n], &i[!n]);
            }
        }
        if (poll(polled, 2, PATIENCE) <= 0) {
            break;
        }
        for (int n = 0; n < 2; n++) {
            while ((length = receive(&i[n], frame))) {
                check(&i[n], frame, length);
            }
        }
    }
    for (int n = 0; n < 2; n++) {
        printf("%s: %u sent, %u received, %u wrong\n", i[n].name, i[n].sent,
               i[n].received, i[n].wrong);
    }
    return i[0].received != count || i[1].received != count ||
           i[0].wrong || i[1].wrong;
}

static int echo(Interface *i, unsigned count)
{
    struct pollfd polled = { .fd = i->fd, .events = POLLIN };
    struct ether_header *header;
    uint8_t frame[LONGEST];
    size_t length;

    printf("ready\n");
    fflush(stdout);
    while (i->received < count && poll(&polled, 1, PATIENCE) > 0) {
        while ((length = receive(i, frame))) {
            i->received++;
            for (size_t n = sizeof(*header); n < length; n++) {
                frame[n] = ~frame[n];
            }
            header = (struct ether_header *)frame;
            memcpy(header->ether_dhost, header->ether_shost, ETH_ALEN);
            memcpy(header->ether_shost, i->address, ETH_ALEN);
            transmit(i, frame, length);
        }
    }
    printf("%s: %u sent, %u received\n", i->name, i->sent, i->received);
    return i->received != count;
}

int main(int argc, char **argv)
{
    static Interface i[2];

    if (argc == 5 && !strcmp(argv[1], "swap")) {
        open_interface(&i[0], argv[2]);
        open_interface(&i[1], argv[3]);
        return swap(i, atoi(argv[4]));
    }
    if (argc == 4 && !strcmp(argv[1], "echo")) {
        open_interface(&i[0], argv[2]);
        return echo(&i[0], atoi(argv[3]));
    }
    printf("frames swap INTERFACE INTERFACE COUNT | echo INTERFACE COUNT\n");
    return 1;
}
