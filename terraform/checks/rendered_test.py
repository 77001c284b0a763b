"""Facts about what terraform rendered: rendered_test.py OUTPUTS.json SECRETS.json APPLY_LOG, called by terraform/check."""

import base64
import gzip
import ipaddress
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import unittest

import dns.zone
import jsonschema
import yaml

REPO = pathlib.Path(__file__).resolve().parents[2]
# Hetzner, Equinix and OpenStack take less or about as much; a NoCloud seed takes anything.
USER_DATA_BYTES_MAX = 64 * 1024
OUTPUTS = {name: entry["value"] for name, entry in json.loads(pathlib.Path(sys.argv[1]).read_text()).items()}
SECRETS = json.loads(pathlib.Path(sys.argv[2]).read_text())["secrets"]
APPLY_LOG = pathlib.Path(sys.argv[3]).read_text()
HOSTS = OUTPUTS["inventory"]
FILES = OUTPUTS["files"]


def of_role(role):
    return sorted(name for name, host in HOSTS.items() if host["role"] == role)


def secret_values():
    for name, value in SECRETS.items():
        yield from ((name, each) for each in (value.values() if isinstance(value, dict) else [value]))


def run(*argv, text=None):
    return subprocess.run([str(arg) for arg in argv], input=text, capture_output=True, text=True, check=False)


class UserData(unittest.TestCase):
    def parsed(self, name):
        text = OUTPUTS["user_data"][name]
        self.assertTrue(text.startswith("#cloud-config\n"), name)
        return yaml.safe_load(text)

    def written(self, name):
        out = {}
        for file in self.parsed(name)["write_files"]:
            content = file["content"]
            if file.get("encoding") == "gz+b64":
                content = gzip.decompress(base64.b64decode(content)).decode()
            out[file["path"]] = (content, file)
        return out

    def test_every_host_has_one_that_parses_and_is_small_enough(self):
        self.assertEqual(set(OUTPUTS["user_data"]), set(HOSTS))
        for name, text in OUTPUTS["user_data"].items():
            self.assertEqual(self.parsed(name)["hostname"], name)
            self.assertLess(len(text), USER_DATA_BYTES_MAX, name)

    def test_it_holds_to_the_schema_of_cloud_init(self):
        path = os.environ.get("HAWSER_CLOUD_INIT_SCHEMA")
        if not path:
            self.skipTest("no schema")
        schema = json.loads(pathlib.Path(path).read_text())
        validator = jsonschema.Draft4Validator(schema)
        wrong = {**self.parsed("edge-1"), "packages": 7}
        self.assertTrue(list(validator.iter_errors(wrong)), "the schema judges nothing")
        for name in HOSTS:
            self.assertEqual([error.message for error in validator.iter_errors(self.parsed(name))], [], name)

    def test_what_it_writes_is_what_the_output_says(self):
        for name in HOSTS:
            written = self.written(name)
            host = json.loads(written["/etc/hawser/host.json"][0])
            for file in host["files"]:
                at = "/etc/hawser/templates" + file["path"] if file["template"] else file["path"]
                self.assertEqual(written[at][0], FILES[name][file["path"]], f"{name}: {at}")
                self.assertTrue(written[at][1]["defer"], f"{name}: {at} would be overwritten by its package")

    def test_the_kernel_settings_are_exactly_those_of_kernel_tuning(self):
        for name, host in HOSTS.items():
            for file in ["tune", *(f"tuning/{path.name}" for path in (REPO / "kernel-tuning/tuning").glob("*.py") if path.name != "generate.py")]:
                want = (REPO / "kernel-tuning" / file).read_text()
                self.assertEqual(FILES[name][f"/opt/hawser/kernel-tuning/{file}"], want, f"{name}: {file}")
            table = tomllib.loads((REPO / "kernel-tuning/knobs.toml").read_text())
            role = host["role"]
            want = {**table, "profiles": [role], "knob": [knob for knob in table["knob"] if {"all", role} & set(knob["profiles"])]}
            self.assertEqual(tomllib.loads(FILES[name]["/opt/hawser/kernel-tuning/knobs.toml"]), want, name)
        for role in ("gateway", "fanout"):
            unit = f"hawser-{role}.service"
            holder = "edge-1" if role == "gateway" else "fanout-1"
            self.assertEqual(FILES[holder][f"/etc/systemd/system/{unit}"], (REPO / "kernel-tuning/systemd" / unit).read_text())

    def test_tune_understands_what_a_host_carries(self):
        for role in sorted({host["role"] for host in HOSTS.values()}):
            name = of_role(role)[0]
            with tempfile.TemporaryDirectory() as folder:
                for path, text in FILES[name].items():
                    if path.startswith("/opt/hawser/kernel-tuning/"):
                        file = pathlib.Path(folder + path)
                        file.parent.mkdir(parents=True, exist_ok=True)
                        file.write_text(text)
                tune = [sys.executable, f"{folder}/opt/hawser/kernel-tuning/tune"]
                empty = ["--root", folder, "--json"]
                here = run(*tune, "list", "--profile", role, *empty)
                there = run(sys.executable, REPO / "kernel-tuning/tune", "list", "--profile", role, *empty)
                self.assertGreater(len(json.loads(here.stdout)["settings"]), 20, here.stderr)
                self.assertEqual(here.stdout, there.stdout, name)
                self.assertIn("choose from", run(*tune, "list", "--profile", "fanout" if role == "edge" else "edge", *empty).stderr)
                self.assertIn("kernel-tuning/ of the repository", run(*tune, "generate").stderr)

    def test_it_ends_with_install_and_verify(self):
        for name in HOSTS:
            program = "/opt/hawser/bin/hawser-host"
            self.assertEqual(self.parsed(name)["runcmd"], [[program, "install"], [program, "verify", "--wait-s", "120"]])
            self.assertEqual(self.written(name)[program][1]["permissions"], "0755")

    def test_every_artifact_has_a_checksum(self):
        seen = set()
        for name in HOSTS:
            for artifact in json.loads(self.written(name)["/etc/hawser/host.json"][0])["artifacts"]:
                self.assertRegex(artifact["sha256"], "^[0-9a-f]{64}$")
                seen.add(artifact["name"])
        self.assertEqual(seen, {"hawser-gateway", "hawser-fanout", "kafka", "cassandra", "jmx-exporter", "grafana"})


class Secrets(unittest.TestCase):
    def test_none_is_in_clear_in_any_output_but_the_one_marked_sensitive(self):
        raw = json.loads(pathlib.Path(sys.argv[1]).read_text())
        self.assertTrue(raw["secret_files"]["sensitive"])
        rest = json.dumps({name: entry for name, entry in raw.items() if name != "secret_files"})
        packed = "".join(
            gzip.decompress(base64.b64decode(file["content"])).decode()
            for text in OUTPUTS["user_data"].values() for file in yaml.safe_load(text)["write_files"] if file.get("encoding"))
        count = 0
        for name, value in secret_values():
            count += 1
            public = name in ("ca", "edge_cert", "host_certs")
            for place, text in (("an output", rest), ("a packed file", packed), ("what apply printed", APPLY_LOG)):
                needle = json.dumps(value)[1:-1] if place == "an output" else value.strip()
                self.assertTrue(public or needle not in text, f"{name} is in {place}")
        self.assertGreater(count, 30)

    def test_every_host_gets_exactly_what_its_files_ask_for(self):
        for name, files in FILES.items():
            asked = {found for text in files.values() for found in re.findall(r"@@secret:([a-z0-9_.]+)@@", text)}
            by_command = {"redis_operator_password"} if HOSTS[name]["role"] == "redis" else set()
            self.assertEqual(asked | by_command, set(HOSTS[name]["secrets"]), name)
            given = OUTPUTS["secret_files"][name]
            self.assertEqual(set(given), set(HOSTS[name]["secrets"]), name)
            self.assertTrue(all(given.values()), f"{name}: a secret is empty")

    def test_certificates_are_of_the_authority_and_for_the_address(self):
        with tempfile.TemporaryDirectory() as folder:
            ca = pathlib.Path(folder, "ca.pem")
            ca.write_text(SECRETS["ca"])
            for name, cert in SECRETS["host_certs"].items():
                path = pathlib.Path(folder, "host.pem")
                path.write_text(cert)
                done = run("openssl", "verify", "-x509_strict", "-CAfile", ca, "-verify_ip", HOSTS[name]["address"], path)
                self.assertEqual(done.returncode, 0, f"{name}: {done.stdout}{done.stderr}")


class Firewall(unittest.TestCase):
    def rules(self, name):
        """(source addresses or None for anybody, port) of each accept rule with a port."""
        out = []
        for line in OUTPUTS["rulesets"][name].splitlines():
            found = re.match(r"\s+(?:ip6? saddr \{ (.*?) \} )?tcp dport (\d+) counter accept$", line)
            if found:
                out.append((found.group(1) and set(found.group(1).split(", ")), int(found.group(2))))
        return out

    def test_nft_accepts_every_ruleset(self):
        if not shutil.which("nft") or os.geteuid() != 0:
            self.skipTest("nft needs to be installed, and root")
        for name, text in OUTPUTS["rulesets"].items():
            done = run("nft", "--check", "--file", "-", text=text)
            self.assertEqual(done.returncode, 0, f"{name}: {done.stderr}")
        self.assertNotEqual(run("nft", "--check", "--file", "-", text=text.replace("drop;", "dorp;")).returncode, 0)

    def test_only_port_443_of_the_edge_is_open_to_anybody(self):
        for name, host in HOSTS.items():
            anybody = [port for sources, port in self.rules(name) if sources is None]
            self.assertEqual(anybody, [443] if host["role"] == "edge" else [], name)
            self.assertIn("type filter hook input priority filter; policy drop;", OUTPUTS["rulesets"][name])

    def test_admin_and_metrics_ports_are_open_to_monitoring_alone(self):
        monitoring = {HOSTS[name]["address"] for name in of_role("monitoring")}
        for name in HOSTS:
            for sources, port in self.rules(name):
                if port in (7071, 7072, 9090, 9091, 9100, 9121, 9187):
                    self.assertEqual(sources, monitoring, f"{name}: {port}")

    def test_engines_are_open_to_those_that_use_them_alone(self):
        users = {HOSTS[name]["address"] for role in ("edge", "fanout") for name in of_role(role)}
        peers = lambda role: {HOSTS[name]["address"] for name in of_role(role)}
        for role, port in (("kafka", 9092), ("cassandra", 9042), ("redis", 6379), ("postgres", 5432)):
            for name in of_role(role):
                have = set().union(*(sources for sources, at in self.rules(name) if at == port))
                self.assertEqual(have - peers(role), users, f"{name}: {port}")
        for role, port in (("kafka", 9093), ("kafka", 9094), ("cassandra", 7000), ("redis", 16379)):
            for name in of_role(role):
                have = [sources for sources, at in self.rules(name) if at == port]
                self.assertEqual(have, [peers(role)], f"{name}: {port}")

    def test_clients_of_the_edge_are_not_tracked(self):
        text = OUTPUTS["rulesets"][of_role("edge")[0]]
        self.assertIn("tcp dport 443 notrack", text)
        self.assertIn("tcp sport 443 notrack", text)
        self.assertNotIn("notrack", OUTPUTS["rulesets"][of_role("kafka")[0]])

    @unittest.skipUnless(os.geteuid() == 0 and shutil.which("ip") and shutil.which("nft"), "needs root, ip and nft")
    def test_the_kernel_lets_through_what_the_matrix_names_and_nothing_else(self):
        """A broker's ruleset in a network namespace; a fanout host and a stranger knock from another."""
        broker, friend = HOSTS["kafka-1"]["address"], HOSTS["fanout-1"]["address"]
        stranger = str(ipaddress.ip_address(friend) + 150)
        name = f"fw{os.getpid()}"
        if run("ip", "netns", "add", f"{name}a").returncode != 0:
            self.skipTest("no network namespaces here")
        self.addCleanup(run, "ip", "netns", "del", f"{name}a")
        run("ip", "netns", "add", f"{name}b")
        self.addCleanup(run, "ip", "netns", "del", f"{name}b")
        inside = lambda which, *argv, text=None: run("ip", "netns", "exec", f"{name}{which}", *argv, text=text)
        inside("a", "ip", "link", "add", "v0", "type", "veth", "peer", "name", "v1", "netns", f"{name}b")
        for which, nic, addresses in (("a", "v0", [broker]), ("b", "v1", [friend, stranger])):
            for address in addresses:
                inside(which, "ip", "addr", "add", f"{address}/24", "dev", nic)
            inside(which, "ip", "link", "set", nic, "up")
        loaded = inside("a", "nft", "--file", "-", text=OUTPUTS["rulesets"]["kafka-1"])
        self.assertEqual(loaded.returncode, 0, loaded.stderr)
        listen = "import socket,time\nfor p in (9092,9093,7071):\n s=socket.create_server(('0.0.0.0',p)); globals()[f's{p}']=s\nprint('up',flush=True)\ntime.sleep(30)"
        server = subprocess.Popen(["ip", "netns", "exec", f"{name}a", sys.executable, "-c", listen], stdout=subprocess.PIPE, text=True)
        self.addCleanup(server.wait)
        self.addCleanup(server.kill)
        self.addCleanup(server.stdout.close)
        server.stdout.readline()

        def knock(source, port):
            code = f"import socket; socket.create_connection(('{broker}',{port}),timeout=1,source_address=('{source}',0))"
            return inside("b", sys.executable, "-c", code).returncode == 0

        self.assertTrue(knock(friend, 9092), "fanout reaches the clients' listener")
        self.assertFalse(knock(friend, 9093), "fanout does not reach the controller")
        self.assertFalse(knock(friend, 7071), "fanout does not reach the metrics")
        self.assertFalse(knock(stranger, 9092), "a stranger reaches nothing")


class Programs(unittest.TestCase):
    """Configuration files, judged by the programs that will read them where those are here."""

    def configurations(self):
        for role, program, path in (("edge", "HAWSER_GATEWAY", "/etc/hawser/gateway.toml"), ("fanout", "HAWSER_FANOUT", "/etc/hawser/fanout.toml")):
            for name in of_role(role):
                yield name, os.environ.get(program), FILES[name][path]

    def test_both_programs_are_told_one_cluster(self):
        shared = []
        for name, _, text in self.configurations():
            told = tomllib.loads(text)
            told["auth"].pop("cluster_secret", None)
            shared.append({section: told[section] for section in ("log", "store", "presence", "directory", "auth")})
        self.assertTrue(all(each == shared[0] for each in shared))
        self.assertEqual(shared[0]["log"]["bootstrap"], [f"{HOSTS[name]['address']}:9092" for name in of_role("kafka")])

    def test_gateway_and_fanout_accept_their_files(self):
        judged = 0
        for name, program, text in self.configurations():
            if not program:
                continue
            with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
                file.write(text)
                file.flush()
                done = run(program, "--config", file.name, "--check-config")
            self.assertEqual(done.returncode, 0, f"{name}: {done.stdout}{done.stderr}")
            judged += 1
        if not judged:
            self.skipTest("HAWSER_GATEWAY and HAWSER_FANOUT are not set")

    def properties(self, name):
        lines = FILES[name]["/etc/kafka/server.properties"].splitlines()
        return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))

    def test_brokers_form_one_quorum_over_racks_and_keep_what_is_acknowledged(self):
        told = [self.properties(name) for name in of_role("kafka")]
        self.assertEqual(len({each["controller.quorum.voters"] for each in told}), 1)
        self.assertEqual(len({each["node.id"] for each in told}), len(told))
        self.assertGreater(len({each["broker.rack"] for each in told}), 1)
        for each in told:
            self.assertEqual((each["min.insync.replicas"], each["unclean.leader.election.enable"], each["auto.create.topics.enable"]), ("2", "false", "false"))
            self.assertGreaterEqual(int(each["message.max.bytes"]), 1118208)

    def test_cassandra_yaml_parses_and_seeds_are_of_different_racks(self):
        for name in of_role("cassandra"):
            told = yaml.safe_load(FILES[name]["/etc/cassandra/cassandra.yaml"])
            self.assertEqual(told["listen_address"], HOSTS[name]["address"])
            self.assertEqual(told["client_encryption_options"]["optional"], False)
            racks = set()
            for seed in told["seed_provider"][0]["parameters"][0]["seeds"].split(","):
                holder = next(each for each, host in HOSTS.items() if host["address"] == seed)
                racks.add(re.search("rack=(.*)", FILES[holder]["/etc/cassandra/cassandra-rackdc.properties"]).group(1))
            self.assertEqual(len(racks), 3)

    def test_prometheus_finds_every_host_and_its_rules_hold(self):
        files = FILES[of_role("monitoring")[0]]
        scrape = yaml.safe_load(files["/etc/prometheus/prometheus.yml"])["scrape_configs"]
        jobs = {job["job_name"]: {target for static in job["static_configs"] for target in static["targets"]} for job in scrape}
        self.assertEqual(jobs["node"], {f"{host['address']}:9100" for host in HOSTS.values()})
        for role in ("edge", "fanout", "kafka", "cassandra", "redis", "postgres"):
            self.assertEqual({target.split(":")[0] for target in jobs[role]}, {HOSTS[name]["address"] for name in of_role(role)})
        rules = files["/etc/prometheus/rules/hawser.yml"]
        self.assertGreater(sum(len(group["rules"]) for group in yaml.safe_load(rules)["groups"]), 15)
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder)
            (path / "rules.yml").write_text(rules)
            (path / "prometheus.yml").write_text(files["/etc/prometheus/prometheus.yml"].replace("/etc/prometheus/rules/*.yml", f"{folder}/rules.yml"))
            (path / "alertmanager.yml").write_text(files["/etc/prometheus/alertmanager.yml"])
            if promtool := os.environ.get("HAWSER_PROMTOOL"):
                done = run(promtool, "check", "config", path / "prometheus.yml")
                self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            if amtool := os.environ.get("HAWSER_AMTOOL"):
                done = run(amtool, "check-config", path / "alertmanager.yml")
                self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_alerts_and_dashboard_ask_for_numbers_that_the_programs_have(self):
        files = FILES[of_role("monitoring")[0]]
        asked = set(re.findall(r"\b(hawser_[a-z_]+)", files["/etc/prometheus/rules/hawser.yml"] + files["/etc/grafana/dashboards/hawser.json"]))
        source = "".join(path.read_text() for folder in ("gateway", "fanout", "engines") for path in (REPO / folder / "src").rglob("*.rs"))
        known = set(re.findall(r'"(hawser_[a-z_]+)', source))
        self.assertGreater(len(asked), 10)
        self.assertEqual(asked - known, set())

    def test_grafana_finds_its_dashboard(self):
        files = FILES[of_role("monitoring")[0]]
        provider = yaml.safe_load(files["/etc/grafana/provisioning/dashboards/hawser.yaml"])["providers"][0]
        dashboard = json.loads(files[provider["options"]["path"] + "/hawser.json"])
        self.assertEqual(len({panel["id"] for panel in dashboard["panels"]}), len(dashboard["panels"]))

    def test_units_are_sound_and_hardened(self):
        if not shutil.which("systemd-analyze"):
            self.skipTest("systemd-analyze is not installed")
        units = {path.rsplit("/", 1)[1]: text for files in FILES.values() for path, text in files.items()
                 if path.startswith("/etc/systemd/system/") and path.count("/") == 4}
        self.assertGreater(len(units), 8)
        with tempfile.TemporaryDirectory() as folder:
            for unit, text in units.items():
                # The programs are not here: any that is will do.
                pathlib.Path(folder, unit).write_text(re.sub(r"(?m)^(Exec\w+=)(?!/bin/)\S+", r"\1/bin/true", text))
            for user in sorted(set(re.findall(r"(?m)^User=(.*)$", "\n".join(units.values())))):
                self.assertIn(user, ("hawser", "kafka", "cassandra", "grafana"))
            for unit in sorted(units):
                done = run("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", f"{folder}/{unit}")
                faults = [line for line in (done.stdout + done.stderr).splitlines() if unit in line and "not found" not in line]
                self.assertEqual(faults, [], unit)
                if unit in ("hawser-gateway.service", "hawser-fanout.service"):
                    done = run("systemd-analyze", "security", "--offline=true", "--threshold=25", f"{folder}/{unit}")
                    self.assertEqual(done.returncode, 0, done.stdout[-200:] + done.stderr)


class Names(unittest.TestCase):
    def test_the_zone_parses_and_names_every_edge(self):
        zone = dns.zone.from_text(OUTPUTS["zone"], relativize=True)
        records = {(str(name), kind): sorted(str(item) for item in zone.get_rdataset(name, kind)) for name in zone.nodes for kind in ("A", "AAAA", "SRV") if zone.get_rdataset(name, kind)}
        edges = of_role("edge")
        self.assertEqual(len(records[("edge", "A")]), len(edges))
        self.assertEqual([line.split()[3] for line in records[("_hawser._tcp", "SRV")]], edges)
        for line in records[("_hawser._tcp", "SRV")]:
            self.assertIn((line.split()[3], "A"), records)
        for name in HOSTS:
            self.assertIn((name, "A"), records)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[4:]])
