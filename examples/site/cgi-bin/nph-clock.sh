#!/bin/sh
# "nph" is "non-parsed headers": the script writes the whole response, its status line included. Each line is sent as it is
# written, so that the browser shows it ticking; leave early, and the script is ended.
printf 'HTTP/1.1 200 OK\r\n'
printf 'Date: %s\r\n' "$(LC_ALL=C date -u '+%a, %d %b %Y %H:%M:%S GMT')"
printf 'Content-Type: text/plain; charset=utf-8\r\n'
# Without this, a browser waits for enough text to guess the type by.
printf 'X-Content-Type-Options: nosniff\r\n'
printf 'Connection: close\r\n\r\n'

for left in 4 3 2 1 0; do
    printf '%s  (%s to go)\n' "$(date '+%H:%M:%S')" "$left"
    [ "$left" -eq 0 ] || sleep 1
done
