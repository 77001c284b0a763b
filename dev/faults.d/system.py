"""The system under test: dev/cluster and dev/engines by their commands, load by hawser-loadgen, metrics while it runs."""

import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import threading
import time
import tomllib
import urllib.request

DEV = pathlib.Path(__file__).resolve().parent.parent
ROOT = DEV.parent
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "hawser"
RUN = pathlib.Path(os.environ.get("HAWSER_CLUSTER_RUN") or CACHE / "cluster")
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or CACHE / "target")
# As dev/cluster up chose them.
CHOSEN = (RUN / "bin").read_text().strip() if (RUN / "bin").exists() else TARGET / "debug"
BIN = pathlib.Path(os.environ.get("HAWSER_CLUSTER_BIN") or CHOSEN)
LOADGEN = pathlib.Path(os.environ.get("HAWSER_LOADGEN") or BIN / "hawser-loadgen")
SAMPLE_S = 0.5
# Engines and programs come and go within this, or the machine is not fit for the run.
COMMAND_S = 400
# Load that nobody ends, ends by itself.
LOAD_S = 3_600


class Failed(Exception):
    """A command of the system did not do what it says."""


def call(program, *words, env=None):
    """Runs dev/PROGRAM and returns what it printed."""
    done = subprocess.run([str(DEV / program), *words], capture_output=True, text=True, timeout=COMMAND_S, check=False,
                          env=None if env is None else os.environ | env)
    if done.returncode != 0:
        raise Failed(f"dev/{program} {' '.join(words)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def cluster(*words, env=None):
    return call("cluster", *words, env=env)


def engines(*words):
    return call("engines", *words)


def config(name):
    with open(RUN / name / "config.toml", "rb") as file:
        return tomllib.load(file)


def names(kind):
    return sorted(path.name for path in RUN.glob(f"{kind}-*") if (path / "pid").exists())


def pid_of(name):
    """Of a process of dev/cluster, or of an engine."""
    if (RUN / name / "pid").exists():
        return int((RUN / name / "pid").read_text().split()[0])
    line = next((line for line in engines("status").splitlines() if line.startswith(name + " ")), "")
    found = re.search(r"pid (\d+)", line)
    if not found:
        raise Failed(f"{name} does not run")
    return int(found.group(1))


def admin(name):
    return "http://" + config(name)["listen"]["admin"]


def get(url):
    with urllib.request.urlopen(url, timeout=3) as answer:
        return answer.read().decode()


def metric(name, family):
    """Sum of a family over its series, as one process shows it now."""
    total = 0.0
    for line in get(admin(name) + "/metrics").splitlines():
        if line.startswith(family) and line[len(family)] in " {":
            total += float(line.rsplit(" ", 1)[1])
    return total


def leader(of="chat-messages"):
    """The broker that leads most partitions of such topics: kafka-N."""
    topics = engines("tool", "TopicCommand", "--list").split()
    mine = [topic for topic in topics if of in topic]
    count = {}
    for topic in mine:
        for found in re.finditer(r"Leader: (\d+)", engines("tool", "TopicCommand", "--describe", "--topic", topic)):
            count[found.group(1)] = count.get(found.group(1), 0) + 1
    if not count:
        raise Failed(f"{of} has no leader")
    return "kafka-" + max(count, key=count.get)


def rows(keyspace="hawser"):
    """(chat, ordinal, seq) of every message that Cassandra holds, read from its table."""
    text = engines("tool", "cql", f"SELECT chat, ordinal, seq FROM {keyspace}.messages_by_chat")
    found = re.findall(r"^\W*(dm:\S+|g:\S+?)[\s|,]+(\d+)[\s|,]+(\d+)\W*$", text, re.MULTILINE)
    return [(chat, int(ordinal), int(seq)) for chat, ordinal, seq in found]


@contextlib.contextmanager
def settings(words):
    """Every gateway is started again with settings (SECTION.KEY=VALUE, by its name) besides its file, and afterwards as it was."""
    everyone = names("gateway")
    try:
        cluster("end", *everyone)
        for name in everyone:
            cluster("start", name, env={"HAWSER_CLUSTER_SET": " ".join(words(name))})
        yield
    finally:
        cluster("end", *everyone)
        cluster("start", *everyone)


@contextlib.contextmanager
def addresses(*own):
    """The machine has these addresses besides, on its loopback device: no packet leaves, and to a node they are not loopback."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        raise Failed("it needs root and ip (package iproute2)")

    def ip(verb, address):
        bits, options = (128, ["nodad"]) if ":" in address else (32, [])
        return subprocess.run(["ip", "address", verb, f"{address}/{bits}", "dev", "lo", *(options if verb == "add" else [])],
                              capture_output=True, text=True, check=False)

    try:
        for address in own:
            ip("del", address)
            done = ip("add", address)
            if done.returncode != 0:
                raise Failed(f"ip address add {address}: {done.stderr.strip()}")
        yield
    finally:
        for address in own:
            ip("del", address)


def lag():
    """Records that ingest has not committed; every ingest sees those of all, whoever lives is asked."""
    for name in names("ingest"):
        try:
            return metric(name, "hawser_ingest_lag_records")
        except OSError:
            continue
    raise Failed("no ingest answers")


def nft(text):
    done = subprocess.run(["nft", "-f", "-"], input=text, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Failed(f"nft: {done.stderr.strip()}")


class Silence:
    """Packets of some clients' connections vanish, both ways and without a word, by the kernel's packet filter (as root)."""

    TABLE = "inet hawser_silence"

    def __init__(self, ports):
        """`ports` are the nodes' own."""
        if os.geteuid() != 0 or shutil.which("nft") is None or shutil.which("ss") is None:
            raise Failed("it needs root, nft (package nftables) and ss (package iproute2)")
        self.ports = ports
        self.heal()

    def connections(self):
        """The clients' ports, of all that are open now."""
        return sorted(self._established("dport", 2))

    def held(self, clients):
        """Of these, how many the nodes still hold open."""
        return len(self._established("sport", 3) & set(clients))

    def _established(self, side, column):
        """The clients' ports of sockets that are the clients' (`dport` is a node's), or the nodes' (`sport` is)."""
        wanted = " or ".join(f"{side} = :{port}" for port in self.ports)
        lines = subprocess.run(["ss", "-Htn", "state", "established", f"( {wanted} )"], capture_output=True, text=True, check=True)
        return {int(line.split()[column].rsplit(":", 1)[1]) for line in lines.stdout.splitlines()}

    def drop(self, clients):
        """Nothing more comes from or to these ports of clients, besides those that were named before."""
        nodes, silent = (", ".join(str(port) for port in each) for each in (self.ports, clients))
        nft(f"""
            table {self.TABLE} {{
                set silent {{ type inet_service; elements = {{ {silent} }} }}
                chain in {{
                    type filter hook input priority 0;
                    tcp dport {{ {nodes} }} tcp sport @silent drop
                    tcp sport {{ {nodes} }} tcp dport @silent drop
                }}
            }}""")

    def heal(self):
        # Added first, so that there is something to delete.
        nft(f"add table {self.TABLE}\ndelete table {self.TABLE}")


class Cut:
    """One process's packets to and from the brokers are dropped, by the kernel's packet filter (as root)."""

    TABLE = "inet hawser_faults"
    USER = 64_005

    def __init__(self, name):
        """`name` is started again as a user of its own, by which its packets are known."""
        if os.geteuid() != 0 or shutil.which("nft") is None or shutil.which("setpriv") is None:
            raise Failed("it needs root, nft (package nftables) and setpriv")
        self.ports = ", ".join(address.rsplit(":", 1)[1] for address in engines("address", "kafka").strip().split(","))
        cluster("end", name)
        cluster("start", name, env={"HAWSER_CLUSTER_UID": str(self.USER)})
        self.heal()

    def cut(self, outgoing, incoming):
        """Drops what it sends, or what it is sent. Packets of its connections are marked as they go out."""
        drop = lambda really: "drop" if really else "accept"  # noqa: E731
        nft(f"""
            table {self.TABLE} {{
                chain out {{
                    type filter hook output priority 0;
                    meta skuid {self.USER} tcp dport {{ {self.ports} }} ct mark set {self.USER} {drop(outgoing)}
                }}
                chain in {{
                    type filter hook input priority 0;
                    ct mark {self.USER} tcp sport {{ {self.ports} }} {drop(incoming)}
                }}
            }}""")

    def heal(self):
        # Added first, so that there is something to delete.
        nft(f"add table {self.TABLE}\ndelete table {self.TABLE}")


class Sampler(threading.Thread):
    """Records of lag over all partitions, twice a second."""

    def __init__(self):
        super().__init__(daemon=True)
        self.samples = []
        self.over = threading.Event()

    def run(self):
        while not self.over.wait(SAMPLE_S):
            try:
                self.samples.append((time.time(), lag()))
            except (OSError, ValueError, Failed):
                continue

    def end(self):
        self.over.set()
        self.join()
        return self.samples


class Load:
    """hawser-loadgen with a history, in the background."""

    def __init__(self, options, seed, folder, more=(), begins_s=60):
        gateways = names("gateway")
        http = [config(name)["listen"]["http"][0] for name in gateways]
        self.folder = folder
        self.sampler = Sampler()
        self.command = [
            str(LOADGEN), "--url", f"ws://{http[0]}/v1/ws", "--api", f"http://{http[0]}", "--key", str(RUN / "keys"),
            "--connections", str(options.connections), "--rate", str(options.rate), "--body", str(options.body),
            "--duration-s", str(LOAD_S), "--until", str(folder) + ".until", "--settle-s", "120", "--seed", str(seed), "--prefix", f"f{seed}x",
            "--history", str(folder), "--quiet", "--json", str(folder) + ".json", *more,
        ]
        if len(http) > 1:
            self.command += ["--also", ",".join(http[1:])]
        self.log = open(str(folder) + ".log", "w", encoding="utf-8")
        self.process = subprocess.Popen(self.command, stdout=self.log, stderr=self.log)
        self.wait_until_it_sends(begins_s)
        self.sampler.start()

    def wait_until_it_sends(self, seconds):
        """The ramp is over: somebody has sent something."""
        until = time.time() + seconds
        while time.time() < until:
            if self.process.poll() is not None:
                break
            for path in self.folder.glob("thread-*.jsonl"):
                if path.stat().st_size > 0 and b'"op":"ok"' in path.read_bytes():
                    return
            time.sleep(0.1)
        self.process.send_signal(signal.SIGKILL)
        raise Failed(f"the load did not begin: {pathlib.Path(self.log.name).read_text(encoding='utf-8')}")

    def finish(self):
        """Ends it; (samples of lag, the checker's verdict, its own report)."""
        pathlib.Path(str(self.folder) + ".until").touch()
        try:
            self.process.wait(timeout=COMMAND_S)
        except subprocess.TimeoutExpired as error:
            self.process.kill()
            raise Failed(f"the load does not end: what it sent is still on its way after {COMMAND_S} s") from error
        samples = self.sampler.end()
        self.log.close()
        verdict = str(self.folder) + ".verdict.json"
        subprocess.run([str(LOADGEN), "check", str(self.folder), "--json", verdict], stdout=subprocess.DEVNULL, check=False)
        try:
            with open(verdict, encoding="utf-8") as file:
                judged = json.load(file)
            with open(str(self.folder) + ".json", encoding="utf-8") as file:
                report = json.load(file)
        except OSError as error:
            raise Failed(f"the load ended early, see {self.log.name}: {error}") from error
        return samples, judged, report
