#!/usr/bin/env python3
"""Server CPU per request, as a ratio to the floor, in one interleaved run. How to read it: docs/measuring.md."""

import argparse
import contextlib
import json
import math
import os
import pathlib
import platform
import random
import resource
import shlex
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import typing

ROOT = pathlib.Path(__file__).resolve().parent.parent
KIB = 1024
SMALL, BODY_BYTES = "1k.html", KIB
IDLE_CONNECTIONS = 10_000
IDLE_SETTLE_S = 2.0
START_DEADLINE_S = 10.0
STOP_DEADLINE_S = 5.0
STOP_SIGNALS = {signal.SIGINT, signal.SIGTERM}
# The core did this much more than the server: something else ran there, and the figures are suspect.
FOREIGN_WORK_MAX = 0.30
TICK_S = 1.0 / os.sysconf("SC_CLK_TCK")

# The set of files with a Zipf distribution: file i of n (from 1) is asked for with a weight of 1 / i.
ZIPF_FILES, ZIPF_BYTES, ZIPF_EXPONENT, ZIPF_SEED = 1_000, (KIB, 1024 * KIB), 1.0, 1
# So many requests are drawn beforehand, and repeated: what wrk draws itself would cost it more than the request.
ZIPF_DRAWS = 1 << 16

# name: command, and the text of {config} where one is needed. {port} {cpu} {site} {config} {folder} are filled in.
# Equal settings: one worker, sendfile, the server's own cache of descriptors, no access log, connections kept.
SERVERS = {
    "floor": ("target/release/models floor --port {port} --cpu {cpu}",),
    "floor-defer": ("target/release/models floor --port {port} --cpu {cpu} --defer-accept",),
    "ucaffeine": ("target/release/ucaffeine {site} --port {port} --cores 1 --bind 127.0.0.1",),
    "nginx": (
        "nginx -c {config}",
        """daemon off; worker_processes 1; pid {config}.pid; error_log stderr crit;
        events {{ worker_connections 16384; }}
        http {{ access_log off; sendfile on; tcp_nopush on; open_file_cache max=2000; keepalive_requests 1000000000;
                types {{ text/html html; }} client_body_temp_path {config}.body; proxy_temp_path {config}.proxy;
                fastcgi_temp_path {config}.fcgi; uwsgi_temp_path {config}.uwsgi; scgi_temp_path {config}.scgi;
                server {{ listen 127.0.0.1:{port} backlog=4096; root {site}; }} }}
        """,
    ),
    "lighttpd": (
        "lighttpd -D -f {config}",
        """server.document-root = "{site}"
        server.port = {port}
        server.bind = "127.0.0.1"
        server.max-worker = 0
        server.network-backend = "sendfile"
        server.stat-cache-engine = "simple"
        server.max-fds = 16384
        server.max-connections = 12000
        server.max-keep-alive-requests = 0
        server.errorlog = "/dev/null"
        mimetype.assign = ( ".html" => "text/html", "" => "application/octet-stream" )
        """,
    ),
    "h2o": (
        "h2o -c {config}",
        """num-threads: 1
listen:
  host: 127.0.0.1
  port: {port}
error-log: /dev/null
max-connections: 12000
hosts:
  default:
    paths:
      /:
        file.dir: {site}
""",
    ),
    "caddy": (
        "env GOMAXPROCS=1 XDG_DATA_HOME={folder} XDG_CONFIG_HOME={folder} HOME={folder} "
        "caddy run --adapter caddyfile --config {config}",
        """{{
            admin off
            auto_https off
            log {{
                output discard
            }}
        }}
        http://127.0.0.1:{port} {{
            root * {site}
            file_server
        }}
        """,
    ),
}

# The others that we are compared with.
PEERS = ["nginx", "lighttpd", "h2o", "caddy"]
AMONG_PEERS = ["best", "nginx"]


class Load(typing.NamedTuple):
    """What wrk does in a cell."""
    connections: int
    # Requests per write.
    depth: int = 1
    # An extra header field.
    field: tuple = None
    # Of {site}; None for the Zipf set.
    file: str = SMALL
    # The least that a response has on the average, or it was not whole.
    bytes_min: int = BODY_BYTES


# Files of the site, by name.
SIZES = {SMALL: BODY_BYTES, "32k.bin": 32 * KIB, "64k.bin": 64 * KIB, "100k.bin": 100 * KIB, "1m.bin": 1024 * KIB,
         "10m.bin": 10 * 1024 * KIB}

# idle-10k is not driven by wrk.
LOADS = {
    "keepalive-64": Load(64),
    "keepalive-10k": Load(10_000),
    "pipelined-16": Load(64, depth=16),
    "close-64": Load(64, field=("Connection", "close")),
}
FILE_LOADS = {
    "file-32k": Load(64, file="32k.bin", bytes_min=SIZES["32k.bin"]),
    "file-64k": Load(64, file="64k.bin", bytes_min=SIZES["64k.bin"]),
    "file-100k": Load(64, file="100k.bin", bytes_min=SIZES["100k.bin"]),
    "file-1m": Load(64, file="1m.bin", bytes_min=SIZES["1m.bin"]),
    "file-10m": Load(16, file="10m.bin", bytes_min=SIZES["10m.bin"]),
    "zipf": Load(64, file=None),
}
LOADS |= FILE_LOADS
IDLE = "idle-10k"
CELLS = [cell for cell in LOADS if cell not in FILE_LOADS] + [IDLE]

# cell: (what is compared, limit). "ratio" is to the floor, "best" to the cheapest other server of the run, "nginx" to that
# one; the others are absolute.
BARS = {
    "keepalive-64": ("ratio", 1.15),
    "keepalive-10k": ("ratio", 1.15),
    "pipelined-16": ("cpu_us", 1.0),
    "close-64": ("ratio", 1.10),
    IDLE: ("rss_bytes", 1024),
    "file-32k": ("best", 1.0),
    "file-64k": ("best", 1.0),
    "file-100k": ("best", 0.80),
    "file-1m": ("best", 1.0),
    "file-10m": ("best", 1.0),
    "zipf": ("nginx", 1 / 1.5),
}

# wrk's text rounds its figures; `done` has the exact ones. Percentiles are microseconds.
WRK_SCRIPT = """
local depth, name, value = {depth}, {name}, {value}
if name then wrk.headers[name] = value end
local burst
function init(args)
  local one = {{}}
  for i = 1, depth do one[i] = wrk.format() end
  burst = table.concat(one)
end
function request() return burst end
{more}
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('RESULT {{"requests":%d,"bytes":%d,"duration_us":%d,"p50_us":%d,"p99_us":%d,' ..
    '"errors":{{"connect":%d,"read":%d,"write":%d,"status":%d,"timeout":%d}}}}\\n', summary.requests, summary.bytes,
    summary.duration, latency:percentile(50), latency:percentile(99), e.connect, e.read, e.write, e.status, e.timeout))
end
"""


# The paths of the Zipf set, in the order drawn.
WRK_ZIPF = """
local paths, drawn, at = {{}}, {{ {drawn} }}, 0
function init(args)
  for i = 1, {files} do paths[i] = wrk.format('GET', string.format('/zipf/%04d.bin', i)) end
end
function request()
  at = at % #drawn + 1
  return paths[drawn[at]]
end
"""


def main():
    args = arguments()
    # SIGTERM ends the run as Ctrl-C does: through the `finally` blocks that end what was started.
    signal.signal(signal.SIGTERM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    raise_open_files(args)
    try:
        results = measure(args)
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130
    except Failure as failure:
        print(f"measure: {failure}", file=sys.stderr)
        return 3
    verdicts = judge(results, args.reference)
    print_table(results, verdicts, args)
    if args.json:
        # Written before the exit code is decided, so that a missed bar leaves its numbers behind.
        report = {"host": host(), "options": options(args), "cells": results, "bars": verdicts}
        pathlib.Path(args.json).write_text(json.dumps(report, indent=1) + "\n")
    if args.bars:
        return 0 if verdicts and all(verdict["ok"] for verdict in verdicts) else 1
    return 0


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", default=",".join(CELLS), help=f"comma-separated, of {', '.join([*CELLS, *FILE_LOADS])}")
    parser.add_argument("--servers", default="floor,ucaffeine", help=f"comma-separated, of {', '.join(SERVERS)} or --add")
    parser.add_argument("--add", action="append", default=[], metavar="NAME=COMMAND",
                        help="another server; {port} {cpu} {site} are filled in")
    parser.add_argument("--reference", default=None, help="what ratios are to (default: the first server)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3, help="of each round, and 1 s of warm-up before the first")
    parser.add_argument("--server-cpu", type=int, default=0)
    parser.add_argument("--client-cpu", type=int, default=1)
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--bars", action="store_true", help="exit 1 if a bar is missed or a cell is invalid")
    args = parser.parse_args()
    for item in args.add:
        name, equals, command = item.partition("=")
        if not equals:
            parser.error(f"--add {item}: NAME=COMMAND expected")
        SERVERS[name] = (command,)
    args.cells, args.servers = args.cells.split(","), args.servers.split(",")
    args.reference = args.reference or args.servers[0]
    for kind, given, known in (("cell", args.cells, [*CELLS, *FILE_LOADS]), ("server", args.servers, list(SERVERS))):
        for name in given:
            if name not in known:
                parser.error(f"unknown {kind} {name}: {', '.join(known)}")
    if args.reference not in args.servers:
        parser.error(f"--reference {args.reference} is not among --servers")
    if args.rounds < 1 or args.seconds < 1:
        parser.error("--rounds and --seconds start at 1")
    return args


def measure(args):
    results = {}
    with tempfile.TemporaryDirectory(prefix="measure-") as folder:
        folder = pathlib.Path(folder)
        site = folder / "site"
        site.mkdir()
        # nginx's worker runs as another user.
        folder.chmod(0o755)
        make_site(site)
        for cell in args.cells:
            with contextlib.ExitStack() as stack:
                servers = {name: stack.enter_context(Server(name, folder, args.server_cpu)) for name in args.servers}
                one = (lambda server: idle(server)) if cell == IDLE else (lambda server: load(server, cell, folder, args))
                results[cell] = interleave(cell, servers, one, args)
    return results


def make_site(site):
    for name, size in SIZES.items():
        (site / name).write_bytes(b"x" * (size - 1) + b"\n")
    draw = random.Random(ZIPF_SEED)
    (site / "zipf").mkdir()
    least, most = (math.log(size) for size in ZIPF_BYTES)
    for number in range(1, ZIPF_FILES + 1):
        size = round(math.exp(draw.uniform(least, most)))
        (site / "zipf" / f"{number:04}.bin").write_bytes(b"z" * size)


def zipf_script():
    weights = [1 / number**ZIPF_EXPONENT for number in range(1, ZIPF_FILES + 1)]
    drawn = random.Random(ZIPF_SEED).choices(range(1, ZIPF_FILES + 1), weights, k=ZIPF_DRAWS)
    return WRK_ZIPF.format(files=ZIPF_FILES, drawn=",".join(map(str, drawn)))


def interleave(cell, servers, one, args):
    """Rounds A B, B A, A B ...: what drifts, drifts for both, and neither is always first."""
    rounds = {name: [] for name in servers}
    if cell != IDLE:
        for server in servers.values():
            wrk(server, cell, server.folder, 1, args)
    # The second idle round of one process finds its memory grown already, so that there is one only.
    count = 1 if cell == IDLE else args.rounds
    for number in range(count):
        order = list(servers) if number % 2 == 0 else list(reversed(servers))
        for name in order:
            rounds[name].append(one(servers[name]))
        progress(cell, number + 1, count, rounds)
    return {name: summary(rounds[name], rounds[args.reference]) for name in servers}


def load(server, cell, folder, args):
    cpu, core = server.cpu_s(), core_busy_s(args.server_cpu)
    started = time.monotonic()
    result = wrk(server, cell, folder, args.seconds, args)
    wall = time.monotonic() - started
    cpu, core = server.cpu_s() - cpu, core_busy_s(args.server_cpu) - core
    requests = max(result["requests"], 1)
    problems = [f"{count} {kind} errors" for kind, count in result["errors"].items() if count]
    if result["requests"] == 0:
        problems.append("no response")
    elif result["bytes"] / requests < LOADS[cell].bytes_min:
        problems.append("responses are not whole")
    if core > cpu * (1 + FOREIGN_WORK_MAX) + 5 * TICK_S:
        problems.append("(noisy: something else ran on the server's core)")
    return {
        "cpu_us": cpu * 1e6 / requests,
        "core_us": core * 1e6 / requests,
        "requests_per_s": requests * 1e6 / max(result["duration_us"], 1),
        "p50_us": result["p50_us"],
        "p99_us": result["p99_us"],
        "server_busy": cpu / wall,
        "problems": problems,
    }


def wrk(server, cell, folder, seconds, args):
    load = LOADS[cell]
    script = folder / f"{cell}.lua"
    name, value = (json.dumps(part) for part in load.field) if load.field else ("nil", "nil")
    more = "" if load.file else zipf_script()
    script.write_text(WRK_SCRIPT.format(depth=load.depth, name=name, value=value, more=more))
    url = f"{server.url}/{load.file or SMALL}"
    command = ["wrk", "-t1", f"-c{load.connections}", f"-d{seconds}", "--timeout", "10", "-s", str(script), url]
    with Process(command, args.client_cpu, stdout=subprocess.PIPE) as process:
        output, _ = process.communicate(timeout=seconds + 60)
    lines = [line[len("RESULT "):] for line in output.decode().splitlines() if line.startswith("RESULT ")]
    if not lines:
        raise Failure(f"wrk printed no result for {server.name}: {output.decode().strip()}")
    return json.loads(lines[-1])


def idle(server):
    """Resident bytes per connection that made one request and went quiet."""
    connections, problems = [], []
    before = server.resident_bytes()
    try:
        for _ in range(IDLE_CONNECTIONS):
            connection = socket.create_connection(("127.0.0.1", server.port), timeout=10)
            connections.append(connection)
            if (body := exchange(connection)) != BODY_BYTES:
                problems.append(f"a body of {body} bytes")
                break
        time.sleep(IDLE_SETTLE_S)
        after = server.resident_bytes()
        # An idle connection that the server has cut is no idle connection.
        cut = sum(1 for connection in connections if is_cut(connection))
        if cut:
            problems.append(f"{cut} connections cut")
    except OSError as error:
        problems.append(f"{error} at connection {len(connections)}")
        after = server.resident_bytes()
    finally:
        for connection in connections:
            connection.close()
    return {"rss_bytes": (after - before) / IDLE_CONNECTIONS, "rss_before_kib": before // 1024, "problems": problems}


def exchange(connection):
    """One request on an open connection; the length of the body that came back with a 200, or -1."""
    connection.sendall(f"GET /{SMALL} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
    data = b""
    while b"\r\n\r\n" not in data or len(data.split(b"\r\n\r\n", 1)[1]) < BODY_BYTES:
        chunk = connection.recv(65536)
        if not chunk:
            break
        data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    return len(body) if head.startswith(b"HTTP/1.1 200 ") else -1


def is_cut(connection):
    connection.setblocking(False)
    try:
        return connection.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


class Failure(Exception):
    """The measurement cannot go on; the text says why."""


class Process:
    """A process on one CPU, ended by pid when the block ends, however it ends."""

    def __init__(self, command, cpu, **options):
        self.command, self.cpu, self.options, self.process = command, cpu, options, None

    def __enter__(self):
        # Held back while the process starts, so that no interruption falls between its start and our knowing its pid.
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        try:
            self.process = subprocess.Popen(self.command, cwd=ROOT, stdin=subprocess.DEVNULL, preexec_fn=self.prepare,
                                            **self.options)
        except FileNotFoundError as error:
            raise Failure(f"{error.filename} is not there: build or install it, or leave it out of --servers") from error
        finally:
            try:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
            except KeyboardInterrupt:
                self.__exit__()
                raise
        return self.process

    def prepare(self):
        # In the child: `taskset` would set the affinity as well, with one program more.
        os.sched_setaffinity(0, {self.cpu})
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)

    def __exit__(self, *_):
        if self.process is None:
            return
        for stop in (self.process.terminate, self.process.kill):
            if self.process.poll() is not None:
                break
            stop()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(STOP_DEADLINE_S)
        if self.process.stdout:
            self.process.stdout.close()


class Server:
    """A server that answers on a free loopback port."""

    def __init__(self, name, folder, cpu):
        command, *config = SERVERS[name]
        self.name, self.folder = name, folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        words = {"port": self.port, "cpu": cpu, "site": folder / "site", "config": folder / f"{name}.conf", "folder": folder}
        if config:
            words["config"].write_text(config[0].format(**words))
        self.url = f"http://127.0.0.1:{self.port}"
        self.process = Process(shlex.split(command.format(**words)), cpu, stdout=subprocess.DEVNULL)

    def __enter__(self):
        self.pid = self.process.__enter__().pid
        try:
            self.wait_until_it_answers()
        except BaseException:
            self.process.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.process.__exit__()

    def wait_until_it_answers(self):
        deadline = time.monotonic() + START_DEADLINE_S
        while True:
            if (status := self.process.process.poll()) is not None:
                raise Failure(f"{self.name} ended at once with status {status}")
            with contextlib.suppress(ConnectionError, TimeoutError):
                with socket.create_connection(("127.0.0.1", self.port), timeout=2) as connection:
                    if (body := exchange(connection)) == BODY_BYTES:
                        return
                    raise Failure(f"{self.name} does not answer /{SMALL} with {BODY_BYTES} bytes, but {body}")
            if time.monotonic() > deadline:
                raise Failure(f"{self.name} does not answer on port {self.port}")
            time.sleep(0.05)

    def cpu_s(self):
        """utime + stime of the server and its children, all threads (proc_pid_stat(5): fields 14 and 15)."""
        ticks = 0
        for pid in self.family():
            with contextlib.suppress(OSError):
                fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                ticks += int(fields[11]) + int(fields[12])
        return ticks * TICK_S

    def resident_bytes(self):
        total = 0
        for pid in self.family():
            with contextlib.suppress(OSError):
                for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
                    if line.startswith("VmRSS:"):
                        total += int(line.split()[1]) * 1024
        return total

    def family(self):
        """The server and its direct children: workers of a master."""
        pids = [self.pid]
        for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                if int(stat.read_text().rpartition(")")[2].split()[1]) == self.pid:
                    pids.append(int(stat.parent.name))
        return pids


def core_busy_s(cpu):
    """user, nice, system, irq and softirq of one CPU (proc_stat(5))."""
    for line in pathlib.Path("/proc/stat").read_text().splitlines():
        if line.startswith(f"cpu{cpu} "):
            user, nice, system, _, _, irq, softirq = (int(field) for field in line.split()[1:8])
            return (user + nice + system + irq + softirq) * TICK_S
    raise Failure(f"there is no CPU {cpu}")


def summary(rounds, reference):
    """Medians and ranges; the ratio is taken round by round, then its median."""
    problems = sorted({problem for one in rounds for problem in one["problems"]})
    invalid = [problem for problem in problems if not problem.startswith("(")]
    main = "rss_bytes" if "rss_bytes" in rounds[0] else "cpu_us"
    ratios = [mine[main] / other[main] for mine, other in zip(rounds, reference) if other[main] > 0]
    figures = [key for key in rounds[0] if key != "problems"]
    return {
        "valid": not invalid,
        "problems": problems,
        "median": {key: statistics.median(one[key] for one in rounds) for key in figures},
        "range": {main: [min(one[main] for one in rounds), max(one[main] for one in rounds)]},
        "ratio": {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)} if ratios else None,
        "rounds": rounds,
    }


def judge(results, reference):
    verdicts = []
    for cell, servers in results.items():
        what, limit = BARS[cell]
        for name, row in servers.items():
            # The bars of files hold for what is ours, the others for all but the reference.
            if name in PEERS if what in AMONG_PEERS else name == reference:
                continue
            value = bar_value(what, name, row, servers)
            ok = row["valid"] and servers[reference]["valid"] and value is not None and value <= limit
            verdicts.append({"cell": cell, "server": name, "what": what, "value": value, "limit": limit, "ok": ok})
    return verdicts


def bar_value(what, name, row, servers):
    """What a bar compares; None where there is nothing to compare with."""
    if what == "ratio":
        return (row["ratio"] or {}).get("median")
    if what not in AMONG_PEERS:
        return row["median"][what]
    others = [other["median"]["cpu_us"] for peer, other in servers.items()
              if peer in PEERS and peer != name and other["valid"] and what in ("best", peer)]
    return row["median"]["cpu_us"] / min(others) if others else None


def progress(cell, number, count, rounds):
    def figure(one):
        return f"{one['rss_bytes']:.0f} B" if "rss_bytes" in one else f"{one['cpu_us']:.3f} us"

    shown = "  ".join(f"{name} {figure(ones[-1])}" for name, ones in rounds.items())
    print(f"{cell} {number}/{count}: {shown}", file=sys.stderr, flush=True)


def print_table(results, verdicts, args):
    print(f"\nServer CPU per request; ratios to {args.reference}, medians of {args.rounds} x {args.seconds} s, [min..max].")
    print(f"{'cell':<14} {'server':<12} {'CPU us':>8} {'':<17} {'core us':>8} {'ratio':>6} {'':<13} "
          f"{'req/s':>8} {'busy':>5} {'p50 us':>8} {'p99 us':>8}")
    for cell, servers in results.items():
        for name, row in servers.items():
            print(table_row(cell, name, row))
            for problem in row["problems"]:
                print(f"{'':<14} {problem if problem.startswith('(') else 'INVALID: ' + problem}")
    for verdict in verdicts if args.bars else []:
        value = "none" if verdict["value"] is None else f"{verdict['value']:.3f}"
        print(f"bar {'met   ' if verdict['ok'] else 'MISSED'} {verdict['cell']} {verdict['server']}: {verdict['what']} "
              f"{value}, at most {verdict['limit']}")


def table_row(cell, name, row):
    median, ratio = row["median"], row["ratio"]
    against = f"{ratio['median']:>6.3f} {'[%.2f..%.2f]' % (ratio['min'], ratio['max']):<13}" if ratio else f"{'-':>6} {'':<13}"
    if "rss_bytes" in median:
        return (f"{cell:<14} {name:<12} {median['rss_bytes']:>8.0f} {'bytes/connection':<17} {'-':>8} {against} "
                f"(process before: {median['rss_before_kib']:.0f} KiB)")
    low, high = row["range"]["cpu_us"]
    return (f"{cell:<14} {name:<12} {median['cpu_us']:>8.3f} {'[%.3f..%.3f]' % (low, high):<17} {median['core_us']:>8.3f} "
            f"{against} {median['requests_per_s']:>8.0f} {median['server_busy']:>5.0%} "
            f"{median['p50_us']:>8.0f} {median['p99_us']:>8.0f}")


def raise_open_files(args):
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    needed = IDLE_CONNECTIONS + 100
    if any("10k" in cell for cell in args.cells) and hard != resource.RLIM_INFINITY and hard < needed:
        print(f"measure: the 10k cells need {needed} open files, `ulimit -Hn` is {hard}", file=sys.stderr)
        sys.exit(3)


def host():
    model = next((line.partition(":")[2].strip() for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines()
                  if line.startswith("model name")), platform.machine())
    return {"kernel": platform.release(), "cpu": model, "cpus": os.cpu_count(), "at": time.strftime("%FT%TZ", time.gmtime())}


def options(args):
    return {"cells": args.cells, "servers": args.servers, "reference": args.reference, "rounds": args.rounds,
            "seconds": args.seconds}


if __name__ == "__main__":
    sys.exit(main())
