"""What was measured, with what, and where."""

import json
import os
import platform
import re
import subprocess
from pathlib import Path

from . import cores
from .needs import ENVOY_VERSION, HOME, PEERS, ROOT


def measured(scene):
    """Name and version of everything that is measured or measures."""
    found = {
        "Vidimus": _vidimus(scene.vidimus, "VIDIMUS"),
        **_locked("ring"),
        **({"Vidimus with AWS-LC": _vidimus(scene.aws_lc, "VIDIMUS_AWS_LC"), **_locked("aws-lc-rs")} if scene.aws_lc else {}),
        "null servers": "given by NULL" if os.environ.get("NULL") else _commit("loadtest/null"),
        "rustc": _first("rustc", "--version").split(" (")[0].removeprefix("rustc "),
        "wrk": _first("wrk", "-v").split(" [")[0].removeprefix("wrk "),
        "h2load": _first("h2load", "--version").split("/")[-1],
        "nginx": _first("nginx", "-v").split("/")[-1],
    }
    if scene.envoy:
        found["Envoy"] = _first(scene.envoy, "--version") if os.environ.get("ENVOY") else ENVOY_VERSION
    if scene.node:
        found["Apache"] = _first("apache2", "-v").split("/")[-1].split(" ")[0]
        found["mod_auth_openidc"] = _first("dpkg-query", "-W", "-f", "${Version}", "libapache2-mod-auth-openidc")
        found["node"] = _first("node", "--version").lstrip("v")
        for package in PEERS:
            about = HOME / "node/node_modules" / package / "package.json"
            found[package] = json.loads(about.read_text())["version"]
    if os.environ.get("VIDIMUS") and os.environ.get("NULL"):
        del found["rustc"]  # what built them is not known
    return {name: version or "unknown" for name, version in found.items()}


def machine():
    model = "unknown processor"
    with open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    control = Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip()
    return f"{model}, {os.cpu_count()} cores, {cores.told()}, Linux {platform.release()}, TCP {control}"


def _locked(*crates):
    """The versions of these libraries that the sources ask for."""
    lock = (ROOT / "Cargo.lock").read_text()
    found = {crate: re.search(rf'^name = "{crate}"\nversion = "(.*)"$', lock, re.MULTILINE) for crate in crates}
    return {crate: version[1] for crate, version in found.items() if version}


def _vidimus(program, variable):
    """What it says itself; and where it comes from: these sources only if it was built from them just now."""
    origin = f"given by {variable}" if os.environ.get(variable) else _commit("src", "Cargo.toml", "Cargo.lock")
    return f"{_first(program, 'version').removeprefix('vidimus ')} ({origin})"


def _commit(*paths):
    commit = _first("git", "-C", ROOT, "rev-parse", "--short", "HEAD") or "no commit"
    changed = _first("git", "-C", ROOT, "status", "--porcelain", "--", *(ROOT / path for path in paths))
    return commit + (" with changes" if changed else "")


def _first(*command):
    """The first line of what a program says; nothing if there is none."""
    try:
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return (done.stdout or done.stderr).strip().split("\n")[0]
