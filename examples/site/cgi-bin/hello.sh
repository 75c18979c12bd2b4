#!/bin/sh
# The smallest CGI program: header lines, a blank line, the body.
printf 'Content-Type: text/plain; charset=utf-8\n\n'
printf 'Hello from a shell script.\n\nYou asked for %s%s' "$SCRIPT_NAME" "$PATH_INFO"
[ -z "$QUERY_STRING" ] || printf ' with the query %s' "$QUERY_STRING"
printf '.\nThis is process %s, and it is gone when you read this.\n' "$$"
