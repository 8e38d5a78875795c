"""Rows that are measured in turn, round by round, and what becomes of the rounds."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from statistics import median

from .cores import LOAD_CORE, SERVER_CORE
from .processes import Trouble, busy


@dataclass
class Row:
    """One server under one load. `against` names the row of the same table that it is compared with."""

    name: str
    load: object  # Wrk or H2load
    target: object  # a port, or the path of a unix socket
    processes: list  # all that work for the answer; the authorizer last
    against: str | None = None
    beside: object = None  # another load at the same time, which is not measured
    seconds: float | None = None
    warm: float = 0.3  # seconds before the first round; compilers at run time need more
    watch: object = None  # called before and after each round: two dictionaries of series
    changes: dict = field(default_factory=dict)  # what the series did, summed over the rounds


@dataclass
class Sample:
    requests: int
    rate: float
    p50: float
    p99: float
    cpu: float  # microseconds of all servers for each request
    own_cpu: float  # of the authorizer
    memory: float
    refused: int
    failed: int
    load_share: float  # of its core, by the load generator
    others: float  # of both cores, by whoever else


@dataclass
class Figures:
    """Medians over the rounds; ratios are medians of each round's ratio. Requests, refused and failed are sums; memory
    is that of the end."""

    row: Row
    requests: int
    rate: float
    p50: float
    p99: float
    cpu: float
    own_cpu: float
    memory: float
    refused: int
    failed: int
    load_share: float
    others: float
    samples: list
    ratio: float | None = None
    p99_ratio: float | None = None
    cpu_ratio: float | None = None


def one(row, seconds, work):
    before = row.watch() if row.watch else None
    cpu = [process.cpu() for process in row.processes]
    core, began = busy(), time.monotonic()
    loads = [load.start(row.target, seconds, work, f"load-{place}")
             for place, load in enumerate((row.beside, row.load)) if load]
    load_cpu = sum(load.wait().cpu for load in reversed(loads))
    wall, core_after = time.monotonic() - began, busy()
    spent = [process.cpu() - then for process, then in zip(row.processes, cpu)]
    result = loads[-1].result()
    for process in row.processes:
        process.check_alive()
    if row.watch:
        for name, value in row.watch().items():
            row.changes[name] = row.changes.get(name, 0) + value - before.get(name, 0)
    if not result.requests:
        raise Trouble(f"{row.name}: no answer at all")
    total = sum(core_after[number] - core[number] for number in (SERVER_CORE, LOAD_CORE))
    others = total - sum(spent) - load_cpu
    # h2load warms up a little: those requests cost too, and it does not count them
    counted = min(1.0, result.seconds / wall) if hasattr(row.load, "streams") else 1.0
    return Sample(
        requests=result.requests, rate=(result.requests - result.refused) / result.seconds, p50=result.p50, p99=result.p99,
        cpu=sum(spent) * counted / result.requests * 1e6, own_cpu=spent[-1] * counted / result.requests * 1e6,
        memory=row.processes[-1].memory(), refused=result.refused, failed=result.failed,
        load_share=load_cpu / wall, others=max(0.0, others) / wall / 2,
    )


def warm(rows, work):
    """So that connections, caches and just-in-time compilers are not seen at work."""
    for row in rows:
        one(row, row.warm, work)
        row.changes.clear()


def rounds(rows, count, seconds, work):
    """A B C A B C: for each row its samples, round by round."""
    samples = {row.name: [] for row in rows}
    for _ in range(count):
        for row in rows:
            samples[row.name].append(one(row, row.seconds or seconds, work))
    return samples


def figures(rows, samples):
    """What becomes of the rounds."""
    found = []
    for row in rows:
        keys = ("rate", "p50", "p99", "cpu", "own_cpu", "load_share", "others")
        sums = ("requests", "refused", "failed")
        own = samples[row.name]
        figure = Figures(
            row, samples=own, memory=own[-1].memory, **{key: sum(getattr(sample, key) for sample in own) for key in sums},
            **{key: median(getattr(sample, key) for sample in own) for key in keys},
        )
        if row.against:
            pairs = list(zip(own, samples[row.against]))
            figure.ratio = median(a.rate / b.rate for a, b in pairs)
            figure.p99_ratio = median(a.p99 / b.p99 for a, b in pairs)
            figure.cpu_ratio = median(a.cpu / b.cpu for a, b in pairs if b.cpu)
        found.append(figure)
    return found
