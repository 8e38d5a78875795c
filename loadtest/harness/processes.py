"""Processes that are started here, pinned to a core, watched, and ended whatever happens."""

import atexit
import ctypes
import os
import random
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from .cores import SERVER_CORE

TICK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
_PDEATHSIG = 1  # prctl(2)
_libc = ctypes.CDLL(None)
_started = []
_reaper = None


class Trouble(Exception):
    """A sentence for whoever runs this."""


def allow_many_files():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def pin(core):
    """For a child: its core, and that it dies with us. Its own children do not: for them there is the reaper."""

    def prepare():
        os.sched_setaffinity(0, {core})
        _libc.prctl(_PDEATHSIG, signal.SIGKILL)

    return prepare


class Process:
    """A server with all its children, which are a session of their own."""

    def __init__(self, name, command, work, core=SERVER_CORE, env=None, cwd=None):
        self.name = name
        self.log = work / f"{name}.log"
        with open(self.log, "wb") as log:
            try:
                self.popen = subprocess.Popen(
                    [str(part) for part in command], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                    preexec_fn=pin(core), start_new_session=True, env={**os.environ, **(env or {})}, cwd=cwd or work,
                )
            except OSError as error:
                raise Trouble(f"cannot start {name}: {error}") from error
        _started.append(self)
        _tell("+", self.popen.pid)

    def _members(self):
        for entry in os.listdir("/proc"):
            if not entry.isdigit():
                continue
            try:
                with open(f"/proc/{entry}/stat", "rb") as file:
                    fields = file.read().rsplit(b")", 1)[1].split()
            except (OSError, IndexError):
                continue
            if int(fields[3]) == self.popen.pid:
                yield int(entry), fields

    def cpu(self):
        """Seconds of processor time so far."""
        return sum(int(fields[11]) + int(fields[12]) for _, fields in self._members()) / TICK

    def memory(self):
        """MiB resident; what several processes share counts once."""
        members = [pid for pid, _ in self._members()]
        total = 0
        for pid in members:
            file, key = ("smaps_rollup", "Pss:") if len(members) > 1 else ("status", "VmRSS:")
            try:
                with open(f"/proc/{pid}/{file}") as lines:
                    total += sum(int(line.split()[1]) for line in lines if line.startswith(key))
            except OSError:
                continue
        return total / 1024

    def check_alive(self):
        if self.popen.poll() is not None:
            tail = self.log.read_text(errors="replace")[-1500:]
            raise Trouble(f"{self.name} has ended ({self.popen.returncode}):\n{tail}")

    def end(self):
        if self in _started:
            _started.remove(self)
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.popen.pid, number)
            except ProcessLookupError:
                break
            try:
                self.popen.wait(timeout=2)
                if number == signal.SIGTERM and not list(self._members()):
                    break
            except subprocess.TimeoutExpired:
                continue
        self.popen.wait()
        _tell("-", self.popen.pid)


def end_all():
    for process in reversed(_started[:]):
        process.end()


def reap_in(folder):
    """Starts what ends all this if we are killed, and removes the folder."""
    global _reaper
    script = Path(__file__).with_name("reaper.py")
    _reaper = subprocess.Popen(
        [sys.executable, "-B", script, folder], stdin=subprocess.PIPE, text=True, start_new_session=True, cwd="/",
    )


def _tell(sign, group):
    try:
        _reaper.stdin.write(f"{sign}{group}\n")
        _reaper.stdin.flush()
    except OSError:
        pass  # someone has ended it; we still end what we start


def end_with_us():
    """On every way out but SIGKILL, for which there are pin() and the reaper."""

    def told(number, _):
        raise SystemExit(128 + number)

    atexit.register(end_all)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, told)


_given = set()


def free_port():
    """One below those that clients get, so that no client sits on it."""
    while True:
        port = random.randint(20000, 32000)
        if port in _given:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given.add(port)
        return port


def wait_for(what, process, ready, seconds=20.0):
    """Asks `ready` until it says yes."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        process.check_alive()
        try:
            if ready():
                return
        except OSError:
            pass
        time.sleep(0.02)
    raise Trouble(f"{what} is not there after {seconds:.0f} s; its log: {process.log}")


def busy():
    """Seconds that each core has worked, for whomever."""
    times = {}
    with open("/proc/stat") as file:
        for line in file:
            name, *fields = line.split()
            if name.startswith("cpu") and name != "cpu":
                numbers = [int(field) for field in fields[:8]]
                times[int(name[3:])] = (sum(numbers) - numbers[3] - numbers[4]) / TICK
    return times
