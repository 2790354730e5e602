#!/usr/bin/env python3
"""Measures poolgate beside bare Pingora, nginx and HAProxy, in one run and on one core.

CPU per request is what the operating system charged the proxy's process, divided by the requests it
answered; the rounds alternate, so that a noisy minute is shared by all. Memory per stream is the
growth of the process. Nothing leaves this machine. `make bench-peers` builds what this needs.
"""
import argparse
import datetime
import json
import os
import platform
import re
import resource
import shutil
import signal
import socket
import statistics
import string
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PAGE = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
FILES = 20_000
CONNECTIONS = 64
PROXY_CORE, LOAD_CORE = {0}, {1}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(command, core, **kwargs):
    """A process on one core, in a group of its own, with as many files as it may need."""
    def prepare():
        os.sched_setaffinity(0, core)
    return subprocess.Popen([str(word) for word in command], preexec_fn=prepare, **kwargs)


def stop(process):
    process.send_signal(signal.SIGKILL)
    process.wait()


class Proxy:
    """A proxy in front of the measuring upstream, in a folder of its own."""

    def __init__(self, name, command, config, upstream):
        self.name = name
        self.folder = tempfile.TemporaryDirectory(prefix="peers-")
        self.port = free_port()
        values = {"LISTEN": f"127.0.0.1:{self.port}", "UPSTREAM": upstream,
                  "ADMIN": f"127.0.0.1:{free_port()}", "DIR": self.folder.name}
        if config:
            values["CONFIG"] = f"{self.folder.name}/{config}"
            text = string.Template((HERE / config).read_text()).safe_substitute(values)
            Path(values["CONFIG"]).write_text(text)
        command = [string.Template(str(word)).safe_substitute(values) for word in command]
        output = open(f"{self.folder.name}/output", "w", encoding="utf-8")
        self.process = start(command, PROXY_CORE, stdout=output, stderr=output)
        self.wait()

    def wait(self):
        for _ in range(200):
            if self.process.poll() is not None:
                break
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.05)
        sys.exit(f"{self.name} does not listen:\n" + Path(f"{self.folder.name}/output").read_text())

    def cpu_seconds(self):
        """User and system time of all its threads (proc(5), fields 14 and 15 of stat)."""
        stat = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")

    def memory_kib(self):
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1])

    def load(self, seconds):
        """Requests answered, CPU microseconds for each, requests in a second, p99 in ms."""
        before, began = self.cpu_seconds(), time.monotonic()
        command = ["taskset", "-c", ",".join(map(str, LOAD_CORE)), "wrk", "-t1", f"-c{CONNECTIONS}",
                   f"-d{seconds}s", "--latency", "-s", HERE / "load.lua",
                   f"http://127.0.0.1:{self.port}/v1/chat/completions"]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        cpu, took = self.cpu_seconds() - before, time.monotonic() - began
        answered = int(re.search(r"(\d+) requests in", said)[1])
        if "Non-2xx" in said or "Socket errors" in said or not answered:
            sys.exit(f"{self.name} failed under load:\n{said}")
        p99 = re.search(r"99%\s+([\d.]+)(us|ms|s)", said)
        p99 = float(p99[1]) * {"us": 0.001, "ms": 1, "s": 1000}[p99[2]]
        return {"cpu": cpu / answered * 1e6, "rate": answered / took, "p99": p99}

    def streams(self, tool, count, seconds):
        before = self.memory_kib()
        client = start([tool, "streams", f"127.0.0.1:{self.port}", count, seconds], LOAD_CORE,
                       stdout=subprocess.PIPE, text=True)
        if client.stdout.readline().strip() != "open":
            sys.exit(f"{self.name}: the clients of the streams failed")
        time.sleep(seconds / 2)
        memory = self.memory_kib() - before
        seen = json.loads(client.stdout.readline())
        client.wait()
        if seen["alive"] != count:
            sys.exit(f"{self.name}: {count - seen['alive']} of {count} streams ended")
        return {"kb": memory * 1.024 / count, **seen}

    def stop(self):
        stop(self.process)
        self.folder.cleanup()


def peers(tool, poolgate, only):
    """Name, command and configuration of each; what is not installed is left out, and said."""
    found = {
        "poolgate": ([poolgate, "run", "-c", "$CONFIG"], "poolgate.yaml"),
        "slots": ([poolgate, "run", "-c", "$CONFIG"], "slots.yaml"),
        "bare Pingora 0.9.1": ([tool, "bare", "$LISTEN", "$UPSTREAM"], None),
        "nginx": (["nginx", "-p", "$DIR", "-c", "$CONFIG"], "nginx.conf"),
        "HAProxy": (["haproxy", "-db", "-f", "$CONFIG"], "haproxy.cfg"),
    }
    for name, program, option in [("nginx", "nginx", "-v"), ("HAProxy", "haproxy", "-v")]:
        os.environ["PATH"] += ":/usr/sbin"
        if not shutil.which(program):
            print(f"{name} is not installed (make bench-deps): left out")
            del found[name]
            continue
        said = subprocess.run([program, option], capture_output=True, text=True, check=False)
        version = re.search(r"(\d+\.\d+)", said.stdout + said.stderr)[1]
        found[f"{name} {version}"] = found.pop(name)
    words = only.split(",") if only else [name.lower() for name in found if name != "slots"]
    return {name: how for name, how in found.items() if any(word in name.lower() for word in words)}


def measure_requests(proxies, rounds, seconds):
    """The median over rounds that take turns; one round before does not count."""
    runs = {proxy.name: [] for proxy in proxies}
    for turn in range(rounds + 1):
        for proxy in proxies:
            run = proxy.load(seconds)
            if turn:
                runs[proxy.name].append(run)
            print(f"  round {turn} {proxy.name:20} {run['cpu']:6.1f} µs CPU/request "
                  f"{run['rate']:8.0f} requests/s  p99 {run['p99']:.1f} ms", flush=True)
    bare = next((of for name, of in runs.items() if name.startswith("bare")), None)
    figures = {}
    for name, of in runs.items():
        figures[name] = {key: statistics.median(run[key] for run in of) for key in of[0]}
        figures[name]["cpu_range"] = min(run["cpu"] for run in of), max(run["cpu"] for run in of)
        if bare:
            # Round by round: both of a pair had the same neighbours on this machine.
            pairs = [run["cpu"] / other["cpu"] for run, other in zip(of, bare)]
            figures[name]["ratio"] = statistics.median(pairs)
    return figures


def table(requests, streams, count):
    lines = [f"| | CPU µs/request (min–max) | × bare | requests/s | p99 ms | KB/stream, {count} streams "
             "| event delay p50 / p99 ms | p99 while opening |", "|---|" + "---|" * 7]
    for name in requests or streams:
        cells = [f"**{name}**" if name == "poolgate" else name]
        r, s = requests.get(name), streams.get(name)
        low, high = r["cpu_range"] if r else (0, 0)
        cells += [f"{r['cpu']:.1f} ({low:.1f}–{high:.1f})", f"{r['ratio']:.2f}" if "ratio" in r else "",
                  f"{r['rate']:,.0f}", f"{r['p99']:.1f}"] if r else [""] * 4
        cells += [f"{s['kb']:.1f}", f"{s['open']['p50']:.1f} / {s['open']['p99']:.1f}",
                  f"{s['opening']['p99']:.1f}"] if s else [""] * 3
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def machine():
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    model = model[1] if model else platform.machine()
    return f"{os.cpu_count()} cores of {model}, Linux {platform.release()}"


def write_page(text):
    page = PAGE.read_text()
    before, rest = page.split(BEGIN)
    after = rest.split(END)[1]
    PAGE.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")
    print(f"written to {PAGE.relative_to(ROOT)}")


def options():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4, help="of load, each round")
    parser.add_argument("--streams", type=int, default=1000, help="0 to leave them out")
    parser.add_argument("--hold", type=int, default=10, help="seconds that the streams are held")
    parser.add_argument("--only", default="", help="parts of names, as poolgate,bare; `slots` (poolgate with a key that has a slot and limits) only if named")
    parser.add_argument("--poolgate", type=Path, default=ROOT / "target/release/poolgate")
    parser.add_argument("--peers", type=Path, help="the built bench program; made by `make bench-peers`")
    parser.add_argument("--write", action="store_true", help="put the table into docs/performance.md")
    return parser.parse_args()


def main():
    asked = options()
    if not shutil.which("wrk") or os.cpu_count() < 2:
        sys.exit("this needs wrk (make bench-deps) and two cores")
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, max(FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[1])))
    os.sched_setaffinity(0, LOAD_CORE)
    address = f"127.0.0.1:{free_port()}"
    upstream = start([asked.peers, "upstream", address], LOAD_CORE)
    running, requests, streams = [], {}, {}
    try:
        everyone = peers(asked.peers, asked.poolgate, asked.only)
        if asked.rounds:
            running = [Proxy(name, *how, address) for name, how in everyone.items()]
            requests = measure_requests(running, asked.rounds, asked.seconds)
            while running:
                running.pop().stop()
        for name, how in everyone.items() if asked.streams else ():
            running = [Proxy(name, *how, address)]
            running[0].load(1)
            streams[name] = running[0].streams(asked.peers, asked.streams, asked.hold)
            running.pop().stop()
            print(f"  streams {name:20} {streams[name]}", flush=True)
    finally:
        for proxy in running:
            proxy.stop()
        stop(upstream)
    text = (f"{datetime.date.today()}, {machine()}; one core for the proxy, {CONNECTIONS} connections, "
            f"requests of 1 KiB, answers of 0.6 KiB; median of {asked.rounds} rounds of {asked.seconds} s.\n\n"
            + table(requests, streams, asked.streams))
    print("\n" + text)
    if asked.write:
        write_page(text)


if __name__ == "__main__":
    main()
