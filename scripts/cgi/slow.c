/* A line every 50 to 65 ms, for ever: a script that runs long and computes nothing. Each has a pace of its own, since scripts that
 * were started at once need not go on in step. With -DCOMPUTES, one that computes. */
#include "bare.h"

/* Not on the stack: nobody has aligned that for us. */
static long pause[2] = {0, 50000000};

void _start(void) {
    pause[1] += sys(GETPID, 0, 0, 0, 0) % 16 * 1000000;
    SAY("Content-Type: text/plain\n\n");
    while (SAY("still here\n")) {
#ifdef COMPUTES
        for (volatile long i = 0; i < 20000000; i++) {}
#else
        sys(NANOSLEEP, (long)pause, 0, 0, 0);
#endif
    }
    sys(EXIT, 0, 0, 0, 0);
}
