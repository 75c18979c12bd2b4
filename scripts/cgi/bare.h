/* System calls without a C library: a program that costs nothing but its own start. */
#if defined(__x86_64__)
static long sys(long n, long a, long b, long c, long d) {
    long r;
    register long r10 __asm__("r10") = d;
    __asm__ volatile("syscall" : "=a"(r) : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10) : "rcx", "r11", "memory");
    return r;
}
enum { WRITE = 1, EXIT = 60, NANOSLEEP = 35, GETPID = 39 };
#elif defined(__aarch64__)
static long sys(long n, long a, long b, long c, long d) {
    register long x8 __asm__("x8") = n, x0 __asm__("x0") = a, x1 __asm__("x1") = b, x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
    return x0;
}
enum { WRITE = 64, EXIT = 93, NANOSLEEP = 101, GETPID = 172 };
#else
#error "x86_64 or aarch64"
#endif

static int say(const char *text, long len) {
    while (len > 0) {
        long done = sys(WRITE, 1, (long)text, len, 0);
        if (done <= 0) return 0;
        text += done;
        len -= done;
    }
    return 1;
}

#define SAY(text) say(text, sizeof(text) - 1)
