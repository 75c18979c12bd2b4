/* The smallest CGI program there is. */
#include "bare.h"

void _start(void) {
    SAY("Content-Type: text/plain\n\nhello\n");
    sys(EXIT, 0, 0, 0, 0);
}
