"""Hawser and rivals under one load: installs, starts one server at a time, calls the client, makes the table.

  dev/rivals install [--uwebsockets PATH]
  dev/rivals run [--rounds 3] [--recipients 10000] [--only NAME,..] [--out DIR] [--uwebsockets PATH] ...
  dev/rivals list
"""
import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import servers
from machine import CACHE, Failure, describe, program


def everyone(options):
    """All servers, those that need packages first."""
    return [servers.Nats(), servers.Nginx(), servers.Mosquitto(), servers.NodeWs(), servers.Tungstenite(),
            servers.UWebSockets(options.uwebsockets, options.uwebsockets_version),
            servers.Hawser(options.gateway, options.set or ())]


def install(options):
    """Packages, and what they do not bring. No service is started."""
    wanted = [package for one in everyone(options) for package in one.packages if not one.installed()]
    if wanted:
        policy = Path("/usr/sbin/policy-rc.d")
        ours = not policy.exists()
        if ours:
            # A package that brings a service would start it, here and after the next boot.
            policy.write_text("#!/bin/sh\nexit 101\n")
            policy.chmod(0o755)
        try:
            subprocess.run(["apt-get", "update", "-qq"], check=False)
            subprocess.run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *wanted], check=True,
                           env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})
        finally:
            if ours:
                policy.unlink()
    for one in everyone(options):
        if not one.installed():
            one.install()
    if options.uwebsockets:
        servers.UWebSockets(options.uwebsockets, options.uwebsockets_version).build()
    show(options)


def show(options):
    """Which servers can be measured."""
    for one in everyone(options):
        there = one.installed()
        print(f"{one.name:14} {one.version() if there else 'not here: dev/rivals install, or --uwebsockets PATH'}")


def measure(one, tls, number, options, out):
    """One server, once; its outcome is added to the file."""
    way = "tls" if tls else "plain"
    process, port, more = one.start(tls, None if options.no_pin else 0)
    try:
        command = [program("hawser-rival-client"), "run", "--server", one.name, "--server-version", one.version(),
                   "--pid", str(process.pid), "--address", f"127.0.0.1:{port}", "--dialect", one.dialect, "-n",
                   str(options.recipients), "--round", str(number), *more, *shlex.split(options.client)]
        if tls:
            command += ["--tls", str(servers.CERTIFICATES)]
        if not options.no_pin:
            command = ["taskset", "-c", "1", *command]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, timeout=options.limit_s)
    except subprocess.TimeoutExpired:
        return print(f"  {one.name} {way}: not done after {options.limit_s} s", flush=True)
    finally:
        process.stop()
        shutil.rmtree(CACHE / "run" / one.name, ignore_errors=True) if not options.keep else None
    if done.returncode != 0:
        return print(f"  {one.name} {way}: the client ended with {done.returncode}", flush=True)
    with out.open("a") as file:
        file.write(done.stdout.strip() + "\n")
    found = json.loads(done.stdout)
    cells = " ".join(f"{cell['scenario']}/{cell['body']}={cell['cpu_us']:.1f}" for cell in found["cells"])
    print(f"  {one.name} {way}: {cells} {found['gave_up'] or ''} {found['faults'] or ''}", flush=True)


def told(words):
    """The command line without paths, which are of one machine."""
    paths = ("--uwebsockets", "--gateway", "--out")
    return ["PATH" if before in paths else word for before, word in zip(["", *words], words)]


def run(options):
    """Rounds in which every server is measured, the first one another each time."""
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    lines = out / "outcomes.jsonl"
    if not options.append:
        lines.write_text("")
    subprocess.run([program("hawser-rival-client"), "certificate", str(servers.CERTIFICATES)], check=True)
    only = options.only.split(",") if options.only else None
    wanted = [one for one in everyone(options) if not only or one.name in only]
    missing = [f"{one.name} not measured" for one in everyone(options)
               if not one.installed() or (only and one.name not in only)]
    there = [one for one in wanted if one.installed()]
    date, machine = describe()
    about = {"date": date, "machine": machine, "missing": missing,
             "command": "dev/rivals run " + shlex.join(told(options.words))}
    (out / "about.json").write_text(json.dumps(about))
    for number in range(1, options.rounds + 1):
        print(f"round {number} of {options.rounds}", flush=True)
        shift = (number - 1) % max(len(there), 1)
        for one in there[shift:] + there[:shift]:
            for tls in {"both": (False, True), "plain": (False,), "tls": (True,)}[options.ways]:
                try:
                    measure(one, tls, number, options, lines)
                except Failure as failure:
                    print(f"  {one.name}: {failure}", flush=True)
    table(options)


def table(options):
    """The tables and the plot of a folder of outcomes."""
    out = Path(options.out)
    subprocess.run([program("hawser-rival-client"), "table", str(out / "outcomes.jsonl"), "--about",
                    str(out / "about.json"), "--out", str(out)], check=True)


def main():
    """The command line."""
    parser = argparse.ArgumentParser(prog="dev/rivals", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("install", "list", "run", "table"))
    parser.add_argument("--uwebsockets", metavar="PATH", help="sources of uWebSockets, uSockets within or beside them")
    parser.add_argument("--uwebsockets-version", help="what to call these sources in the table")
    parser.add_argument("--gateway", help="the gateway to measure, instead of that of the release build")
    parser.add_argument("--set", action="append", metavar="KEY=VALUE", help="settings of the gateway")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--recipients", "-n", type=int, default=10_000)
    parser.add_argument("--only", help="names of servers, separated by commas")
    parser.add_argument("--ways", choices=("both", "plain", "tls"), default="both")
    parser.add_argument("--out", default=str(CACHE / "out"))
    parser.add_argument("--append", action="store_true", help="adds to the outcomes of the folder")
    parser.add_argument("--client", default="", help="more options of hawser-rival-client run, as one word")
    parser.add_argument("--no-pin", action="store_true", help="leaves server and client to the scheduler")
    parser.add_argument("--keep", action="store_true", help="keeps the servers' folders and logs")
    parser.add_argument("--limit-s", type=int, default=900, help="seconds that one run of the client may take")
    options = parser.parse_args()
    options.words = sys.argv[2:]
    try:
        {"install": install, "list": show, "run": run, "table": table}[options.what](options)
    except Failure as failure:
        sys.exit(f"dev/rivals: {failure}")


if __name__ == "__main__":
    main()
