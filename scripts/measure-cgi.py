#!/usr/bin/env python3
"""CPU per CGI request, children included, in one interleaved run, and static p99 beside scripts. See docs/decisions/0020-spawner.md."""

import argparse
import contextlib
import importlib.util
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
spec = importlib.util.spec_from_file_location("measure", HERE / "measure.py")
measure = importlib.util.module_from_spec(spec)
spec.loader.exec_module(measure)

BIG_BYTES = 10 << 20
AT_ONCE = 16
# What makes a server hold a GiB.
LARGE_FILES = 32
LARGE_FILE_BYTES = 32 << 20
# name: source, flags. The scripts need no C library; the other programs are ours.
SCRIPTS = {
    "hello": ("hello", []),
    "big": ("big", [f"-DBIG_BYTES={BIG_BYTES}"]),
    "big-length": ("big", [f"-DBIG_BYTES={BIG_BYTES}", "-DSAYS_LENGTH"]),
    "slow": ("slow", []),
}
TOOLS = ["loop", "swarm", "pace"]

FCGI = """fastcgi_param SCRIPT_FILENAME {site}$fastcgi_script_name; fastcgi_param SCRIPT_NAME $fastcgi_script_name;
 fastcgi_param QUERY_STRING $query_string; fastcgi_param REQUEST_METHOD $request_method; fastcgi_param REQUEST_URI $request_uri;
 fastcgi_param CONTENT_TYPE $content_type; fastcgi_param CONTENT_LENGTH $content_length; fastcgi_param DOCUMENT_ROOT {site};
 fastcgi_param SERVER_PROTOCOL $server_protocol; fastcgi_param GATEWAY_INTERFACE CGI/1.1; fastcgi_param REMOTE_ADDR $remote_addr;
 fastcgi_param REMOTE_PORT $remote_port; fastcgi_param SERVER_ADDR $server_addr; fastcgi_param SERVER_PORT $server_port;
 fastcgi_param SERVER_NAME $server_name; fastcgi_param HTTP_HOST $http_host;"""

# name: command, and the text of its {config}. A shell where a server needs a second program.
SERVERS = {
    "ucaffeine": ("target/release/ucaffeine {site} --port {port} --cores 1 --bind 127.0.0.1", ""),
    "ucaffeine-1g": ("target/release/ucaffeine {site} --port {port} --cores 1 --bind 127.0.0.1 --cache-bytes-max 2GiB --cached-file-bytes-max 64MiB", ""),
    "lighttpd": (
        "lighttpd -D -f {config}",
        'server.document-root = "{site}"\nserver.port = {port}\nserver.bind = "127.0.0.1"\nserver.modules = ("mod_cgi")\n'
        'server.max-keep-alive-requests = 100000000\nserver.stream-response-body = 1\n$HTTP["url"] =~ "^/cgi-bin/" {{ cgi.assign = ("" => "") }}\n',
    ),
    "nginx+fcgiwrap": (
        "sh -c 'trap \"kill 0\" TERM; fcgiwrap -c 16 -s unix:{config}.sock & nginx -c {config} & wait'",
        "daemon off; master_process off; pid {config}.pid; error_log stderr crit; events {{ }}\n"
        "http {{ access_log off; keepalive_requests 1000000000; client_body_temp_path {config}.body; proxy_temp_path {config}.proxy;\n"
        "fastcgi_temp_path {config}.fcgi; uwsgi_temp_path {config}.uwsgi; scgi_temp_path {config}.scgi;\n"
        "server {{ listen 127.0.0.1:{port}; root {site}; location /cgi-bin/ {{ fastcgi_pass unix:{config}.sock; " + FCGI + " }} }} }}\n",
    ),
    "apache-cgid": (
        "apache2 -X -f {config}",
        "ServerRoot /usr/lib/apache2\nServerName localhost\nListen 127.0.0.1:{port}\nPidFile {config}.pid\nErrorLog /dev/null\n"
        "LoadModule mpm_event_module modules/mod_mpm_event.so\nLoadModule cgid_module modules/mod_cgid.so\n"
        "LoadModule alias_module modules/mod_alias.so\nLoadModule authz_core_module modules/mod_authz_core.so\nMaxKeepAliveRequests 0\nScriptSock {config}.sock\n"
        "User nobody\nGroup nogroup\nDocumentRoot {site}\nScriptAlias /cgi-bin/ {site}/cgi-bin/\n",
    ),
}


def main():
    args = arguments()
    with tempfile.TemporaryDirectory(prefix="measure-cgi-") as folder, contextlib.ExitStack() as stack:
        folder = pathlib.Path(folder)
        folder.chmod(0o755)
        build(folder)
        servers = {name: stack.enter_context(Server(name, folder, args)) for name in args.servers}
        results = {"host": measure.host(), "command": " ".join(sys.argv), "cells": {}}
        for cell in args.cells:
            results["cells"][cell] = CELLS[cell](servers, folder, args)
            show(cell, results["cells"][cell])
            if args.json:
                pathlib.Path(args.json).write_text(json.dumps(results, indent=1) + "\n")
    return 0


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", default=",".join(CELLS), help=f"of {', '.join(CELLS)}")
    parser.add_argument("--servers", default=",".join(name for name in SERVERS if name != "ucaffeine-1g"), help=f"of {', '.join(SERVERS)}; those not installed are left out")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1)
    parser.add_argument("--server-cpu", type=int, default=0)
    parser.add_argument("--client-cpu", type=int, default=1)
    parser.add_argument("--json", metavar="FILE")
    args = parser.parse_args()
    args.cells = args.cells.split(",")
    there = lambda name: name.startswith("ucaffeine") or all(shutil.which(it) for it in name.replace("apache-cgid", "apache2").split("+"))
    args.servers = [name for name in args.servers.split(",") if there(name)]
    return args


def build(folder):
    scripts = folder / "site" / "cgi-bin"
    scripts.mkdir(parents=True)
    (folder / "site" / "1k.html").write_bytes(b"x" * 1023 + b"\n")
    for name, (source, flags) in SCRIPTS.items():
        bare = ["-static", "-nostdlib", "-fno-stack-protector", *flags]
        subprocess.run(["cc", "-O2", *bare, "-o", scripts / name, HERE / "cgi" / f"{source}.c"], check=True)
    for name in TOOLS:
        subprocess.run(["cc", "-O2", "-pthread", "-o", folder / name, HERE / "cgi" / f"{name}.c"], check=True)


class Server(measure.Server):
    def __init__(self, name, folder, args):
        command, config = SERVERS[name]
        measure.SERVERS[name] = (command, config)
        super().__init__(name, folder, args.server_cpu)
        self.url += "/cgi-bin/hello"

    def wait_until_it_answers(self):
        deadline = time.monotonic() + measure.START_DEADLINE_S
        while True:
            answer = subprocess.run(["curl", "-fsS", "--noproxy", "*", self.url], capture_output=True)
            if answer.stdout == b"hello\n":
                return
            if time.monotonic() > deadline or self.process.process.poll() is not None:
                raise measure.Failure(f"{self.name} does not answer {self.url}: {answer.stderr.decode().strip()}")
            time.sleep(0.05)

    def cpu_s(self):
        """user and system of the whole living tree, and of all that it has reaped (proc_pid_stat(5), fields 14 to 17)."""
        return sum(sum(stat[1:5]) for stat in self.tree()) * measure.TICK_S

    def tree(self):
        stats = {}
        for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                fields = path.read_text().rpartition(")")[2].split()
                stats[int(path.parent.name)] = [int(fields[1])] + [int(field) for field in fields[11:15]]
        family = {self.pid}
        while more := {pid for pid, stat in stats.items() if stat[0] in family} - family:
            family |= more
        return [stats[pid] for pid in family if pid in stats]


def on(cpu, command, **options):
    return subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE, preexec_fn=lambda: os.sched_setaffinity(0, {cpu}), **options)


def answer_of(process):
    output, _ = process.communicate(timeout=120)
    if process.returncode != 0:
        raise measure.Failure(f"{process.args[0]} failed")
    return json.loads(output)


def swarm(server, script, seconds, folder, args, at_once=AT_ONCE):
    return on(args.client_cpu, [folder / "swarm", server.port, f"/cgi-bin/{script}", seconds, at_once])


def per_request(server, script, folder, args):
    cpu, core = server.cpu_s(), measure.core_busy_s(args.server_cpu)
    done = answer_of(swarm(server, script, args.seconds, folder, args))
    # What has been answered may still have to be reaped.
    time.sleep(0.2)
    # A server that leaves the reaping to the kernel (fcgiwrap) is not charged with its children: for that one the core's time is to be believed.
    core_us = (measure.core_busy_s(args.server_cpu) - core) * 1e6 / done["answers"]
    return {"cpu_us": (server.cpu_s() - cpu) * 1e6 / done["answers"], "core_us": core_us, "per_s": done["answers"] / done["seconds"]}


def loop(how, folder, args, script="hello", count=4000, held_mib=0):
    return answer_of(on(args.server_cpu, [folder / "loop", how, count, folder / "site" / "cgi-bin" / script, held_mib]))


def interleaved(subjects, args):
    """Rounds A B C, C B A, A B C ...; the first is not counted."""
    rounds = {name: [] for name in subjects}
    for number in range(args.rounds + 1):
        names = list(subjects) if number % 2 == 0 else list(reversed(subjects))
        for name in names:
            one = subjects[name]()
            if number > 0:
                rounds[name].append(one)
    figures = lambda ones: {key: round(statistics.median(one[key] for one in ones), 1) for key in ones[0]}
    return {name: {**figures(ones), "rounds": ones} for name, ones in rounds.items()}


def hello(servers, folder, args):
    subjects = {f"loop {how}": lambda how=how: loop(how, folder, args) for how in ("vfork", "posix_spawn", "fork")}
    subjects |= {name: lambda server=server: per_request(server, "hello", folder, args) for name, server in servers.items()}
    return interleaved(subjects, args)


def start(servers, folder, args):
    """Who starts it, without a server: the process itself, a thread of it, a zygote; and from a process that holds a GiB."""
    ways = {how: lambda how=how: loop(how, folder, args) for how in ("posix_spawn", "vfork", "thread", "zygote")}
    large = {f"{how}, 1 GiB": lambda how=how: loop(how, folder, args, held_mib=1024) for how in ("vfork", "thread", "zygote")}
    # A fork copies the page tables: some of them are enough.
    large["fork, 1 GiB"] = lambda: loop("fork", folder, args, count=50, held_mib=1024)
    return interleaved(ways | large, args)


def memory(servers, folder, args):
    """hello from a server as it starts, and from one that holds a GiB of files."""
    small, large = servers["ucaffeine"], Server("ucaffeine-1g", folder, args)
    with large:
        for number in range(LARGE_FILES):
            (folder / "site" / f"{number}.bin").write_bytes(os.urandom(LARGE_FILE_BYTES))
        # A file that was written a moment ago is not kept.
        time.sleep(3)
        for _ in range(3):
            for number in range(LARGE_FILES):
                subprocess.run(["curl", "-fsS", "-o", "/dev/null", "--noproxy", "*", f"http://127.0.0.1:{large.port}/{number}.bin"], check=True)
        held = {f"{server.name} RSS": {"mib": rss_mib(server), "rounds": []} for server in (small, large)}
        subjects = {server.name: lambda server=server: per_request(server, "hello", folder, args) for server in (small, large)}
        return held | interleaved(subjects, args)


def rss_mib(server):
    return int(pathlib.Path(f"/proc/{server.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def big(script):
    def cell(servers, folder, args):
        subjects = {"loop reads it": lambda: loop("vfork", folder, args, script, 100)}
        subjects |= {name: lambda server=server: per_request(server, script, folder, args) for name, server in servers.items()}
        return interleaved(subjects, args)
    return cell


def tail(servers, folder, args):
    """Static p99 at half of what the server can do, alone, beside 32 slow scripts, and beside 16 at once of hello."""
    server = servers["ucaffeine"]
    static = lambda rate: answer_of(pace(server, rate, folder, args))
    rate = capacity(server, folder, args) // 2

    def beside(script, at_once):
        # As long as the other, and a little more; it yields the CPU that they share.
        load = subprocess.Popen(["nice", "-n", "19", str(folder / "swarm"), str(server.port), f"/cgi-bin/{script}", str(args.seconds + 1), str(at_once)],
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=lambda: os.sched_setaffinity(0, {args.client_cpu}))
        time.sleep(0.5)
        try:
            return static(rate)
        finally:
            load.terminate()
            load.wait()
            time.sleep(0.3)

    cells = {"alone": lambda: static(rate), "32 slow scripts": lambda: beside("slow", 32), "16 hello at once": lambda: beside("hello", 16)}
    return {"rate": {"per_s": rate, "rounds": []}} | interleaved(cells, args)


def pace(server, rate, folder, args):
    def prepare():
        os.sched_setaffinity(0, {args.client_cpu})
        # Its own waiting must not be taken for the server's. Not SCHED_FIFO: it spins, and the kernel stops such for 50 ms of each second.
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, -20)
    command = [folder / "pace", server.port, "/1k.html", rate, max(1, int(args.seconds)), 16, 1024]
    return subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE, preexec_fn=prepare)


def capacity(server, folder, args):
    done = answer_of(on(args.client_cpu, [folder / "swarm", server.port, "/1k.html", 1, 16]))
    return int(done["answers"] / done["seconds"])


CELLS = {"hello": hello, "10m": big("big"), "10m-length": big("big-length"), "tail": tail, "start": start, "memory": memory}


def show(cell, rows):
    print(f"\n{cell}")
    for name, row in rows.items():
        print(f"  {name:<18} " + "  ".join(f"{key} {value:.1f}" for key, value in row.items() if key != "rounds"), flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except measure.Failure as failure:
        print(f"measure-cgi: {failure}", file=sys.stderr)
        sys.exit(3)
