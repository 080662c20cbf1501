/* SPDX-License-Identifier: Apache-2.0 */
/* The client of bench/run --echo, a process of its own and the same for all servers: so many
 * connections, each of which sends a message, awaits all of it and sends the next.
 *
 *     echo_client PORT CONNECTIONS BYTES WARM_MS RUN_MS
 *
 * prints how many came back in the time, the nanoseconds that it was in fact, and how many came
 * back in all. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

typedef struct connection {
    int fd;
    size_t sent, received;
    int waits_to_send;
} connection;

static char *message, *buffer;
static size_t bytes;
static int poller;
static uint64_t done;

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void watch(connection *c, int op, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = c};
    if (epoll_ctl(poller, op, c->fd, &event) < 0)
        fail("epoll_ctl");
}

static void send_more(connection *c)
{
    while (c->sent < bytes) {
        ssize_t n = send(c->fd, message + c->sent, bytes - c->sent, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN)
            break;
        if (n < 0)
            fail("send");
        c->sent += (size_t)n;
    }
    int waits = c->sent < bytes;
    if (waits != c->waits_to_send)
        watch(c, EPOLL_CTL_MOD, waits ? EPOLLIN | EPOLLOUT : EPOLLIN);
    c->waits_to_send = waits;
}

static void receive_more(connection *c)
{
    ssize_t n = recv(c->fd, buffer, bytes - c->received, MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0)
        fail("recv");
    if (memcmp(buffer, message + c->received, (size_t)n) != 0) {
        fprintf(stderr, "it is not what was sent\n");
        exit(1);
    }
    c->received += (size_t)n;
    if (c->received == bytes) {
        done++;
        c->received = c->sent = 0;
        send_more(c);
    }
}

static void run(uint64_t end)
{
    struct epoll_event events[256];
    while (now_ns() < end) {
        int n = epoll_wait(poller, events, 256, 100);
        if (n < 0 && errno != EINTR)
            fail("epoll_wait");
        for (int i = 0; i < n; i++) {
            if (events[i].events & EPOLLOUT)
                send_more(events[i].data.ptr);
            if (events[i].events & ~(uint32_t)EPOLLOUT)
                receive_more(events[i].data.ptr);
        }
    }
}

static void connect_to(connection *c, int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int on = 1;
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&address, sizeof address) < 0)
        fail("connect");
    if (setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) < 0)
        fail("setsockopt");
    watch(c, EPOLL_CTL_ADD, EPOLLIN);
}

int main(int argc, char **argv)
{
    if (argc != 6)
        return 2;
    int count = atoi(argv[2]);
    bytes = (size_t)atol(argv[3]);
    connection *connections = calloc((size_t)count, sizeof *connections);
    message = malloc(bytes);
    buffer = malloc(bytes);
    poller = epoll_create1(0);
    if (!connections || !message || !buffer || poller < 0)
        fail("echo_client");
    for (size_t i = 0; i < bytes; i++)
        message[i] = (char)(i * 2654435761u >> 24);
    for (int i = 0; i < count; i++)
        connect_to(&connections[i], atoi(argv[1]));
    for (int i = 0; i < count; i++)
        send_more(&connections[i]);
    run(now_ns() + (uint64_t)atol(argv[4]) * 1000000);
    uint64_t before = done, begin = now_ns();
    run(begin + (uint64_t)atol(argv[5]) * 1000000);
    printf("%llu %llu %llu\n", (unsigned long long)(done - before), (unsigned long long)(now_ns() - begin),
           (unsigned long long)done);
    return 0;
}
