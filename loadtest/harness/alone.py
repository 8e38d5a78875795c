"""What is no race against another server: memory, time to start, hits while others wait for signatures."""

import time
from dataclasses import dataclass
from statistics import median

from .generators import Wrk
from .measure import Row
from .processes import Trouble
from .scene import checked
from .tables import env

CROWD = 100_000
STARTS = 9
SLOW = 20_000  # tokens with ES384, each of which is asked for once
MISSES = dict(connections=4, pause=10)  # some 380 a second, 0.6 ms of ring's time each
LIGHT = dict(connections=16, pause=1)  # at most 16,000 a second


def stall(scene):
    """Cached tokens (RS256) while tokens with ES384 come, each for the first time."""
    token = scene.tokens.one()
    slow = scene.tokens.many(SLOW, "ES384")
    with open(slow) as tokens:
        first = tokens.readline().strip()
    sidecar, misses, rows = scene.sidecar(), Misses(slow), []
    full, light = Wrk(token=token), Wrk(token=token, connections=LIGHT["connections"], env={"LOAD_DELAY": LIGHT["pause"]})
    runs = [("as fast as it goes", full, sidecar, misses), ("light load", light, sidecar, misses)]
    if scene.aws_lc:
        runs.append(("as fast as it goes, with AWS-LC", full, scene.sidecar(program=scene.aws_lc), Misses(slow)))
    for name, load, sidecar, misses in runs:
        rows += [
            checked(f"hits alone, {name}", load, sidecar.port, [sidecar.process], token),
            checked(f"hits while misses run, {name}", load, sidecar.port, [sidecar.process], first, beside=misses,
                    against=f"hits alone, {name}", watch=sidecar.metrics),
        ]
    return rows


@dataclass
class Misses:
    """Tokens that were not seen before, until all have been."""

    file: object
    start_at: int = 1  # of all that there are: each slice goes on where the last one ended, and some

    def start(self, target, seconds, work, name):
        more = env(self.file, SLOW, LOAD_START=self.start_at, LOAD_DELAY=MISSES["pause"])
        self.start_at += int(seconds * 1000 / MISSES["pause"] * MISSES["connections"]) + 50
        return Wrk(connections=MISSES["connections"], env=more).start(target, seconds, work, name)


def memory(scene):
    """MiB: idle, and with proofs of 100,000 tokens of 1.1 KB."""
    idle = scene.sidecar()
    time.sleep(0.3)
    found = {"idle": idle.process.memory()}
    token, file = scene.tokens.one(), scene.tokens.many(CROWD)
    for name, bound in (("all fit", "2GiB"), ("64 MiB of cache", "64MiB")):
        sidecar = scene.sidecar(cache=bound)
        asked, end = 0, time.monotonic() + 30
        while asked < CROWD and time.monotonic() < end:  # each token once; a few twice, where two slices meet
            load = Wrk(env=env(file, CROWD, LOAD_START=max(0, asked - 100)))
            row = checked(name, load, sidecar.port, [sidecar.process], token)
            asked += row.load.start(row.target, 1, scene.work).wait().result().requests
        series = sidecar.metrics()
        found[name] = {
            "resident": sidecar.process.memory(), "entries": int(series["vidimus_token_cache_entries"]),
            "accounted": series["vidimus_token_cache_bytes"] / 2**20,
        }
        sidecar.process.end()
    return found


def start(scene):
    """Milliseconds from the start of the process to the first 200 of /readyz."""
    times = []
    for _ in range(STARTS):
        sidecar = scene.sidecar(ready=False)
        end = time.monotonic() + 10
        while True:
            if time.monotonic() > end:
                raise Trouble("Vidimus is not ready after 10 s")
            try:
                if sidecar.is_ready():
                    break
            except OSError:
                pass
            time.sleep(0.001)
        times.append((time.monotonic() - sidecar.began) * 1000)
        sidecar.process.end()
    return {"start": median(times), "worst": max(times)}
