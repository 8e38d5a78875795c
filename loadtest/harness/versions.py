"""What was measured, with what, and where."""

import json
import os
import platform
import subprocess
from pathlib import Path

from . import cores
from .needs import ENVOY_VERSION, HOME, PEERS, ROOT


def measured(scene):
    """Name and version of everything that is measured or measures."""
    lines = lambda *command: subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False)
    first = lambda *command: (lambda done: (done.stdout or done.stderr).strip().split("\n")[0])(lines(*command))
    found = {
        "rustc": first("rustc", "--version").split()[1],
        "wrk": first("wrk", "-v").split(" [")[0].split(" ", 1)[1],
        "h2load": first("h2load", "--version").split("/")[-1],
        "nginx": first("nginx", "-v").split("/")[-1],
    }
    commit = first("git", "-C", ROOT, "rev-parse", "--short", "HEAD")
    changed = bool(first("git", "-C", ROOT, "status", "--porcelain", "--", "src", "Cargo.toml", "Cargo.lock"))
    found["Vidimus"] = commit + (" with changes" if changed else "")
    if scene.node:
        found["Envoy"] = ENVOY_VERSION if "ENVOY" not in os.environ else first(scene.envoy, "--version").strip()
        found["Apache"] = first("apache2", "-v").split("/")[-1].split(" ")[0]
        openidc = first("dpkg-query", "-W", "-f", "${Version}", "libapache2-mod-auth-openidc")
        found["mod_auth_openidc"] = openidc or "unknown"
        found["node"] = first("node", "--version").lstrip("v")
        for package in PEERS:
            about = HOME / "node/node_modules" / package / "package.json"
            found[package] = json.loads(about.read_text())["version"]
    return found


def machine():
    model = "unknown processor"
    with open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    control = Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip()
    return f"{model}, {os.cpu_count()} cores, {cores.told()}, Linux {platform.release()}, TCP {control}"
