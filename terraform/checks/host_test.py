"""Facts about `hawser-host` and the scripts beside it, on a tree below a folder, with programs that stand for real ones."""

import hashlib
import io
import json
import os
import pathlib
import shutil
import subprocess
import tarfile
import tempfile
import threading
import unittest
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

FOLDER = pathlib.Path(__file__).resolve().parent.parent
PROGRAM = FOLDER / "files" / "hawser-host"
STAND_IN = """#!/bin/sh
echo "$(basename "$0") $*" >> "{log}"
case "$(basename "$0") $*" in
  "systemctl is-active broken"*) echo failed; exit 3 ;;
  "systemctl is-active"*) echo active ;;
  "dpkg-query"*) printf 'chrony installed\\n' ;;
  "chronyc"*) echo "System time     : 0.000012 seconds fast of NTP time" ;;
esac
"""


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


class Host(unittest.TestCase):
    def setUp(self):
        self.root = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.root)
        self.log = self.root / "called"
        bin_ = self.root / "bin"
        bin_.mkdir()
        for name in ("systemctl", "dpkg-query", "chronyc", "nft"):
            (bin_ / name).write_text(STAND_IN.format(log=self.log))
            (bin_ / name).chmod(0o755)
        self.path = f"{bin_}:{os.environ['PATH']}"
        self.put("proc/cpuinfo", "processor\t: 0\nprocessor\t: 1\n")
        self.put("proc/meminfo", "MemTotal:       8200000 kB\n")
        self.put("proc/mounts", "/dev/x /data xfs rw 0 0\n")
        self.put("sys/class/net/eno1/operstate", "up")
        self.put("opt/hawser/kernel-tuning/tune", "#!/bin/sh\nexit 0\n")
        (self.root / "opt/hawser/kernel-tuning/tune").chmod(0o755)
        self.put("etc/plain.conf", "plain\n")
        self.put("etc/hawser/templates/etc/secret.conf", "password = @@secret:db@@\n")
        mirror = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, mirror)
        (mirror / "tool").write_bytes(b"#!/bin/sh\n")
        with tarfile.open(mirror / "kit.tgz", "w:gz") as tar:
            info = tarfile.TarInfo("kit-1.0/bin/run")
            info.size, info.mode = 4, 0o755
            tar.addfile(info, io.BytesIO(b"run\n"))
        with tarfile.open(mirror / "bad.tgz", "w:gz") as tar:
            info = tarfile.TarInfo("bad/../../escaped")
            tar.addfile(info, io.BytesIO(b""))
        server = ThreadingHTTPServer(("127.0.0.1", 0), lambda *args: Quiet(*args, directory=str(mirror)))
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.url, self.mirror, self.port = f"http://127.0.0.1:{server.server_port}", mirror, server.server_port
        self.told = {
            "name": "edge-1", "role": "edge", "rack": "a", "cores": 2, "memory_gib": 8, "nics": ["eno1"],
            "packages": ["chrony"], "directories": [{"path": "/var/lib/x", "owner": "root:root", "mode": "0750"}],
            "artifacts": [self.artifact("tool", "tool", "/usr/local/bin/tool", False), self.artifact("kit", "kit.tgz", "/opt/kit", True)],
            "files": [{"path": "/etc/plain.conf", "owner": "root:root", "mode": "0644", "template": False, "sha256": hashlib.sha256(b"plain\n").hexdigest()},
                      {"path": "/etc/secret.conf", "owner": "root:root", "mode": "0640", "template": True, "sha256": ""}],
            "services": ["thing.service"], "listens": [{"what": "the mirror", "address": "127.0.0.1", "port": server.server_port}],
            "bootstrap": [{"name": "once", "done": f"test -f {self.root}/once", "do": f"touch {self.root}/once"}],
            "secrets": ["db"], "data_mount": "/data", "clock_off_max_s": 0.1,
        }

    def artifact(self, name, file, to, unpack):
        return {"name": name, "url": f"{self.url}/{file}", "sha256": hashlib.sha256((self.mirror / file).read_bytes()).hexdigest(), "to": to, "unpack": unpack}

    def put(self, path, text):
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def run_host(self, *args, code=0):
        self.put("etc/hawser/host.json", json.dumps(self.told))
        done = subprocess.run([str(PROGRAM), *args, "--root", str(self.root)], capture_output=True, text=True, check=False, env={**os.environ, "PATH": self.path})
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done.stdout + done.stderr

    def called(self):
        return self.log.read_text().splitlines() if self.log.exists() else []

    def test_install_without_secrets_starts_no_service_and_names_what_it_waits_for(self):
        said = self.run_host("install")
        self.assertIn("waits for secrets: db", said)
        self.assertFalse(any("thing.service" in line for line in self.called()))
        said = self.run_host("verify", code=1)
        self.assertIn("secret db is missing", said)
        self.assertIn("/etc/secret.conf is missing", said)

    def test_with_secrets_the_host_is_as_it_should_be(self):
        self.put("etc/hawser/secrets/db", "s3cret\n")
        self.run_host("install")
        self.assertEqual((self.root / "etc/secret.conf").read_text(), "password = s3cret\n")
        self.assertEqual((self.root / "etc/secret.conf").stat().st_mode & 0o777, 0o640)
        self.assertTrue(os.access(self.root / "usr/local/bin/tool", os.X_OK))
        self.assertEqual((self.root / "opt/kit/bin/run").read_text(), "run\n")
        self.assertIn("systemctl restart thing.service", self.called())
        self.assertIn("edge-1: as it should be", self.run_host("verify"))

    def test_a_second_start_with_the_same_secrets_restarts_nothing(self):
        self.put("etc/hawser/secrets/db", "s3cret\n")
        self.run_host("install")
        self.log.unlink()
        self.run_host("start")
        self.assertIn("systemctl start thing.service", self.called())
        self.assertNotIn("systemctl restart thing.service", self.called())

    def test_an_artifact_with_another_checksum_is_not_installed(self):
        self.told["artifacts"][0]["sha256"] = "0" * 64
        said = self.run_host("install", code=1)
        self.assertIn("want 0000", said)
        self.assertFalse((self.root / "usr/local/bin/tool").exists())

    def test_an_archive_that_leads_out_of_its_folder_is_refused(self):
        self.told["artifacts"] = [self.artifact("bad", "bad.tgz", "/opt/bad", True)]
        self.assertIn("leads out of its folder", self.run_host("install", code=1))
        self.assertFalse((self.root / "opt/bad").exists())

    def test_verify_names_each_fault(self):
        self.put("etc/hawser/secrets/db", "s3cret\n")
        self.run_host("install")
        (self.root / "usr/local/bin/tool").write_text("other")
        self.put("etc/plain.conf", "by hand\n")
        self.put("opt/hawser/kernel-tuning/tune", "#!/bin/sh\necho '         off  sysctl:net.core.somaxconn: asked 65535, is 128'\nexit 1\n")
        self.told.update(cores=64, nics=["eno9"], data_mount="/elsewhere", packages=["chrony", "absent-one"], services=["broken.service"],
                         listens=[{"what": "nothing", "address": "127.0.0.1", "port": 1}])
        said = self.run_host("verify", code=1)
        for part in ("2 cores, the inventory says 64", "no network device eno9", "/elsewhere is not mounted", "package absent-one is not installed",
                     "tool was changed after it was installed", "/etc/plain.conf was changed by hand", "broken.service is failed",
                     "nothing does not answer at 127.0.0.1:1", "kernel: sysctl:net.core.somaxconn: asked 65535, is 128", "edge-1: 9 off"):
            self.assertIn(part, said)

    def test_a_step_of_bootstrap_is_done_once(self):
        self.assertIn("once: done\n", self.run_host("bootstrap"))
        self.assertIn("once: done before", self.run_host("bootstrap"))
        self.told["bootstrap"][0]["do"] = "false"
        (self.root / "once").unlink()
        self.assertIn("once ended with 1", self.run_host("bootstrap", code=1))

    def test_a_damaged_host_json_is_named(self):
        self.put("etc/hawser/host.json", "{")
        done = subprocess.run([str(PROGRAM), "verify", "--root", str(self.root)], capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 2)
        self.assertIn("host.json", done.stderr)


class Scripts(unittest.TestCase):
    """A program in place of ssh runs what it is told on this machine, in a folder."""

    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        self.ssh = self.folder / "ssh"
        self.ssh.write_text(f"#!/bin/sh\nwhile [ \"$1\" = -o ]; do shift 2; done\necho \"$1\" >> {self.folder}/targets\nshift\n"
                            f"PATH={self.folder}/bin:$PATH; export PATH\n"
                            f"echo \"$*\" >> {self.folder}/commands\nexec sh -c \"$(printf '%s\\n' \"$*\" | sed 's#/etc/hawser#{self.folder}/etc#g; s#/var/lib/cloud#{self.folder}/cloud#g')\"\n")
        (self.folder / "bin").mkdir()
        for name, text in {"sudo": "#!/bin/sh\nexec \"$@\"\n", "cloud-init": f"#!/bin/sh\necho \"$*\" >> {self.folder}/cloud-init\n"}.items():
            (self.folder / "bin" / name).write_text(text)
            (self.folder / "bin" / name).chmod(0o755)
        self.ssh.chmod(0o755)

    def test_secrets_are_delivered_by_standard_input_and_complete_comes_last(self):
        (self.folder / "inventory").write_text(json.dumps({"kafka-1": {"address": "192.0.2.31"}}))
        (self.folder / "secrets").write_text(json.dumps({"kafka-1": {"ca": "CA\nPEM\n", "host_key": "hidden"}}))
        done = subprocess.run([str(FOLDER / "deliver-secrets"), self.folder / "inventory", self.folder / "secrets"], capture_output=True, text=True, check=False,
                              env={**os.environ, "HAWSER_SSH": str(self.ssh)})
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertEqual((self.folder / "targets").read_text(), "root@192.0.2.31\n")
        held = self.folder / "etc/secrets"
        self.assertEqual((held / "ca").read_text(), "CA\nPEM\n")
        self.assertTrue((held / ".complete").exists())
        self.assertEqual((held / "host_key").stat().st_mode & 0o777, 0o600)
        self.assertNotIn("hidden", (self.folder / "commands").read_text())

    def test_user_data_goes_to_a_nocloud_seed(self):
        env = {**os.environ, "HAWSER_SSH": str(self.ssh), "HAWSER_NAME": "edge-1", "HAWSER_USER_DATA": "#cloud-config\nx: 1\n"}
        done = subprocess.run([str(FOLDER / "files/apply-by-ssh"), "root@192.0.2.11"], capture_output=True, text=True, check=False, env=env)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        seed = self.folder / "cloud/seed/nocloud"
        self.assertEqual((seed / "user-data").read_text(), "#cloud-config\nx: 1\n")
        self.assertIn("local-hostname: edge-1", (seed / "meta-data").read_text())
        self.assertIn("modules --mode=final", (self.folder / "cloud-init").read_text())


if __name__ == "__main__":
    unittest.main()
