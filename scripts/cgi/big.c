/* BIG_BYTES of output in writes of 64 KiB; with -DSAYS_LENGTH, and a Content-Length. */
#include "bare.h"

#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)

static char block[64 << 10];

void _start(void) {
    SAY("Content-Type: application/octet-stream\n"
#ifdef SAYS_LENGTH
        "Content-Length: " TEXT(BIG_BYTES) "\n"
#endif
        "\n");
    for (long left = BIG_BYTES; left > 0; left -= sizeof block)
        if (!say(block, left < (long)sizeof block ? left : (long)sizeof block)) break;
    sys(EXIT, 0, 0, 0, 0);
}
