#!/usr/bin/env python3
"""What a listing costs, and what it costs others (docs/decisions/0012-pages.md).

    cargo build --release && python3 scripts/listing-cost.py

One core serves a folder of 10,000 empty files and one of 100. Printed are the median and the 99th percentile of the time that one
client waits on a connection that stays open: for listings, for a file of 1 KiB at its own path and at its clean URL, and for that file
while another client asks for the long listing without pause. About 20 seconds.
"""

import os
import socket
import subprocess
import sys
import tempfile
import time

BINARY = os.path.join(os.path.dirname(__file__), "..", "target", "release", "ucaffeine")
BESIDE_S = 6


class Client:
    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def get(self, path, accept="*/*"):
        self.socket.sendall(f"GET {path} HTTP/1.1\r\nHost: h\r\nAccept: {accept}\r\n\r\n".encode())
        received = b""
        while b"\r\n\r\n" not in received:
            received += self.socket.recv(1 << 16)
        head, _, body = received.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 "), head
        length = next(int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
        have = len(body)
        while have < length:
            have += len(self.socket.recv(1 << 20))
        return length


def row(port, name, path, count, accept="*/*"):
    client = Client(port)
    length = client.get(path, accept)
    waits = []
    for _ in range(count):
        start = time.perf_counter()
        client.get(path, accept)
        waits.append(time.perf_counter() - start)
    waits.sort()
    median, p99 = waits[count // 2] * 1e6, waits[count * 99 // 100] * 1e6
    print(f"{name:<44} {length:>9} bytes  median {median:>8.0f} us  p99 {p99:>8.0f} us")


def list_without_pause(port):
    client, end, count = Client(port), time.monotonic() + BESIDE_S, 0
    while time.monotonic() < end:
        client.get("/long/")
        count += 1
    print(f"{'listings beside it':<44} {count / BESIDE_S:>9.0f} a second")


def main():
    if len(sys.argv) == 2:
        return list_without_pause(int(sys.argv[1]))
    with tempfile.TemporaryDirectory() as root:
        for folder, count in (("long", 10_000), ("short", 100)):
            os.mkdir(os.path.join(root, folder))
            for number in range(count):
                open(os.path.join(root, folder, f"file number {number}.txt"), "w").close()
        for name in ("about.html", "file.css"):
            with open(os.path.join(root, name), "w") as file:
                file.write("x" * 1024)
        command = [BINARY, root, "--port", "0", "--cores", "1", "--listing", "--clean-urls"]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        port = int(server.stdout.readline().rstrip("/\n").rsplit(":", 1)[1])
        try:
            row(port, "10,000 names, HTML", "/long/", 101)
            row(port, "10,000 names, JSON", "/long/", 101, "application/json")
            row(port, "100 names, HTML", "/short/", 1001)
            row(port, "a file of 1 KiB", "/file.css", 20_000)
            row(port, "a file of 1 KiB at its clean URL", "/about", 20_000)
            beside = subprocess.Popen([sys.executable, __file__, str(port)])
            time.sleep(0.5)
            row(port, "a file of 1 KiB beside long listings", "/file.css", 20_000)
            beside.wait()
        finally:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main()
