#!/usr/bin/env python3
"""What an open dashboard costs: the gateway's processor time with 1,000 accounts and 1,000 requests a second,
without anybody looking, with one page open (its event stream), and again without. The rounds alternate.

    benches/page.py [POOLGATE] [--rounds 3] [--seconds 15]

All that runs is on this machine and ends with it. Exit status 1: a page costs 2 % of a core or more.
"""
import argparse
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
CONNECTIONS = 20
BODY = b'{"model":"gpt-5","messages":[{"role":"user","content":"Hello"}]}'


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(port):
    for _ in range(200):
        try:
            return socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            time.sleep(0.05)
    raise SystemExit(f"nobody listens at {port}")


def spent(pid):
    """Seconds of processor time of the process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


class Load:
    """So many requests a second over kept connections, at even distances."""

    def __init__(self, port, rate):
        self.port, self.gap = port, CONNECTIONS / rate
        self.done, self.over = 0, False
        self.threads = [threading.Thread(target=self.client, args=(n,), daemon=True) for n in range(CONNECTIONS)]
        for thread in self.threads:
            thread.start()

    def client(self, n):
        request = (b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
                   b"content-length: %d\r\n\r\n" % len(BODY)) + BODY
        wire = socket.create_connection(("127.0.0.1", self.port))
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        due = time.monotonic() + self.gap * n / CONNECTIONS
        while not self.over:
            time.sleep(max(0, due - time.monotonic()))
            due += self.gap
            wire.sendall(request)
            answer = b""
            while b"\r\n\r\n" not in answer:
                answer += wire.recv(65536)
            head, body = answer.split(b"\r\n\r\n", 1)
            assert head.startswith(b"HTTP/1.1 200"), head
            length = int(head.lower().split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
            while len(body) < length:
                body += wire.recv(65536)
            self.done += 1

    def end(self):
        self.over = True
        for thread in self.threads:
            thread.join()


class Watching:
    """One who looks at the page: its stream is read."""

    def __init__(self, port, token):
        self.bytes = 0
        self.wire = socket.create_connection(("127.0.0.1", port))
        self.wire.sendall(f"GET /api/v1/events HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {token}\r\n\r\n".encode())
        head = self.wire.recv(64)
        assert head.startswith(b"HTTP/1.1 200"), head
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self):
        try:
            while piece := self.wire.recv(1 << 20):
                self.bytes += len(piece)
        except OSError:
            pass

    def leave(self):
        self.wire.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        return self.bytes


def main():
    options = argparse.ArgumentParser()
    options.add_argument("poolgate", nargs="?", default="target/release/poolgate")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--seconds", type=float, default=15)
    options.add_argument("--accounts", type=int, default=1000)
    options.add_argument("--rate", type=int, default=1000)
    it = options.parse_args()
    poolgate = str(Path(it.poolgate).resolve())
    vendor, clients, admin = free_port(), free_port(), free_port()
    with tempfile.TemporaryDirectory() as folder:
        accounts = "".join(f'      - {{id: account-{n:04}, upstream: "http://127.0.0.1:{vendor}", credential: {{api_key: k}}}}\n' for n in range(it.accounts))
        Path(folder, "poolgate.yaml").write_text(
            f"listen: [{{address: 127.0.0.1:{clients}}}]\nadmin: {{address: 127.0.0.1:{admin}}}\nlog: {{file: log}}\n"
            f"pools:\n  default:\n    accounts:\n{accounts}", encoding="utf-8")
        log = open(Path(folder, "out"), "wb")
        start = lambda *words: subprocess.Popen([poolgate, *words], cwd=folder, stdout=log, stderr=log)
        running = [start("mock", "--port", str(vendor)), start("run", "-c", "poolgate.yaml")]
        try:
            wait_for(clients)
            wait_for(admin)
            return measure(it, running[1].pid, clients, admin, Path(folder, "data/admin.token").read_text().strip())
        finally:
            for process in running:
                process.send_signal(signal.SIGKILL)
                process.wait()


def measure(it, pid, clients, admin, token):
    load = Load(clients, it.rate)
    time.sleep(3)
    shares = {False: [], True: []}
    for n in range(2 * it.rounds + 1):
        watched = n % 2 == 1
        page = Watching(admin, token) if watched else None
        time.sleep(1)
        begun, before, done = time.monotonic(), spent(pid), load.done
        time.sleep(it.seconds)
        took = time.monotonic() - begun
        share = (spent(pid) - before) / took * 100
        rate = (load.done - done) / took
        shares[watched].append(share)
        told = f", {page.leave() / (took + 1) / 1000:.0f} KB/s told" if page else ""
        print(f"{'a page is open' if watched else 'nobody looks  '}  {share:6.2f} % of a core at {rate:.0f} requests/s{told}", flush=True)
    load.end()
    cost = statistics.median(shares[True]) - statistics.median(shares[False])
    print(f"an open page costs {cost:.2f} % of a core")
    return 0 if cost < 2 else 1


if __name__ == "__main__":
    sys.exit(main())
