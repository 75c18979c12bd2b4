#!/usr/bin/env python3
"""Answers the form of the example page. Standard library only; the cgi module is no longer a part of it."""

import html
import os
import sys
from urllib.parse import parse_qs

LIMIT = 64 * 1024

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Thank you</title>
<link rel="stylesheet" href="/css/site.css">
<main>
<h1>Thank you, <span id="name">{name}</span></h1>
<p>A Python script received <strong id="bytes">{size}</strong> bytes by {method} and read this:</p>
<blockquote id="message">{message}</blockquote>
<p><a href="/">Back to the page</a></p>
</main>
"""


def answer(status, content_type, body):
    data = body.encode()
    head = f"Status: {status}\nContent-Type: {content_type}; charset=utf-8\nContent-Length: {len(data)}\n\n"
    sys.stdout.buffer.write(head.encode() + data)


def main():
    method = os.environ.get("REQUEST_METHOD", "GET")
    if method != "POST":
        answer("405 Method Not Allowed\nAllow: POST", "text/plain", "This address takes the form's POST.\n")
        return
    if os.environ.get("CONTENT_TYPE", "").split(";")[0].strip() != "application/x-www-form-urlencoded":
        answer("415 Unsupported Media Type", "text/plain", "A form, please.\n")
        return
    length = int(os.environ.get("CONTENT_LENGTH") or 0)
    if length > LIMIT:
        answer("413 Content Too Large", "text/plain", f"At most {LIMIT} bytes, please.\n")
        return
    raw = sys.stdin.buffer.read(length)
    fields = parse_qs(raw.decode("utf-8", "replace"), keep_blank_values=True)

    def field(name):
        return html.escape(fields.get(name, [""])[0].strip())

    page = PAGE.format(
        name=field("name") or "stranger",
        message=field("message") or "(nothing)",
        size=len(raw),
        method=html.escape(method),
    )
    answer("200 OK", "text/html", page)


main()
