"""Facts about the table, and about what is made from it."""

import pathlib
import re
import shutil
import subprocess
import tempfile
import unittest

from fixture import FOLDER, TABLE, TUNE
from tuning.generate import README_PART, TABLES
from tuning.settings import UnitSetting
from tuning.table import COLUMNS, WORDS


def copied(test):
    place = pathlib.Path(tempfile.mkdtemp())
    test.addCleanup(shutil.rmtree, place)
    return shutil.copytree(FOLDER, place / "kernel-tuning", ignore=shutil.ignore_patterns("__pycache__"))


def run(folder, *args):
    return subprocess.run([str(folder / "tune"), *args], capture_output=True, text=True, check=False)


class Made(unittest.TestCase):
    """Files that are committed are those that the table makes."""

    def test_no_file_differs_from_the_table(self):
        done = run(FOLDER, "generate", "--check")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn("14 files, 0 differ", done.stdout)

    def test_a_value_changed_in_the_table_or_in_a_file_is_found_and_made_again(self):
        changes = {"knobs.toml": ('value = "65535"', 'value = "4242"'), "sysctl.d/61-hawser-edge.conf": ("fs.nr_open", "fs.nr_openly"),
                   "limits.d/60-hawser.conf": ("1048576", "7"), "modules-load.d/hawser.conf": ("sch_fq", "sch_x"),
                   "systemd/hawser-gateway.service": ("LimitNOFILE=4194304", "LimitNOFILE=1"), "README.md": ("| `net.core.somaxconn` |", "| `somaxconn` |")}
        for path, (old, new) in changes.items():
            with self.subTest(path):
                folder = copied(self)
                text = (folder / path).read_text()
                self.assertIn(old, text)
                (folder / path).write_text(text.replace(old, new))
                before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
                done = run(folder, "generate", "--check")
                self.assertEqual(done.returncode, 1, done.stdout)
                self.assertIn(f"{'README.md' if path == 'knobs.toml' else path}: differs from knobs.toml", done.stdout)
                self.assertEqual({file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}, before, "a check changes nothing")
                self.assertEqual(run(folder, "generate").returncode, 0)
                self.assertEqual(run(folder, "generate", "--check").returncode, 0)
                if path != "knobs.toml":
                    self.assertEqual((folder / path).read_text(), text)

    def test_a_file_that_nothing_makes_is_found_and_removed(self):
        folder = copied(self)
        (folder / "sysctl.d/62-old.conf").write_text("vm.swappiness = 60\n")
        self.assertIn("sysctl.d/62-old.conf: nothing makes it", run(folder, "generate", "--check").stdout)
        run(folder, "generate")
        self.assertFalse((folder / "sysctl.d/62-old.conf").exists())

    def test_made_files_say_so(self):
        for folder in ("sysctl.d", "limits.d", "modules-load.d", "systemd"):
            for file in (FOLDER / folder).iterdir():
                self.assertIn("Made from knobs.toml", file.read_text(), file.name)

    def test_a_unit_whose_marks_are_gone_is_named(self):
        folder = copied(self)
        unit = folder / "systemd/hawser-tune.service"
        unit.write_text(unit.read_text().replace("# End of what is made.\n", ""))
        done = run(folder, "generate")
        self.assertEqual(done.returncode, 2)
        self.assertIn("systemd/hawser-tune.service: ", done.stderr)

    @unittest.skipUnless(shutil.which("sysctl"), "needs procps")
    def test_sysctl_reads_its_files(self):
        for file in sorted((FOLDER / "sysctl.d").glob("*.conf")):
            # --dry-run of procps 4 parses and prints what it would write.
            done = subprocess.run(["sysctl", "--dry-run", "-p", str(file)], capture_output=True, text=True, check=False)
            if "unrecognized option" in done.stderr:
                self.skipTest("this sysctl has no --dry-run")
            asked = [line for line in file.read_text().splitlines() if line and line[0] != "#"]
            told = [line for line in (done.stdout + done.stderr).splitlines() if " = " in line or "cannot stat" in line]
            self.assertGreaterEqual(len(told), len([line for line in asked if line[0] != "-"]), done.stderr)


class Columns(unittest.TestCase):
    def test_every_knob_has_all_columns(self):
        self.assertGreater(len(TABLE.knobs), 95)
        for knob in TABLE.knobs:
            for column in COLUMNS:
                self.assertTrue(getattr(knob, column), f"{knob.kind} {knob.key}: {column}")
            if knob.cost_from != "source":
                self.assertRegex(knob.cost_from, r"^NUMBERS\.md, |^kernel-tuning/", f"{knob.key}: where was it measured?")

    def test_commands_by_which_one_sees_a_knob_are_commands(self):
        for knob in TABLE.knobs:
            done = subprocess.run(["sh", "-n"], input=knob.verify, capture_output=True, text=True, check=False)
            self.assertEqual((done.returncode, done.stderr), (0, ""), f"{knob.key}: {knob.verify}")

    def test_a_table_that_is_not_whole_is_refused_with_the_place(self):
        def damaged(old, new):
            folder = copied(self)
            text = (folder / "knobs.toml").read_text()
            self.assertIn(old, text)
            (folder / "knobs.toml").write_text(text.replace(old, new, 1))
            done = run(folder, "list", "--profile", "edge")
            self.assertEqual(done.returncode, 2, done.stdout)
            return done.stderr

        self.assertIn("sysctl fs.file-max: no risk", damaged('risk = "a leak of descriptors is stopped by memory instead of by this bound"\n', ""))
        self.assertIn("module tcp_bbr: risky is no column", damaged("optional = true", 'optional = true\nrisky = "x"'))
        self.assertIn("module tcp_bbr: profiles is a list of", damaged('profiles = ["all"]', 'profiles = ["edges"]'))
        self.assertIn("sctl tcp_bbr: kind is one of", damaged('kind = "module"', 'kind = "sctl"'))
        self.assertIn("module tcp_bbr: value is to be one line", damaged('value = "loaded"', "value = 7"))
        self.assertIn("fs.nr_open is there twice for edge", damaged('profiles = ["fanout"]', 'profiles = ["fanout", "edge"]'))
        self.assertIn("knobs.toml: ", damaged("[about]", "[about"))

    def test_a_role_s_own_value_replaces_that_of_all(self):
        kinds = ("sysctl", "thp", "nic", "disk", "cpu", "unit", "limit")
        for profile in TABLE.profiles:
            places = [knob.place for knob in TABLE.of(profile, *kinds)]
            self.assertEqual(len(places), len(set(places)), profile)
        huge = {profile: TABLE.of(profile, "thp")[0].value for profile in TABLE.profiles}
        self.assertEqual((huge["redis"], huge["edge"]), ("never", "madvise"))

    def test_what_the_gateway_warns_of_is_in_the_table(self):
        source = (FOLDER.parent / "gateway/src/node/host.rs").read_text().split("#[cfg(test)]")[0]
        # How much memory there is, is no knob.
        warned = set(re.findall(r'knob: "([^"]+)"', source)) - {"MemTotal"}
        self.assertGreater(len(warned), 3)
        self.assertEqual({knob.gateway for knob in TABLE.knobs if knob.gateway}, warned)


class Documents(unittest.TestCase):
    """README.md gives every knob with its value and all that is known of it."""

    def rows(self):
        text = (FOLDER / "README.md").read_text()
        out = []
        for name in TABLES:
            begin, end = (re.escape(mark.format(name=name)) for mark in README_PART)
            part = re.search(rf"{begin}(.*){end}", text, re.S).group(1)
            out.extend(re.split(r"(?<!\\)\|", line)[1:-1] for line in part.splitlines() if line.startswith("| `"))
        return [[cell.strip().replace("\\|", "|") for cell in row] for row in out]

    def test_every_knob_stands_in_the_readme_with_its_value_and_a_source(self):
        rows = self.rows()
        self.assertEqual(len(rows), len(TABLE.knobs))
        told = {(row[0].split("`")[1], row[1].split("`")[1], row[-1]) for row in rows}
        self.assertEqual(told, {(knob.key, knob.value, knob.source) for knob in TABLE.knobs})
        for row in rows:
            self.assertEqual(len(row), 8, row)
            self.assertTrue(all(row), f"{row[0]}: a cell is empty")

    def test_every_setting_of_a_unit_that_holds_back_is_in_the_table(self):
        for file in (FOLDER / "systemd").glob("*.service"):
            by_hand = re.sub(r"# Made from.*?# End of what is made\.", "", file.read_text(), flags=re.S)
            for key in (*UnitSetting.READABLE, "TasksMax", "NUMAPolicy", "Conflicts"):
                self.assertNotRegex(by_hand, rf"(?m)^{key}=", file.name)

    def test_words_are_one_line_of_plain_text(self):
        for knob in TABLE.knobs:
            for column in WORDS:
                text = getattr(knob, column)
                self.assertEqual(text, text.strip(), f"{knob.key}: {column}")
                self.assertNotIn("`" if column in ("verify", "value", "key") else "\t", text, f"{knob.key}: {column}")


if __name__ == "__main__":
    unittest.main()
