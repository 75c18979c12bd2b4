/* A line every 50 ms, for ever: a script that runs long and computes nothing. With -DCOMPUTES, one that computes. */
#include "bare.h"

void _start(void) {
    long pause[2] = {0, 50000000};
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
