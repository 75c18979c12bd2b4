#!/usr/bin/env python3
"""loadgen beside wrk: the same server, the same CPUs, in turns. What is compared: docs/loadgen.md, "Against wrk"."""

import argparse
import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile

import measure

LARGE_BYTES = 10 << 20

# name: server, URL path, connections, requests in flight on each.
CELLS = {
    "keepalive-64": ("floor", "/1k.html", 64, 1),
    "keepalive-1k": ("floor", "/1k.html", 1_000, 1),
    "keepalive-10k": ("floor", "/1k.html", 10_000, 1),
    "pipelined-16": ("floor", "/1k.html", 64, 16),
    "10-mib": ("ucaffeine", "/10m.bin", 16, 1),
}

# What loadgen must do, by cell: its rate at least so many times wrk's, its CPU a request at most so many times.
RATE_MIN = {"keepalive-64": 1.0, "keepalive-1k": 1.0, "keepalive-10k": 1.0, "pipelined-16": 1.0, "10-mib": 1.0}
CPU_MAX = {"keepalive-64": 0.8, "keepalive-1k": 0.8, "keepalive-10k": 0.8, "pipelined-16": 0.8}
RSS_BYTES_MAX = 64 << 20


def main():
    args = arguments()
    signal.signal(signal.SIGTERM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    measure.raise_open_files(argparse.Namespace(cells=["keepalive-10k"]))
    try:
        results = run(args)
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130
    except measure.Failure as failure:
        print(f"loadgen-vs-wrk: {failure}", file=sys.stderr)
        return 3
    missed = table(results)
    if args.json:
        report = {"host": measure.host(), "rounds": args.rounds, "seconds": args.seconds, "cells": results}
        pathlib.Path(args.json).write_text(json.dumps(report, indent=1) + "\n")
    for line in missed:
        print(f"missed: {line}")
    return 1 if args.bars and missed else 0


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", default=",".join(CELLS), help=f"comma-separated, of {', '.join(CELLS)}")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=2, help="of each round")
    parser.add_argument("--server-cpu", type=int, default=0)
    parser.add_argument("--client-cpu", type=int, default=1)
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--bars", action="store_true", help="exit 1 if a bar is missed")
    args = parser.parse_args()
    args.cells = args.cells.split(",")
    for cell in args.cells:
        if cell not in CELLS:
            parser.error(f"unknown cell {cell}: {', '.join(CELLS)}")
    return args


def run(args):
    results = {}
    with tempfile.TemporaryDirectory(prefix="loadgen-vs-wrk-") as folder:
        folder = pathlib.Path(folder)
        (folder / "site").mkdir()
        (folder / "site" / "10m.bin").write_bytes(os.urandom(LARGE_BYTES))
        (folder / "site" / "1k.html").write_bytes(b"x" * 1024)
        for cell in args.cells:
            name, path, connections, depth = CELLS[cell]
            with measure.Server(name, folder, args.server_cpu) as server:
                url = f"http://127.0.0.1:{server.port}{path}"
                tools = {"wrk": wrk, "loadgen": loadgen}
                rounds = {tool: [] for tool in tools}
                for number in range(args.rounds):
                    # A B, B A, A B: what drifts, drifts for both.
                    for tool in list(tools) if number % 2 == 0 else list(reversed(tools)):
                        one = tools[tool](url, connections, depth, folder, args)
                        rounds[tool].append(one)
                        print(f"{cell} {tool}: {one['requests_per_s']:,.0f}/s", file=sys.stderr)
            results[cell] = {tool: summary(rounds[tool]) for tool in tools}
    return results


def wrk(url, connections, depth, folder, args):
    script = folder / "wrk.lua"
    script.write_text(measure.WRK_SCRIPT.format(depth=depth, name="nil", value="nil", more=""))
    command = ["wrk", "-t1", f"-c{connections}", f"-d{args.seconds}", "--timeout", "10", "-s", str(script), url]
    output, usage = timed(command, args)
    found = json.loads([line for line in output.splitlines() if line.startswith("RESULT ")][-1][len("RESULT "):])
    errors = sum(found["errors"].values())
    rate = found["requests"] * 1e6 / found["duration_us"]
    return outcome(rate, found["requests"], found["bytes"], errors, usage)


def loadgen(url, connections, depth, folder, args):
    command = ["target/release/loadgen", url, "-c", str(connections), "--pipeline", str(depth), "-d", f"{args.seconds}s",
               "--warmup", "0s", "--timeout", "10s", "--quiet", "--json", "-"]
    output, usage = timed(command, args)
    found = json.loads(output)
    measured = found["measured"]
    return outcome(found["requests_per_second"], measured["responses"], measured["wire_bytes"], measured["errors"], usage)


def timed(command, args):
    """What it printed, and its resource usage: the process's own whole life, connects included, for both alike."""
    with measure.Process(command, args.client_cpu, stdout=subprocess.PIPE) as process:
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if not output:
        raise measure.Failure(f"{command[0]} printed nothing and exited with {process.returncode}")
    return output.decode(), usage


def outcome(rate, requests, received, errors, usage):
    cpu_s = usage.ru_utime + usage.ru_stime
    return {
        "requests_per_s": rate,
        "bytes_per_s": rate * received / max(requests, 1),
        "cpu_us": cpu_s * 1e6 / max(requests, 1),
        "rss_bytes": usage.ru_maxrss * 1024,
        "errors": errors,
    }


def summary(rounds):
    median = {key: statistics.median(one[key] for one in rounds) for key in rounds[0]}
    return {"median": median, "rounds": rounds}


def table(results):
    missed = []
    print("| load | wrk, requests/s | loadgen, requests/s | ratio | wrk, CPU us | loadgen, CPU us | ratio | loadgen, RSS |")
    print("|---|---|---|---|---|---|---|---|")
    for cell, tools in results.items():
        one, other = tools["wrk"]["median"], tools["loadgen"]["median"]
        rate, cpu = other["requests_per_s"] / one["requests_per_s"], other["cpu_us"] / one["cpu_us"]
        print(f"| {cell} | {one['requests_per_s']:,.0f} | {other['requests_per_s']:,.0f} | {rate:.2f} | {one['cpu_us']:.2f} "
              f"| {other['cpu_us']:.2f} | {cpu:.2f} | {other['rss_bytes'] / (1 << 20):.1f} MiB |")
        if rate < RATE_MIN[cell]:
            missed.append(f"{cell}: {rate:.2f} of wrk's rate, {RATE_MIN[cell]} is the bar")
        if cpu > CPU_MAX.get(cell, float("inf")):
            missed.append(f"{cell}: {cpu:.2f} of wrk's CPU a request, {CPU_MAX[cell]} is the bar")
        if other["rss_bytes"] > RSS_BYTES_MAX:
            missed.append(f"{cell}: {other['rss_bytes'] >> 20} MiB, {RSS_BYTES_MAX >> 20} is the bar")
        missed += [f"{cell}: {tool} had {one['errors']:.0f} errors" for tool, one in (("wrk", one), ("loadgen", other)) if one["errors"]]
    return missed


if __name__ == "__main__":
    sys.exit(main())
