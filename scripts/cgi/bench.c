/* What `loadgen bench` has servers run: a hello, or BODY_BYTES of output; with -DNPH a whole response, status line and all.
   Either says how long it is, so that a body that was cut is seen. */
#include "bare.h"

#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)

#ifdef NPH
#define HEAD(type, length) "HTTP/1.1 200 OK\r\nContent-Type: " type "\r\nContent-Length: " length "\r\nConnection: close\r\n\r\n"
#else
#define HEAD(type, length) "Content-Type: " type "\nContent-Length: " length "\n\n"
#endif

#ifdef BODY_BYTES
static char block[64 << 10];

void _start(void) {
    SAY(HEAD("application/octet-stream", TEXT(BODY_BYTES)));
    for (long left = BODY_BYTES; left > 0; left -= sizeof block)
        if (!say(block, left < (long)sizeof block ? left : (long)sizeof block)) break;
    sys(EXIT, 0, 0, 0, 0);
}
#else
void _start(void) {
    SAY(HEAD("text/plain", "6") "hello\n");
    sys(EXIT, 0, 0, 0, 0);
}
#endif
