/* What starting a program costs without any server: loop HOW COUNT PROGRAM [MIB]. Each child's output goes to a pipe that is read to
 * its end; then the child is waited for. HOW is posix_spawn, vfork or fork, by the process itself; thread, a vfork by a thread that
 * is told by an eventfd; zygote, a vfork by a small process that gets the pipe's end by a socket (SCM_RIGHTS), and whose children
 * are ours (CLONE_PARENT). MIB is memory that the process holds meanwhile. Prints microseconds of CPU (user and system, ours, the
 * children's and the zygote's) and of wall clock per start. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static char *environment[] = {"PATH=/usr/bin:/bin", "GATEWAY_INTERFACE=CGI/1.1", "REQUEST_METHOD=GET", 0};

static void child(const char *program, int out) {
    char *arguments[] = {(char *)program, 0};
    dup2(out, 1);
    execve(program, arguments, environment);
    _exit(127);
}

/* The thread: told by one eventfd, answers by another. */
static int ask_thread, thread_asks, thread_out;
static pid_t thread_pid;
static const char *thread_program;

static void *thread_main(void *unused) {
    for (uint64_t told; read(ask_thread, &told, sizeof told) == sizeof told;) {
        pid_t pid = vfork();
        if (pid == 0) child(thread_program, thread_out);
        thread_pid = pid;
        if (write(thread_asks, &told, sizeof told) < 0) break;
    }
    return unused;
}

/* The zygote: gets a descriptor, answers with a pid. */
static int zygote;
static char zygote_stack[64 << 10] __attribute__((aligned(64)));

struct parcel {
    char byte, control[CMSG_SPACE(sizeof(int))];
    struct iovec vector;
    struct msghdr message;
};

static void wrap(struct parcel *parcel) {
    parcel->vector = (struct iovec){&parcel->byte, 1};
    parcel->message = (struct msghdr){.msg_iov = &parcel->vector, .msg_iovlen = 1, .msg_control = parcel->control, .msg_controllen = sizeof parcel->control};
}

static int zygote_child(void *out) {
    child(thread_program, *(int *)out);
    return 127;
}

static void zygote_main(int channel) {
    for (;;) {
        struct parcel parcel;
        wrap(&parcel);
        if (recvmsg(channel, &parcel.message, MSG_CMSG_CLOEXEC) <= 0) _exit(0);
        int out;
        memcpy(&out, CMSG_DATA(CMSG_FIRSTHDR(&parcel.message)), sizeof out);
        /* With CLONE_PARENT the child is its starter's sibling, and says so with its starter's own signal. */
        pid_t pid = clone(zygote_child, zygote_stack + sizeof zygote_stack, CLONE_VM | CLONE_VFORK | CLONE_PARENT, &out);
        close(out);
        if (send(channel, &pid, sizeof pid, MSG_NOSIGNAL) < 0) _exit(1);
    }
}

static void prepare(const char *how, const char *program) {
    thread_program = program;
    if (!strcmp(how, "thread")) {
        pthread_t thread;
        ask_thread = eventfd(0, EFD_CLOEXEC);
        thread_asks = eventfd(0, EFD_CLOEXEC);
        if (pthread_create(&thread, 0, thread_main, 0)) exit(1);
    } else if (!strcmp(how, "zygote")) {
        int ends[2];
        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends)) exit(1);
        if (fork() == 0) {
            close(ends[0]);
            zygote_main(ends[1]);
        }
        close(ends[1]);
        zygote = ends[0];
    }
}

static pid_t start(const char *how, const char *program, int out) {
    pid_t pid = -1;
    if (!strcmp(how, "thread")) {
        uint64_t one = 1;
        thread_out = out;
        if (write(ask_thread, &one, sizeof one) < 0 || read(thread_asks, &one, sizeof one) < 0) return -1;
        pid = thread_pid;
    } else if (!strcmp(how, "zygote")) {
        struct parcel parcel = {.byte = 's'};
        wrap(&parcel);
        struct cmsghdr *head = CMSG_FIRSTHDR(&parcel.message);
        head->cmsg_level = SOL_SOCKET, head->cmsg_type = SCM_RIGHTS, head->cmsg_len = CMSG_LEN(sizeof out);
        memcpy(CMSG_DATA(head), &out, sizeof out);
        if (sendmsg(zygote, &parcel.message, MSG_NOSIGNAL) < 0 || recv(zygote, &pid, sizeof pid, 0) != sizeof pid) pid = -1;
    } else if (!strcmp(how, "posix_spawn")) {
        char *arguments[] = {(char *)program, 0};
        posix_spawn_file_actions_t actions;
        posix_spawn_file_actions_init(&actions);
        posix_spawn_file_actions_adddup2(&actions, out, 1);
        if (posix_spawn(&pid, program, &actions, 0, arguments, environment)) pid = -1;
        posix_spawn_file_actions_destroy(&actions);
    } else if (!strcmp(how, "vfork")) {
        if ((pid = vfork()) == 0) child(program, out);
    } else if (!strcmp(how, "fork")) {
        if ((pid = fork()) == 0) child(program, out);
    } else {
        fprintf(stderr, "loop: posix_spawn, vfork, fork, thread or zygote, not %s\n", how);
        exit(2);
    }
    return pid;
}

static double cpu_us(int who) {
    struct rusage used;
    getrusage(who, &used);
    return (used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1e6 + used.ru_utime.tv_usec + used.ru_stime.tv_usec;
}

static double now_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1e6 + now.tv_nsec / 1e3;
}

int main(int argc, char **argv) {
    if (argc < 4) return 2;
    long count = atol(argv[2]), bytes = 0, held = argc > 4 ? atol(argv[4]) << 20 : 0;
    static char buffer[64 << 10];
    /* Before the ballast: it is to be small. */
    prepare(argv[1], argv[3]);
    char *ballast = malloc(held + 1);
    for (long i = 0; i < held; i += 4096) ballast[i] = 1;
    double idle_us = cpu_us(RUSAGE_SELF);
    double began = now_us();
    for (long i = 0; i < count; i++) {
        int ends[2];
        if (pipe2(ends, O_CLOEXEC)) return 1;
        pid_t pid = start(argv[1], argv[3], ends[1]);
        if (pid < 0) return 1;
        close(ends[1]);
        for (long got; (got = read(ends[0], buffer, sizeof buffer)) > 0;) bytes += got;
        close(ends[0]);
        waitpid(pid, 0, __WALL);
    }
    double wall = now_us() - began;
    if (zygote) {
        /* Its use is counted once it is waited for. */
        close(zygote);
        waitpid(-1, 0, __WALL);
    }
    printf("{\"cpu_us\":%.2f,\"wall_us\":%.2f,\"bytes\":%ld}\n",
           (cpu_us(RUSAGE_SELF) - idle_us + cpu_us(RUSAGE_CHILDREN)) / count, wall / count, bytes / count);
    return 0;
}
