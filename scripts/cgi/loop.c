/* What starting a program costs without any server: loop HOW COUNT PROGRAM, with HOW posix_spawn, vfork, fork, or clone
 * (vfork's clone with a pidfd). Each child's output goes to a pipe that is read to its end; then the child is waited for.
 * Prints microseconds of CPU (user and system, ours and the children's) and of wall clock per start. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
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

static pid_t start(const char *how, const char *program, int out) {
    pid_t pid = -1;
    if (!strcmp(how, "posix_spawn")) {
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
        fprintf(stderr, "loop: posix_spawn, vfork or fork, not %s\n", how);
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
    long count = atol(argv[2]), bytes = 0;
    static char buffer[64 << 10];
    double began = now_us();
    for (long i = 0; i < count; i++) {
        int ends[2];
        if (pipe2(ends, O_CLOEXEC)) return 1;
        pid_t pid = start(argv[1], argv[3], ends[1]);
        if (pid < 0) return 1;
        close(ends[1]);
        for (long got; (got = read(ends[0], buffer, sizeof buffer)) > 0;) bytes += got;
        close(ends[0]);
        waitpid(pid, 0, 0);
    }
    double wall = now_us() - began;
    printf("{\"cpu_us\":%.2f,\"wall_us\":%.2f,\"bytes\":%ld}\n",
           (cpu_us(RUSAGE_SELF) + cpu_us(RUSAGE_CHILDREN)) / count, wall / count, bytes / count);
    return 0;
}
