/* An open loop: pace PORT PATH RATE SECONDS CONNECTIONS. Requests leave by the clock, whatever the server does; latency
 * counts from the moment when a request was due, so that a server that stalls is not asked less. Prints percentiles. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { CONNECTIONS_MAX = 64, QUEUE = 4096 };

/* Requests on one connection are answered in order: when each was due. */
struct conn {
    int fd;
    long due[QUEUE], head, tail, left, matched;
};

static struct conn conns[CONNECTIONS_MAX];
static long body;

static long now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000L + now.tv_nsec;
}

static int by_size(const void *a, const void *b) {
    long x = *(const long *)a, y = *(const long *)b;
    return (x > y) - (x < y);
}

static void fail(const char *why) {
    fprintf(stderr, "pace: %s\n", why);
    exit(1);
}

/* Counts the replies that end in these bytes: heads up to the blank line, then `body` bytes. */
static long replies(struct conn *conn, const char *bytes, long len) {
    long count = 0;
    for (long i = 0; i < len;) {
        if (conn->left > 0) {
            long step = conn->left < len - i ? conn->left : len - i;
            conn->left -= step;
            i += step;
            count += conn->left == 0;
            continue;
        }
        conn->matched = bytes[i] == "\r\n\r\n"[conn->matched] ? conn->matched + 1 : bytes[i] == '\r';
        i++;
        if (conn->matched == 4) conn->matched = 0, conn->left = body;
    }
    return count;
}

/* The median of the p99 of stretches of 50 ms. A host that takes the CPU away for 5 ms twice a second makes the p99 of all, and
 * is in few of the stretches; what the server does to itself is in most. Sorts each stretch. */
static long usual_p99(long *took, long total, long rate) {
    long stretch = rate / 20, count = total / stretch;
    long *p99 = malloc(count * sizeof *p99);
    for (long i = 0; i < count; i++) {
        qsort(took + i * stretch, stretch, sizeof *took, by_size);
        p99[i] = took[i * stretch + stretch * 99 / 100];
    }
    qsort(p99, count, sizeof *p99, by_size);
    return p99[count / 2];
}

int main(int argc, char **argv) {
    if (argc < 7) fail("PORT PATH RATE SECONDS CONNECTIONS BODY_BYTES");
    long rate = atol(argv[3]), connections = atol(argv[5]);
    long total = rate * atol(argv[4]), sent = 0, answered = 0;
    long *took = malloc(total * sizeof *took);
    char request[1024];
    static char buffer[256 << 10];
    body = atol(argv[6]);
    int request_len = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", argv[2]);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct pollfd fds[CONNECTIONS_MAX];
    for (long i = 0; i < connections; i++) {
        int one = 1;
        conns[i].fd = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(conns[i].fd, (struct sockaddr *)&to, sizeof to)) fail("cannot connect");
        setsockopt(conns[i].fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        fds[i] = (struct pollfd){.fd = conns[i].fd, .events = POLLIN};
    }
    long began = now_ns(), every = 1000000000L / rate;
    while (answered < total) {
        long now = now_ns();
        for (; sent < total && began + sent * every <= now; sent++) {
            struct conn *conn = &conns[sent % connections];
            if (conn->tail - conn->head == QUEUE) fail("the server does not keep up");
            conn->due[conn->tail++ % QUEUE] = began + sent * every;
            if (send(conn->fd, request, request_len, MSG_NOSIGNAL) != request_len) fail("a request was not taken");
        }
        long wait = sent < total ? began + sent * every - now_ns() : 1000000000L;
        struct timespec until = {wait > 0 ? wait / 1000000000L : 0, wait > 0 ? wait % 1000000000L : 0};
        if (ppoll(fds, connections, &until, 0) <= 0) {
            if (now_ns() - began > (atol(argv[4]) + 10) * 1000000000L) fail("replies are missing");
            continue;
        }
        for (long i = 0; i < connections; i++) {
            if (!fds[i].revents) continue;
            long len = recv(conns[i].fd, buffer, sizeof buffer, MSG_DONTWAIT);
            if (len == 0) fail("the server has closed a connection");
            long at = now_ns();
            for (long count = len > 0 ? replies(&conns[i], buffer, len) : 0; count > 0; count--)
                took[answered++] = at - conns[i].due[conns[i].head++ % QUEUE];
        }
    }
    double usual = usual_p99(took, total, rate) / 1e3;
    qsort(took, total, sizeof *took, by_size);
    printf("{\"p50_us\":%.1f,\"p99_us\":%.1f,\"usual_p99_us\":%.1f,\"p999_us\":%.1f,\"max_us\":%.1f}\n", took[total / 2] / 1e3,
           took[total * 99 / 100] / 1e3, usual, took[total * 999 / 1000] / 1e3, took[total - 1] / 1e3);
    return 0;
}
