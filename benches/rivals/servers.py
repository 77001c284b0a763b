"""One definition per server: how it is installed, configured, started, and what version it is."""
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

from machine import CACHE, ROOT, Failure, Process, free_ports, output, program, scratch

HERE = Path(__file__).resolve().parent
CERTIFICATES = CACHE / "tls"


class Server:
    """A server that can be measured. `start` gives the process, and the options of the client that belong to it."""

    name = ""
    dialect = "raw"
    packages = ()
    # A program that is there when the packages are.
    needs = ()

    def installed(self):
        """Whether it can be started."""
        return all(shutil.which(need) or Path(need).exists() for need in self.needs)

    def install(self):
        """What packages do not bring."""

    def version(self):
        """What it says of itself."""
        return ""

    def start(self, tls, core):
        """Starts it with or without TLS on one core."""
        raise NotImplementedError


class Nats(Server):
    """The WebSocket listener of nats-server."""

    name, dialect, packages, needs = "nats-server", "nats", ("nats-server",), ("nats-server",)

    def version(self):
        return output("nats-server", "--version").removeprefix("nats-server: ")

    def start(self, tls, core):
        folder, (port, client) = scratch(self.name), free_ports(2)
        secure = (f'tls {{ cert_file: "{CERTIFICATES}/cert.pem", key_file: "{CERTIFICATES}/key.pem" }}'
                  if tls else "no_tls: true")
        config = folder / "nats.conf"
        config.write_text(f"""listen: "127.0.0.1:{client}"
max_connections: 200000
max_payload: 1MB
max_pending: 256MB
write_deadline: "60s"
websocket {{
  listen: "127.0.0.1:{port}"
  compression: false
  handshake_timeout: "30s"
  {secure}
}}
""")
        return Process(["nats-server", "-c", str(config)], port, folder / "log", core), port, []


class Nginx(Server):
    """nginx with nchan, one worker."""

    name, dialect = "nginx-nchan", "nchan"
    packages = ("nginx", "libnginx-mod-nchan")
    needs = ("/usr/sbin/nginx", "/usr/lib/nginx/modules/ngx_nchan_module.so")

    def version(self):
        nchan = re.search(r"Version: (\S+)", output("dpkg", "-s", "libnginx-mod-nchan"))
        return output("/usr/sbin/nginx", "-v").split("/")[-1] + f", nchan {nchan.group(1) if nchan else '?'}"

    def start(self, tls, core):
        folder, (port,) = scratch(self.name), free_ports(1)
        secure = (f"ssl_certificate {CERTIFICATES}/cert.pem; ssl_certificate_key {CERTIFICATES}/key.pem; "
                  "ssl_protocols TLSv1.3;" if tls else "")
        config = folder / "nginx.conf"
        user = "user root;" if os.geteuid() == 0 else ""
        config.write_text(f"""load_module /usr/lib/nginx/modules/ngx_nchan_module.so;
daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log; {user}
worker_rlimit_nofile {nofile()};
events {{ worker_connections {nofile() - 100}; multi_accept on; }}
http {{
  access_log off; keepalive_timeout 1h; tcp_nodelay on;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  nchan_shared_memory_size 512M; nchan_message_buffer_length 64; nchan_message_timeout 10s;
  nchan_subscriber_timeout 0;
  server {{
    listen 127.0.0.1:{port} backlog=4096 {"ssl" if tls else ""}; {secure}
    location = /all {{ nchan_subscriber websocket; nchan_channel_id all; nchan_subscriber_first_message newest; }}
    location = /pub {{ nchan_publisher websocket; nchan_channel_id all; }}
    location = /pair {{
      nchan_pubsub websocket; nchan_subscriber_channel_id $arg_me; nchan_publisher_channel_id $arg_peer;
      nchan_subscriber_first_message newest;
    }}
  }}
}}
""")
        return Process(["/usr/sbin/nginx", "-c", str(config), "-p", str(folder)], port, folder / "log", core), port, []


class Mosquitto(Server):
    """mosquitto's WebSocket listener, MQTT 3.1.1 with QoS 0."""

    name, dialect, packages, needs = "mosquitto", "mqtt", ("mosquitto",), ("/usr/sbin/mosquitto",)

    def version(self):
        found = re.search(r"version (\S+)", output("/usr/sbin/mosquitto", "-h"))
        return found.group(1) if found else "?"

    def start(self, tls, core):
        folder, (port, other) = scratch(self.name), free_ports(2)
        secure = f"certfile {CERTIFICATES}/cert.pem\nkeyfile {CERTIFICATES}/key.pem\ntls_version tlsv1.3\n" if tls else ""
        config = folder / "mosquitto.conf"
        user = "user root\n" if os.geteuid() == 0 else ""
        # It does not start with a WebSocket listener alone.
        config.write_text(f"{user}log_dest stderr\nlog_type error\npersistence false\nmax_queued_messages 0\n"
                          f"max_queued_bytes 0\nset_tcp_nodelay true\nallow_anonymous true\n"
                          f"listener {other} 127.0.0.1\nlistener {port} 127.0.0.1\nprotocol websockets\n"
                          f"socket_domain ipv4\nmax_connections -1\n{secure}")
        return Process(["/usr/sbin/mosquitto", "-c", str(config)], port, folder / "log", core), port, []


class NodeWs(Server):
    """Node's ws."""

    name, packages, needs = "node-ws", (), ("node",)
    folder = CACHE / "ws"

    def installed(self):
        return super().installed() and (self.folder / "node_modules" / "ws" / "package.json").exists()

    def install(self):
        self.folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(HERE / "ws" / "package.json", self.folder)
        subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--silent"], cwd=self.folder, check=True)

    def version(self):
        package = json.loads((self.folder / "node_modules" / "ws" / "package.json").read_text())
        return f"{package['version']} on Node {output('node', '--version')}"

    def start(self, tls, core):
        folder, (port,) = scratch(self.name), free_ports(1)
        command = ["node", str(HERE / "ws" / "server.mjs"), str(port), *([str(CERTIFICATES)] if tls else [])]
        return Process(command, port, folder / "log", core, {"HAWSER_RIVAL_MODULES": str(self.folder)}), port, []


class Tungstenite(Server):
    """Our own broadcast server on tokio, tungstenite and rustls."""

    name = "tungstenite"

    def version(self):
        lock = (ROOT / "Cargo.lock").read_text()
        found = [re.search(rf'name = "{crate}"\nversion = "([^"]+)"', lock).group(1)
                 for crate in ("tokio-tungstenite", "tokio", "rustls")]
        return "{} on tokio {}, rustls {}, 4 KiB buffers".format(*found)

    def start(self, tls, core):
        folder, (port,) = scratch(self.name), free_ports(1)
        command = [program("hawser-rival-tungstenite"), "--listen", f"127.0.0.1:{port}",
                   *(["--tls", str(CERTIFICATES)] if tls else [])]
        return Process(command, port, folder / "log", core), port, []


class UWebSockets(Server):
    """uWebSockets, whose sources no package registry here has: they are given by path."""

    name = "uwebsockets"

    def __init__(self, sources=None, called=None):
        self.sources, self.called = Path(sources).resolve() if sources else None, called
        self.binary = CACHE / "uwebsockets" / "server"

    def installed(self):
        return self.sources is not None

    def build(self):
        """Compiles the server against the sources: App.h in src, uSockets beside or within them."""
        sockets = next((one for one in (self.sources / "uSockets", self.sources.parent / "uSockets")
                        if (one / "src" / "libusockets.h").exists()), None)
        if sockets is None or not (self.sources / "src" / "App.h").exists():
            raise Failure(f"--uwebsockets {self.sources}: no src/App.h, or no uSockets in or beside it")
        self.binary.parent.mkdir(parents=True, exist_ok=True)
        objects = []
        flags = ["-O3", "-DLIBUS_USE_OPENSSL", "-DUWS_NO_ZLIB", f"-I{sockets}/src", f"-I{self.sources}/src"]
        plain = [*sockets.glob("src/*.c"), *sockets.glob("src/eventing/*.c"), *sockets.glob("src/crypto/*.c")]
        for source in [*plain, *sockets.glob("src/crypto/*.cpp"), HERE / "uwebsockets" / "server.cpp"]:
            compiler = ["gcc", "-std=c11", "-D_GNU_SOURCE"] if source.suffix == ".c" else ["g++", "-std=c++20"]
            made = self.binary.parent / (source.name + ".o")
            subprocess.run([*compiler, *flags, "-c", str(source), "-o", str(made)], check=True)
            objects.append(str(made))
        subprocess.run(["g++", *objects, "-lssl", "-lcrypto", "-lpthread", "-o", str(self.binary)], check=True)

    def version(self):
        return self.called or "sources given by path"

    def start(self, tls, core):
        if not self.binary.exists():
            self.build()
        folder, (port,) = scratch(self.name), free_ports(1)
        files = [f"{CERTIFICATES}/cert.pem", f"{CERTIFICATES}/key.pem"] if tls else []
        return Process([str(self.binary), str(port), *files], port, folder / "log", core), port, []


class Hawser(Server):
    """This project, embedded engines and all, on one core."""

    name, dialect = "hawser", "hawser"

    def __init__(self, gateway=None, settings=(), label="hawser"):
        self.gateway, self.settings, self.name = gateway, settings, label

    def version(self):
        head = output("git", "-C", str(ROOT), "rev-parse", "--short", "HEAD")
        more = "".join(f" {one}" for one in self.settings)
        return f"{output(self.binary(), '--version').split()[-1]} near {head}, embedded engines{more}"

    def binary(self):
        return self.gateway or program("hawser-gateway")

    def start(self, tls, core):
        folder, (http, wss, admin) = scratch(self.name), free_ports(3)
        settings = ["node.cores=1", "node.max_sessions=300000", f"tls.cert={CERTIFICATES}/cert.pem",
                    f"tls.key={CERTIFICATES}/key.pem", *self.settings]
        command = [self.binary(), "--embedded", "--listen", f"127.0.0.1:{http}", "--wss", f"127.0.0.1:{wss}", "--admin",
                   f"127.0.0.1:{admin}", "--data-dir", str(folder / "data")]
        for setting in settings:
            command += ["--set", setting]
        process = Process(command, wss if tls else http, folder / "log", core)
        return process, wss if tls else http, ["--api", f"http://127.0.0.1:{http}", "--key", str(folder / "data")]


def nofile():
    """How many descriptors a process may have."""
    import resource
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1]
