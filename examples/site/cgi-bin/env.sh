#!/bin/sh
# Shows what a CGI program is told (RFC 3875 section 4.1): exactly the environment that it was started with.
printf 'Content-Type: text/plain; charset=utf-8\n\n'
tr '\0' '\n' </proc/$$/environ | sort
