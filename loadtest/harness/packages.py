"""Programs by package name. Each is said before it is installed."""

import os
import shutil
import subprocess
import sys

from .processes import Trouble

# Says no to every package that wants to start its service; see invoke-rc.d(8).
POLICY = "/usr/sbin/policy-rc.d"


def apt(packages):
    """By apt-get, as root or with sudo. What comes as a service is not started meanwhile."""
    names = " ".join(packages)
    root = [] if os.getuid() == 0 else ["sudo"]
    if not shutil.which("apt-get") or (root and not shutil.which("sudo")):
        raise Trouble(f"neither root nor sudo with apt-get; install by hand: {names}")
    print(f"installing with {' '.join([*root, 'apt-get'])}: {names}", flush=True)
    if "nginx" in packages:
        print("  nginx is a service and would start with the machine from now on, on port 80. It is not started now;\n"
              "  if you do not want it: systemctl disable nginx", flush=True)
    quiet = ["env", "DEBIAN_FRONTEND=noninteractive"]
    install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages]
    ours = not os.path.exists(POLICY)
    if ours:
        run([*root, "sh", "-c", f"printf '#!/bin/sh\\nexit 101\\n' > {POLICY} && chmod 755 {POLICY}"],
            f"cannot write {POLICY}, which keeps services from starting; install by hand: {names}")
    try:
        for command in (["apt-get", "update", "-qq"], install):
            run([*root, *quiet, *command], f"apt-get cannot install {names}; install by hand")
    finally:
        if ours:
            run([*root, "rm", "-f", POLICY], f"remove {POLICY} by hand: it keeps services from starting")


def pip(package, folder):
    print(f"installing with pip, into {folder}: {package}", flush=True)
    run([sys.executable, "-m", "pip", "install", "--quiet", "--target", folder, package], f"pip cannot install {package}")


def npm(lock, folder):
    """What a package-lock.json names, no more: no scripts, no optional packages (one of them fetches a browser)."""
    print(f"installing with npm, into {folder}: what {lock.parent}/package.json names", flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    for file in (lock, lock.with_name("package.json")):
        shutil.copy(file, folder)
    options = ["--ignore-scripts", "--omit=optional", "--silent", "--no-audit", "--no-fund"]
    run(["npm", "ci", *options, "--prefix", folder], "npm cannot install the peers")


def run(command, sentence):
    try:
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    except OSError as error:
        raise Trouble(f"{sentence}: {error}") from error
    if done.returncode:
        raise Trouble(f"{sentence}:\n{(done.stdout + done.stderr).strip()[-2000:]}")
    return done.stdout
