#!/usr/bin/env python3
"""The Debian package in a Debian of its own: installed, looked at, installed over itself, removed, purged.

Packs target/debug/poolgate; `make test-deb` builds that and what it writes of itself before. Needs root and mmdebstrap.
"""
import contextlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
BASE = ROOT / "target/deb/root"
PACKAGES = "systemd,ca-certificates,man-db"
CONFIGURATION = "etc/poolgate/poolgate.yaml"


def run(*command, fails=False, **options):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False, **options)
    if (done.returncode != 0) != fails:
        raise AssertionError(f"{command}: {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def debian():
    """A small Debian, made once."""
    if not (BASE / "usr/bin/systemd-analyze").exists():
        shutil.rmtree(BASE, ignore_errors=True)
        BASE.parent.mkdir(parents=True, exist_ok=True)
        run("mmdebstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", BASE,
            "/etc/apt/sources.list.d/debian.sources")


def pack(to):
    run("cargo", "deb", "--locked", "--no-build", "--no-strip", "--profile", "dev", "--output", to, cwd=ROOT)


def main():
    debian()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=ROOT / "target/deb")))
        package = folder / "poolgate.deb"
        pack(package)
        root = folder / "root"
        run("cp", "-a", BASE, root)
        shutil.copy(package, root / "poolgate.deb")
        inside = lambda *command, **options: run("chroot", root, *command, **options)
        stack.callback(lambda: subprocess.run(["rm", "-rf", root], check=False))

        inside("dpkg", "-i", "/poolgate.deb")
        assert inside("poolgate", "--version").startswith("poolgate ")
        assert "valid" in inside("poolgate", "check", cwd="/"), "the configuration that comes with it"
        page = inside("man", "-P", "cat", "poolgate")
        assert "LLM-API accounts" in page, page
        for path in ["usr/lib/systemd/system/poolgate.service", "usr/share/doc/poolgate/docs/operations.md",
                     "usr/share/bash-completion/completions/poolgate",
                     "usr/share/doc/poolgate/prometheus/poolgate.rules.yml"]:
            assert (root / path).is_file(), path
        # What does not concern our unit is of the container.
        said = inside("systemd-analyze", "verify", "--man=no", "poolgate.service")
        assert "poolgate.service:" not in said, said
        print("ok installed")

        configuration = root / CONFIGURATION
        configuration.write_text(configuration.read_text() + "# mine\n")
        state = root / "var/lib/private/poolgate"
        state.mkdir(parents=True)
        inside("dpkg", "--force-confdef", "--force-confold", "-i", "/poolgate.deb")
        assert configuration.read_text().endswith("# mine\n"), "an operator's configuration stays"
        print("ok installed over itself")

        inside("dpkg", "-r", "poolgate")
        inside("sh", "-c", "command -v poolgate", fails=True)
        assert configuration.is_file() and state.is_dir(), "a removal keeps configuration and state"
        print("ok removed")

        inside("dpkg", "--purge", "poolgate")
        left = [path for path in ["etc/poolgate", "var/lib/private/poolgate", "usr/share/doc/poolgate",
                                  "usr/lib/systemd/system/poolgate.service"] if (root / path).exists()]
        assert not left, left
        print("ok purged")


if __name__ == "__main__":
    sys.exit(main())
