#!/usr/bin/env python3
"""poolgate under a real systemd, booted in a container of its own from Debian's packages.

The unit is systemd/poolgate.service as operators install it, with shorter times; the upstream is `poolgate mock`
outside. Needs root, systemd-nspawn and mmdebstrap; where these are missing it says so and ends well, with
--must it fails instead. Ends everything that it started.
"""
import argparse
import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
UNIT = ROOT / "systemd" / "poolgate.service"
SOCKET = ROOT / "systemd" / "poolgate.socket"
PACKAGES = "systemd,systemd-sysv,dbus,procps"
UNNEEDED = ["systemd-networkd", "systemd-resolved", "systemd-timesyncd", "getty@tty1", "console-getty",
            "systemd-logind"]
PATIENCE = 60
# Of 10, less is better; `systemd-analyze security` prints it.
WORST_SCORE = 1.5
WATCHDOG = 4

# What tests need shorter, and what a machine without the operator's files lacks.
DROP_IN = f"""[Service]
WatchdogSec={WATCHDOG}s
LoadCredential=vendor:/etc/poolgate/vendor.key
"""


def wait_for(what, look, patience=PATIENCE):
    end = time.monotonic() + patience
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"waited in vain for {what}")
        time.sleep(0.05)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Machine:
    """A booted systemd with poolgate installed in it."""

    def __init__(self, root, binary):
        self.root = root
        self.name = f"poolgate-{os.getpid()}"
        self.log = open(root.parent / "systemd.log", "w", encoding="utf-8")
        shutil.copy(binary, root / "usr/bin/poolgate")
        shutil.copy(UNIT, root / "etc/systemd/system/poolgate.service")
        drop_in = root / "etc/systemd/system/poolgate.service.d"
        drop_in.mkdir(exist_ok=True)
        (drop_in / "test.conf").write_text(DROP_IN)
        self.etc = root / "etc/poolgate"
        self.etc.mkdir(exist_ok=True)
        shutil.rmtree(root / "var/lib/private/poolgate", ignore_errors=True)
        command = ["systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "-D", root, "--boot",
                   f"--machine={self.name}", "--console=pipe", "systemd.log_target=console"]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
                                        start_new_session=True)
        self.leader = None

    def boot(self):
        children = lambda: subprocess.run(["pgrep", "-P", str(self.process.pid)], capture_output=True,
                                          text=True, check=False).stdout.split()
        self.leader = wait_for("the container", lambda: self.process.poll() is None and children())[0]
        running = lambda: self("systemctl", "is-system-running", check=False).stdout.strip()
        wait_for("systemd", lambda: running() in ("running", "degraded"))

    def __call__(self, *command, check=True):
        inside = ["nsenter", "-t", self.leader, "-a", *command]
        done = subprocess.run(inside, capture_output=True, text=True, check=False, timeout=PATIENCE * 2)
        if check and done.returncode != 0:
            raise AssertionError(f"{' '.join(command)}: {done.stdout}{done.stderr}{self.journal()}")
        return done

    def show(self, key):
        return self("systemctl", "show", "-p", key, "--value", "poolgate").stdout.strip()

    def journal(self):
        command = ["journalctl", "--no-pager", "-o", "cat", "-u", "poolgate", "-n", "40"]
        return "\n" + self(*command, check=False).stdout

    def end(self):
        """The container's init dies with nspawn, and all of its processes with it."""
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self.log.close()


class Load:
    """Requests without a pause, on connections that are kept and on new ones, until it is left."""

    def __init__(self, port, threads=4):
        self.port, self.whole, self.failed = port, 0, []
        self.over = threading.Event()
        self.threads = [threading.Thread(target=self.ask, args=(n % 2 == 0,)) for n in range(threads)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        wait_for("the load", lambda: self.whole > 50)
        return self

    def __exit__(self, *_):
        self.over.set()
        for thread in self.threads:
            thread.join()

    def ask(self, keep):
        connection = None
        while not self.over.is_set():
            try:
                connection = connection or http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
                status, text, closes = chat(connection)
                if status == 200 and text.endswith("[DONE]\n\n"):
                    self.whole += 1
                else:
                    self.failed.append(f"{status}: {text[:200]}")
                if closes or not keep:
                    connection.close()
                    connection = None
            except (OSError, http.client.HTTPException) as error:
                self.failed.append(repr(error))
                connection = None
            time.sleep(0.002)


def chat(connection):
    """One stream: its status, its text, and whether the connection ends with it."""
    message = {"role": "user", "content": "Hello"}
    body = json.dumps({"model": "gpt-5", "stream": True, "messages": [message]})
    connection.request("POST", "/v1/chat/completions", body,
                       {"content-type": "application/json", "authorization": "Bearer test-key"})
    answer = connection.getresponse()
    text = answer.read().decode()
    return answer.status, text, answer.will_close


class House:
    """The configuration, and what it points to."""

    def __init__(self, machine, binary):
        self.machine = machine
        self.port, self.admin, self.vendor_port = free_port(), free_port(), free_port()
        (machine.etc / "vendor.key").write_text("vendor-token\n")
        (machine.etc / "vendor.key").chmod(0o400)
        self.vendor = subprocess.Popen([binary, "mock", "--port", str(self.vendor_port)],
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.write(["a"])

    def write(self, accounts, tail=""):
        lines = [f"      - {{id: {name}, upstream: \"http://127.0.0.1:{self.vendor_port}\", credential: "
                 "{api_key: {file: \"${CREDENTIALS_DIRECTORY}/vendor\"}}}" for name in accounts]
        text = "\n".join([f"listen: [{{address: \"127.0.0.1:{self.port}\"}}]",
                          f"admin: {{address: \"127.0.0.1:{self.admin}\"}}",
                          "clients: {open: false, keys: [{name: test, key: test-key}]}",
                          "state: {dir: /var/lib/poolgate}", "server: {drain_delay: 0s, drain_timeout: 20s}",
                          "pools:", "  default:", "    accounts:", *lines, tail, ""])
        (self.machine.etc / "poolgate.yaml").write_text(text)
        (self.machine.etc / "poolgate.yaml").chmod(0o644)

    def accounts(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.admin, timeout=5)
        token = (self.machine.root / "var/lib/private/poolgate/admin.token").read_text().strip()
        connection.request("GET", "/api/v1/accounts", headers={"authorization": f"Bearer {token}"})
        return sorted(account["id"] for account in json.loads(connection.getresponse().read())["accounts"])

    def is_served(self):
        try:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
            return chat(connection)[0] == 200
        except (OSError, http.client.HTTPException):
            return False


def starts(machine, house):
    machine("systemctl", "start", "poolgate")
    assert machine.show("ActiveState") == "active"
    # Type=notify: it said it is ready, so it is.
    assert house.is_served(), machine.journal()
    state = machine.root / "var/lib/private/poolgate"
    assert state.stat().st_mode & 0o777 == 0o700, oct(state.stat().st_mode)


def is_hardened(machine, _):
    text = machine("systemd-analyze", "security", "--no-pager", "poolgate").stdout
    score = float(re.search(r"Overall exposure level for poolgate.service: ([0-9.]+)", text)[1])
    assert score <= WORST_SCORE, text
    return f"exposure {score}"


def reloads_under_load(machine, house):
    with Load(house.port) as load:
        for n in range(5):
            names = ["a", "b"] if n % 2 == 0 else ["a"]
            house.write(names)
            machine("systemctl", "reload", "poolgate")
            assert house.accounts() == names
            house.write(names, tail="routes: {nonsense")
            refused = machine("systemctl", "reload", "poolgate", check=False)
            assert refused.returncode != 0, "a file with a mistake was reloaded without a word"
            assert house.accounts() == names and machine.show("ActiveState") == "active"
            house.write(names)
    assert not load.failed, load.failed[:3]
    return f"{load.whole} requests"


def upgrades_under_load(machine, house):
    pids = [machine.show("MainPID")]
    with Load(house.port) as load:
        for _ in range(3):
            machine("poolgate", "upgrade", "-c", "/etc/poolgate/poolgate.yaml")
            pid = wait_for("systemd to know the successor", lambda: machine.show("MainPID") not in pids
                           and machine.show("MainPID"))
            pids.append(pid)
            assert machine.show("ActiveState") == "active"
        machine("systemctl", "reload", "poolgate")
        # The watchdog is fed by the successor from now on.
        time.sleep(2 * WATCHDOG)
    assert not load.failed, load.failed[:3]
    assert machine.show("MainPID") == pids[-1] and machine.show("NRestarts") == "0", machine.journal()
    return f"{load.whole} requests"


def keeps_its_programs_over_an_upgrade(machine, house):
    programs = [f"      - {{id: {name}, instance: {{command: [/usr/bin/poolgate, mock, --port, \"{{port}}\"]}}, "
                "health_check: {path: /v1/models}}" for name in ("p", "q")]
    house.write(["a"], tail="\n".join(programs))
    machine("systemctl", "reload", "poolgate")
    pids = lambda: sorted(machine("pgrep", "-f", "poolgate mock", check=False).stdout.split())
    try:
        wait_for("two programs", lambda: len(pids()) == 2, 8)
    except AssertionError as error:
        raise AssertionError(f"{error}{machine.journal()}")
    before = pids()
    with Load(house.port) as load:
        machine("poolgate", "upgrade", "-c", "/etc/poolgate/poolgate.yaml")
        served = load.whole
        wait_for("the successor to serve", lambda: load.whole > served + 50)
    assert not load.failed, load.failed[:3]
    assert pids() == before, (pids(), before, machine.journal())
    house.write(["a"])
    machine("systemctl", "reload", "poolgate")
    wait_for("the programs to be ended", lambda: not pids())


def comes_back_after_a_kill(machine, house):
    before = machine.show("MainPID")
    machine("systemctl", "kill", "--signal=KILL", "poolgate")
    wait_for("another process", lambda: machine.show("MainPID") not in ("0", before)
             and machine.show("ActiveState") == "active")
    assert house.is_served(), machine.journal()
    assert int(machine.show("NRestarts")) >= 1


def is_left_alone_while_it_lives(machine, house):
    before = machine.show("MainPID")
    with Load(house.port) as load:
        time.sleep(3 * WATCHDOG)
    assert not load.failed and machine.show("MainPID") == before, machine.journal()


def is_ended_when_it_hangs(machine, _):
    before = machine.show("MainPID")
    machine("kill", "-STOP", before)
    wait_for("the watchdog", lambda: machine.show("MainPID") not in ("0", before)
             and machine.show("ActiveState") == "active")
    assert machine.show("NRestarts") == "1", machine.journal()


def stops_when_its_streams_have_ended(machine, house):
    connection = http.client.HTTPConnection("127.0.0.1", house.port, timeout=20)
    message = {"role": "user", "content": "Hello"}
    body = json.dumps({"model": "gpt-5", "stream": True, "messages": [message]})
    connection.request("POST", "/v1/chat/completions", body,
                       {"content-type": "application/json", "authorization": "Bearer test-key",
                        "x-mock-gap": "200ms"})
    answer = connection.getresponse()
    machine("systemctl", "stop", "poolgate")
    assert answer.read().decode().endswith("[DONE]\n\n")
    assert machine.show("ActiveState") == "inactive" and machine.show("Result") == "success"
    left = machine("pgrep", "-x", "poolgate", check=False).stdout.split()
    assert not left, left


def loses_only_what_is_in_flight_behind_a_socket(machine, house):
    unit = machine.root / "etc/systemd/system"
    shutil.copy(SOCKET, unit / "poolgate.socket")
    drop_in = unit / "poolgate.socket.d"
    drop_in.mkdir(exist_ok=True)
    (drop_in / "test.conf").write_text(f"[Socket]\nListenStream=\nListenStream=127.0.0.1:{house.port}\n")
    machine("systemctl", "daemon-reload")
    machine("systemctl", "stop", "poolgate")
    machine("systemctl", "start", "poolgate.socket")
    # The first connection starts it.
    assert house.is_served(), machine.journal()
    kills = 3
    with Load(house.port) as load:
        for _ in range(kills):
            before = machine.show("MainPID")
            machine("systemctl", "kill", "--signal=KILL", "poolgate")
            wait_for("another process", lambda: machine.show("MainPID") not in ("0", before)
                     and machine.show("ActiveState") == "active")
            served = load.whole
            wait_for("requests to be served again", lambda: load.whole > served + 20)
    in_flight = kills * len(load.threads)
    assert len(load.failed) <= in_flight, load.failed
    refused = [failure for failure in load.failed if "Refused" in failure]
    assert not refused, refused
    machine("systemctl", "stop", "poolgate.socket", "poolgate.service")
    return f"{load.whole} requests, {len(load.failed)} of them lost to {kills} kills"


SCENES = [starts, is_hardened, reloads_under_load, upgrades_under_load,
          keeps_its_programs_over_an_upgrade, is_left_alone_while_it_lives,
          is_ended_when_it_hangs, comes_back_after_a_kill, stops_when_its_streams_have_ended,
          loses_only_what_is_in_flight_behind_a_socket]


def missing():
    if os.geteuid() != 0:
        return "this needs root"
    tools = [tool for tool in ("systemd-nspawn", "mmdebstrap", "nsenter", "pgrep") if not shutil.which(tool)]
    return f"not installed: {', '.join(tools)}" if tools else None


def debian(root):
    """A small Debian with systemd, made once."""
    if (root / "usr/bin/systemd-analyze").exists():
        return
    shutil.rmtree(root, ignore_errors=True)
    root.parent.mkdir(parents=True, exist_ok=True)
    sources = "/etc/apt/sources.list.d/debian.sources"
    command = ["mmdebstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", root, sources]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    if done.returncode != 0:
        shutil.rmtree(root, ignore_errors=True)
        raise AssertionError(f"no Debian: {done.stderr[-500:]}")
    for unit in UNNEEDED:
        (root / f"etc/systemd/system/{unit}.service").symlink_to("/dev/null")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", type=Path, default=ROOT / "target/debug/poolgate")
    parser.add_argument("--root", type=Path, default=ROOT / "target/systemd/root")
    parser.add_argument("--only", help="names of scenes, beside `starts`, with commas")
    parser.add_argument("--must", action="store_true", help="fail where systemd cannot be booted")
    options = parser.parse_args()
    lacks = missing()
    if lacks:
        print(f"systemd was not tried: {lacks}")
        sys.exit(1 if options.must else 0)
    chosen = options.only and ["starts", *options.only.split(",")]
    with contextlib.ExitStack() as stack:
        try:
            debian(options.root)
            machine = Machine(options.root, options.binary)
            stack.callback(machine.end)
            machine.boot()
        except (AssertionError, OSError, subprocess.SubprocessError) as error:
            print(f"systemd was not tried: {error}; see {options.root.parent / 'systemd.log'}")
            sys.exit(1 if options.must else 0)
        house = House(machine, options.binary)
        stack.callback(house.vendor.wait)
        stack.callback(house.vendor.kill)
        for scene in SCENES:
            if chosen and scene.__name__ not in chosen:
                continue
            begun = time.monotonic()
            said = scene(machine, house)
            note = f" ({said})" if said else ""
            print(f"ok {scene.__name__}{note}: {time.monotonic() - begun:.1f} s", flush=True)


if __name__ == "__main__":
    main()
