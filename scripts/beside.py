#!/usr/bin/env python3
"""What one small request costs in time while the same core serves something slow: a cold file, or a thousand slow readers.

    python3 scripts/beside.py cold                # a second connection, while a cold 200 MiB file is read
    python3 scripts/beside.py slow                # a second connection, and the server's memory, with 1,000 readers of 10 KB/s

The file is our own, and its pages are dropped by posix_fadvise(2): no privileges are needed.
"""

import argparse
import contextlib
import os
import pathlib
import select
import socket
import sys
import tempfile
import time

from measure import SERVERS, SMALL, Failure, Server, raise_open_files, make_site

MIB = 1 << 20
COLD_BYTES = 200 * MIB
SLOW_BYTES = 50 * MIB
PROBE_PAUSE_S = 0.0005


def main():
    args = arguments()
    args.cells = ["10k"] if args.what == "slow" else []
    raise_open_files(args)
    # On a disk, and not in a folder in memory: there would be nothing to drop.
    with tempfile.TemporaryDirectory(prefix="beside-", dir=pathlib.Path(args.folder).resolve()) as folder:
        folder = pathlib.Path(folder)
        folder.chmod(0o755)
        site = folder / "site"
        site.mkdir()
        make_site(site)
        write(site / "cold.bin", COLD_BYTES if args.what == "cold" else SLOW_BYTES)
        for name in args.servers:
            try:
                with Server(name, folder, args.server_cpu) as server:
                    os.sched_setaffinity(0, {args.client_cpu})
                    for round_number in range(args.rounds):
                        line = (cold if args.what == "cold" else slow)(server, site / "cold.bin", args)
                        print(f"{name:<10} {line}", flush=True)
            except Failure as failure:
                print(f"beside: {failure}", file=sys.stderr)
                return 3
    return 0


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["cold", "slow"])
    parser.add_argument("--servers", default="ucaffeine,nginx", help=f"comma-separated, of {', '.join(SERVERS)}")
    parser.add_argument("--add", action="append", default=[], metavar="NAME=COMMAND")
    parser.add_argument("--folder", default=".", help="where the files are written; on a disk")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--readers", type=int, default=1000)
    parser.add_argument("--rate", type=int, default=10_000, help="bytes per second of each slow reader")
    parser.add_argument("--seconds", type=int, default=10, help="of slow reading")
    parser.add_argument("--server-cpu", type=int, default=0)
    parser.add_argument("--client-cpu", type=int, default=1)
    args = parser.parse_args()
    for item in args.add:
        name, _, command = item.partition("=")
        SERVERS[name] = (command,)
    args.servers = args.servers.split(",")
    return args


def write(path, size):
    block = os.urandom(MIB)
    with open(path, "wb") as file:
        for _ in range(size // MIB):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())


def drop(path):
    with open(path, "rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


class Probe:
    """One small request after another, and how long each took."""

    def __init__(self, server):
        self.socket = socket.create_connection(("127.0.0.1", server.port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.request = f"GET /{SMALL} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
        self.took, self.sent_at, self.got = [], 0.0, 0

    def send(self):
        self.got, self.sent_at = 0, time.perf_counter()
        self.socket.sendall(self.request)

    def receive(self):
        self.got += len(self.socket.recv(65536))
        if self.got <= 1024:
            return False
        self.took.append((time.perf_counter() - self.sent_at) * 1e6)
        return True

    def figures(self):
        took = sorted(self.took)
        at = lambda part: took[min(int(len(took) * part), len(took) - 1)]
        return f"p50 {at(0.5):6.0f} us  p99 {at(0.99):7.0f} us  max {took[-1]:8.0f} us  ({len(took)} requests)"


def get(server, name):
    reader = socket.create_connection(("127.0.0.1", server.port))
    reader.sendall(f"GET /{name} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
    return reader


def cold(server, path, args):
    """Reads the file cold, and then warm, each beside a probe."""
    figures = []
    for state in ("cold", "warm"):
        if state == "cold":
            drop(path)
        probe, reader = Probe(server), get(server, path.name)
        left, started = COLD_BYTES, time.perf_counter()
        probe.send()
        room, again_at = bytearray(MIB), 0.0
        while left > 0:
            ready, _, _ = select.select([probe.socket, reader], [], [], PROBE_PAUSE_S)
            if probe.socket in ready and probe.receive():
                again_at = time.perf_counter() + PROBE_PAUSE_S
            if again_at and time.perf_counter() >= again_at:
                probe.send()
                again_at = 0.0
            if reader in ready:
                got = reader.recv_into(room)
                if got == 0:
                    raise Failure(f"{server.name} cut the file {left} bytes before its end")
                left -= got
        took = time.perf_counter() - started
        # Warm, the file takes so little time that few requests fit beside it: its speed is what the cold one is compared with.
        figures.append(f"{state} {COLD_BYTES / MIB / took:5.0f} MiB/s" + (f"  {probe.figures()}" if state == "cold" else ""))
        reader.close()
        probe.socket.close()
    return "  ".join(figures)


def slow(server, path, args):
    """Many readers that take their time, a probe beside them, and what the server's memory grows by."""
    alone = Probe(server)
    for _ in range(2000):
        alone.send()
        while not alone.receive():
            pass
    before, cpu = server.resident_bytes(), server.cpu_s()
    readers = []
    for _ in range(args.readers):
        reader = get(server, path.name)
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
        reader.setblocking(False)
        readers.append(reader)
    probe, started, turn = Probe(server), time.perf_counter(), 0
    peak, received = before, 0
    while (now := time.perf_counter()) - started < args.seconds:
        # Each reader has its turn once a second.
        due = int((now - started) * args.readers)
        for number in range(turn, due):
            with contextlib.suppress(BlockingIOError):
                received += len(readers[number % args.readers].recv(args.rate))
        turn = max(turn, due)
        probe.send()
        while not probe.receive():
            pass
        time.sleep(PROBE_PAUSE_S)
        if len(probe.took) % 500 == 0:
            peak = max(peak, server.resident_bytes())
    peak = max(peak, server.resident_bytes())
    cpu = server.cpu_s() - cpu
    for reader in readers:
        reader.close()
    return (f"alone {alone.figures()}\n{'':<11}beside {args.readers} readers {probe.figures()}  memory +{(peak - before) / 1024:.0f} KiB  "
            f"CPU {cpu / args.seconds:.1%}  {received / args.seconds / 1e6:.1f} MB/s")


if __name__ == "__main__":
    sys.exit(main())
