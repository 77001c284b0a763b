"""Processes, ports and folders of the rivals' runs."""
import datetime
import os
import platform
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hawser" / "rivals"
TARGET = Path(os.environ.get("CARGO_TARGET_DIR") or CACHE.parent / "target") / "release"


class Failure(Exception):
    """What a person has to mend, in words."""


def program(name):
    """A program of the release build."""
    path = TARGET / name
    if not path.exists():
        raise Failure(f"{path} is missing: cargo build --release -p hawser-benches -p hawser-gateway")
    return str(path)


def output(*command):
    """What a command prints, on either stream."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return done.stdout.strip()


def free_ports(count):
    """Ports that nobody listens on at the moment."""
    held = [socket.socket() for _ in range(count)]
    for one in held:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


def scratch(name):
    """An empty folder for one start of one server."""
    folder = CACHE / "run" / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


class Process:
    """One server. It is ended by its process id, together with what it started."""

    def __init__(self, command, port, log, core=None, env=None, cwd=None):
        pinned = ["taskset", "-c", str(core), *command] if core is not None else list(command)
        self.log = Path(log)
        # In a group of its own, so that its children end with it.
        self.child = subprocess.Popen(pinned, stdout=self.log.open("w"), stderr=subprocess.STDOUT, cwd=cwd,
                                      stdin=subprocess.DEVNULL, env={**os.environ, **(env or {})},
                                      start_new_session=True)
        self.pid = self.child.pid
        self.wait_for(port)

    def wait_for(self, port):
        """Until somebody listens at the port."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if self.child.poll() is not None:
                raise Failure(f"{self.child.args} ended at once:\n{self.tail()}")
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.05)
        self.stop()
        raise Failure(f"{self.child.args} does not listen on {port}:\n{self.tail()}")

    def tail(self):
        """The last lines of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])

    def stop(self):
        """Asks it to end, then ends it."""
        for sign, patience in ((signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)):
            if self.child.poll() is None:
                os.killpg(self.pid, sign)
                deadline = time.monotonic() + patience
                while self.child.poll() is None and time.monotonic() < deadline:
                    time.sleep(0.05)


def describe():
    """Date and machine in words."""
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    memory = int(Path("/proc/meminfo").read_text().split()[1]) // 1024 // 1024
    return (datetime.date.today().isoformat(),
            f"{os.cpu_count()} shared virtual cores ({model}), {memory} GiB, Linux {platform.release()}, "
            f"load before the run {os.getloadavg()[0]:.1f}")
