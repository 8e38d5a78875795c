"""wrk and h2load, run for a moment on the core for load."""

from __future__ import annotations

import json
import os
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from .cores import LOAD_CORE
from .processes import Trouble, pin

CHECK = "/envoy.service.auth.v3.Authorization/Check"
SCRIPT = Path(__file__).with_name("wrk.lua")


@dataclass
class Result:
    """What a generator saw in one slice. Times are milliseconds."""

    requests: int
    seconds: float
    refused: int
    failed: int
    p50: float
    p99: float


@dataclass
class Wrk:
    """HTTP/1.1 over TCP. `env` goes to wrk.lua. If it `moves`, each slice goes on where the last one ended, and
    draws anew."""

    path: str = "/auth"
    token: str | None = None
    connections: int = 64
    env: dict = field(default_factory=dict)
    moves: bool = False
    asked: int = 0

    def start(self, target, seconds, work, name="wrk"):
        result = work / f"{name}.json"
        result.unlink(missing_ok=True)
        headers = ["-H", f"Authorization: Bearer {self.token}"] if self.token else []
        command = ["wrk", "-t1", f"-c{self.connections}", f"-d{seconds:.0f}s", "--timeout", "10s", "--latency"]
        command += [*headers, "-s", SCRIPT, f"http://127.0.0.1:{target}{self.path}"]
        if seconds != int(seconds):  # wrk knows whole seconds only; a shorter slice is ended by SIGINT
            command[3] = f"-d{int(seconds) + 1}s"
            command = ["timeout", "-s", "INT", f"{seconds:.2f}", *command]
        told = {"LOAD_RESULT": result, **self.env}
        if self.moves:
            told |= {"LOAD_START": self.asked, "LOAD_SEED": self.asked + 1}
        env = os.environ | {key: str(value) for key, value in told.items()}
        popen = subprocess.Popen(
            [str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env,
            preexec_fn=pin(LOAD_CORE), text=True,
        )
        return Running(popen, lambda output: self._seen(_wrk_result(output, result)))

    def _seen(self, result):
        self.asked += result.requests
        return result


@dataclass
class H2load:
    """HTTP/1.1 over a unix socket with `token`, or ext_authz by gRPC with `message`."""

    token: str | None = None
    message: Path | None = None
    connections: int = 64
    streams: int = 1
    path: str = "/auth"

    def start(self, target, seconds, work, name="h2load"):
        log = work / f"{name}.tsv"
        log.unlink(missing_ok=True)
        command = ["h2load", "-t1", f"-c{self.connections}", f"-m{self.streams}", "-D", f"{seconds * 1000:.0f}ms"]
        command += ["--warm-up-time", "200ms", f"--log-file={log}"]
        if self.message:
            command += ["-d", self.message, "-H", "content-type: application/grpc", "-H", "te: trailers"]
        else:
            command += ["--h1", "-H", f"Authorization: Bearer {self.token}"]
        path = CHECK if self.message else self.path
        if isinstance(target, int):
            command.append(f"http://127.0.0.1:{target}{path}")
        else:
            command += ["-B", f"unix:{target}", f"http://localhost{path}"]
        popen = subprocess.Popen(
            [str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            preexec_fn=pin(LOAD_CORE), text=True,
        )
        return Running(popen, lambda output: _h2load_result(output, log, seconds))


class Running:
    """A generator at work."""

    def __init__(self, popen, read):
        self._popen, self._read, self._output = popen, read, ""
        self.cpu = 0.0

    def wait(self):
        """Until it has ended."""
        self._output = self._popen.stdout.read()
        _, _, usage = os.wait4(self._popen.pid, 0)
        self._popen.returncode = 0
        self.cpu = usage.ru_utime + usage.ru_stime
        return self

    def result(self):
        """After that; it may take a moment."""
        return self._read(self._output)


def _wrk_result(output, file):
    try:
        seen = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise Trouble(f"wrk gave no result:\n{output}") from error
    return Result(seen["requests"], seen["seconds"], seen["refused"], seen["failed"], seen["p50"], seen["p99"])


def _h2load_result(output, log, seconds):
    found = re.search(r"requests: (\d+) total.*?(\d+) failed, (\d+) errored, (\d+) timeout", output)
    statuses = re.search(r"status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", output)
    if not found or not statuses:
        raise Trouble(f"h2load gave no result:\n{output}")
    with open(log, "rb") as lines:
        times = sorted(int(line.rsplit(b"\t", 1)[1]) for line in lines)
    log.unlink()
    if not times:
        raise Trouble(f"h2load got no answer:\n{output}")
    good, *bad = (int(number) for number in statuses.groups())
    quantile = lambda part: times[min(len(times) - 1, int(len(times) * part))] / 1e3
    return Result(good + sum(bad), seconds, sum(bad), int(found.group(2)), quantile(0.5), quantile(0.99))
