/* A closed loop that never sleeps: swarm PORT PATH SECONDS CONNECTIONS. Every connection asks again when it has its answer.
 * Because it spins, waking it costs the server nothing: on a virtual machine the wake-up of an idle CPU is a trip through
 * the hypervisor, and would be the largest item on a small script's bill. Prints how many answers there were, and bytes. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { CONNECTIONS_MAX = 256, HEAD_MAX = 4096, BUFFER = 1 << 20 };
enum state { HEAD, COUNTED, CHUNK_SIZE, CHUNK, CHUNK_END, LAST_END };

struct conn {
    int fd;
    enum state state;
    char head[HEAD_MAX];
    long head_len, left;
};

static struct conn conns[CONNECTIONS_MAX];
static char buffer[BUFFER], request[1024];
static struct sockaddr_in to;
static int request_len, events;
static long answers, bytes;

static void fail(const char *why) {
    fprintf(stderr, "swarm: %s (%s)\n", why, strerror(errno));
    exit(1);
}

static double now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + now.tv_nsec / 1e9;
}

static void ask(struct conn *conn) {
    if (conn->fd < 0) {
        int one = 1;
        conn->fd = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(conn->fd, (struct sockaddr *)&to, sizeof to)) fail("cannot connect");
        setsockopt(conn->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = conn};
        epoll_ctl(events, EPOLL_CTL_ADD, conn->fd, &event);
    }
    conn->state = HEAD;
    conn->head_len = 0;
    if (send(conn->fd, request, request_len, MSG_NOSIGNAL) != request_len) fail("a request was not taken");
}

/* The whole head is there: how long is the body? */
static void understand(struct conn *conn) {
    conn->head[conn->head_len] = 0;
    if (strncmp(conn->head, "HTTP/1.1 200 ", 13)) fail(conn->head);
    char *length = strcasestr(conn->head, "\r\nContent-Length:");
    if (length) {
        conn->left = atol(length + 17);
        conn->state = COUNTED;
    } else if (strcasestr(conn->head, "\r\nTransfer-Encoding: chunked")) {
        conn->left = 0;
        conn->state = CHUNK_SIZE;
    } else {
        fail("neither Content-Length nor chunks");
    }
}

/* One step through what came; true at the end of an answer. */
static int step(struct conn *conn, const char **at, const char *end) {
    long here = end - *at;
    char c;
    switch (conn->state) {
    case HEAD:
        if (conn->head_len == HEAD_MAX - 1) fail("a head is too long");
        conn->head[conn->head_len++] = *(*at)++;
        if (conn->head_len >= 4 && !memcmp(conn->head + conn->head_len - 4, "\r\n\r\n", 4)) understand(conn);
        return conn->state == COUNTED && conn->left == 0;
    case COUNTED:
    case CHUNK:
        if (here > conn->left) here = conn->left;
        *at += here;
        bytes += here;
        conn->left -= here;
        if (conn->left == 0 && conn->state == CHUNK) conn->state = CHUNK_END;
        return conn->left == 0 && conn->state == COUNTED;
    case CHUNK_SIZE:
        c = *(*at)++;
        if (c == '\n') conn->state = conn->left ? CHUNK : LAST_END;
        else if (c != '\r') conn->left = conn->left * 16 + (c <= '9' ? c - '0' : (c | 32) - 'a' + 10);
        return 0;
    case CHUNK_END:
        if (*(*at)++ == '\n') conn->state = CHUNK_SIZE;
        return 0;
    case LAST_END:
        return *(*at)++ == '\n';
    }
    return 0;
}

int main(int argc, char **argv) {
    if (argc < 5) fail("PORT PATH SECONDS CONNECTIONS");
    long connections = atol(argv[4]);
    to = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(atoi(argv[1])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    request_len = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", argv[2]);
    events = epoll_create1(0);
    double began = now(), until = began + atof(argv[3]);
    for (long i = 0; i < connections; i++) {
        conns[i].fd = -1;
        ask(&conns[i]);
    }
    /* After the time is over nobody asks again, and what was asked is waited for: no answer is paid for and not counted. */
    for (long open = connections; open > 0;) {
        struct epoll_event ready[CONNECTIONS_MAX];
        /* Not by trying each socket: that would take its lock from the server's sends. */
        int count = epoll_wait(events, ready, CONNECTIONS_MAX, 0);
        for (int i = 0; i < count; i++) {
            struct conn *conn = ready[i].data.ptr;
            long len = recv(conn->fd, buffer, sizeof buffer, MSG_DONTWAIT);
            if (len < 0 && errno == EAGAIN) continue;
            if (len <= 0) {
                /* A server may close a kept connection between two requests. */
                if (conn->state != HEAD || conn->head_len) fail("a connection was cut");
                close(conn->fd);
                conn->fd = -1;
                ask(conn);
                continue;
            }
            for (const char *at = buffer; at < buffer + len;) {
                if (!step(conn, &at, buffer + len)) continue;
                answers++;
                if (now() < until) {
                    ask(conn);
                } else {
                    close(conn->fd);
                    conn->fd = -1;
                    open--;
                    break;
                }
            }
        }
        if (now() > until + 30) fail("answers are missing");
    }
    printf("{\"answers\":%ld,\"bytes\":%ld,\"seconds\":%.3f}\n", answers, bytes, now() - began);
    return 0;
}
