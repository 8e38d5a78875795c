"""The course of a run: table after table, once more what missed, and what is written."""

import time
from datetime import date
from pathlib import Path

from . import alone, bounds, chart, growth, report, tables, versions
from .measure import figures as of_rounds, rounds, warm
from .processes import Trouble

HERE = Path(__file__).resolve().parents[1]
LIMIT = 590  # seconds, from the first measurement on; what would go beyond is not measured again
ROUNDS, SECONDS = 5, 1.2
# Name, what builds its rows, rounds.
RACES = {
    "http": (tables.http, ROUNDS), "new": (tables.new, ROUNDS), "opaque": (tables.opaque, 3),
    "grpc": (tables.grpc, ROUNDS), "nginx": (tables.nginx, ROUNDS), "envoy": (tables.envoy, 3),
    "peers": (tables.peers, 3), "stall": (alone.stall, ROUNDS), "sizes": (growth.sizes, 3),
    "connections": (growth.connections, 1), "realms": (growth.realms, ROUNDS), "policies": (growth.policies, 3),
    "distinct": (growth.distinct, 1),
}
SINGLE = {"memory": alone.memory, "start": alone.start}
QUICK = ("http", "new", "opaque", "grpc", "nginx", "start")


def measure(scene, names, given):
    figures, troubles, lengths, more, began = {}, {}, {}, [], time.monotonic()

    def take(name):
        """New rounds count with those before. Those stay as they are if the new ones fail."""
        start = time.monotonic()
        try:
            figures[name] = table(scene, name, given.quick, figures.get(name))
            troubles.pop(name, None)
        except Trouble as trouble:
            print(f"cannot be measured: {trouble}", flush=True)
            troubles[name] = trouble
        lengths[name] = time.monotonic() - start
        print(f"({lengths[name]:.0f} s)", flush=True)

    def missed_by(name):
        """Of its numbers the one that is missed by most, and by what share."""
        found = bounds.verdicts({name: figures[name]}) if name in figures else []
        return max(((bound.shortfall(value), value) for bound, value, _ in found), default=(0.0, 0.0))

    for name in names:
        take(name)
    again = [] if given.quick else [name for name in names if name in troubles or name in RACES and missed_by(name)[0]]
    # Failures first, then the shortest: so most of them get more. Servers that start anew lie elsewhere in memory,
    # which moves a ratio by some percent.
    for name in sorted(again, key=lambda name: (name not in troubles, lengths[name])):
        if lengths[name] < LIMIT - (time.monotonic() - began):
            why = "failed before" if name in troubles else f"{missed_by(name)[1]:.3g} before"
            print("\nOnce more:")
            take(name)
            more.append(f"{name} ({why}{', and the new rounds failed' if name in troubles else ''})")
    verdicts = bounds.verdicts(figures)
    if verdicts:
        print("\n" + report.terminal(report.reached(verdicts), ("numbers to reach", "limit", "measured", "reached")))
    facts = about(scene, figures, time.monotonic() - began)
    if more:
        facts.append(f"- More rounds, because a number was missed or the table failed: {', '.join(more)}.")
    facts += [f"- Left out: {what}." for what in scene.left_out]
    facts += [f"- Not measured: {name}." for name in troubles if name not in figures]
    print("\n" + "\n".join(facts))
    if not given.only and not given.quick:
        write(facts, figures, verdicts)
    if troubles:
        return 2
    if given.quick or not missed(verdicts):
        return 0
    print("\nmissed: " + "; ".join(bound.text for bound, _, holds in verdicts if not holds))
    return 1


def write(facts, figures, verdicts):
    (HERE / "results.md").write_text(report.document(facts, figures, TITLES, verdicts))
    caption = f"{date.today()}, {versions.machine()}"
    (HERE / "results.svg").write_text(chart.draw(figures, TITLES, caption))
    print("written: loadtest/results.md, loadtest/results.svg")


def missed(verdicts):
    return sum(not holds for _, _, holds in verdicts)


def table(scene, name, quick, before):
    """The figures of one table, printed as soon as they are there, with the rounds of those before."""
    print(f"\n=== {name}: {TITLES[name]}", flush=True)
    with scene.table():
        if name in SINGLE:
            found = SINGLE[name](scene)
            print("\n".join(report.alone({name: found})), flush=True)
            return found
        build, count = RACES[name]
        rows = build(scene)
        seconds = 0.5 if quick else SECONDS
        warm(rows, scene.work)
        samples = rounds(rows, 1 if quick else count, seconds, scene.work)
    for row, then in zip(rows, before or []):
        samples[row.name] = then.samples + samples[row.name]
        row.changes = {key: value + then.row.changes.get(key, 0) for key, value in row.changes.items()}
    found = of_rounds(rows, samples)
    check(found)
    print(report.terminal([report.cells(figure) for figure in found]))
    print("\n".join(report.notes(found)), flush=True)
    return found


def check(found):
    """A figure that means something else than its row says is none."""
    for figure in found:
        name, changes = figure.row.name, figure.row.changes
        if figure.refused + figure.failed > figure.requests * 0.001:
            raise Trouble(f"{name}: of {figure.requests:,} requests {figure.refused:,} got no 2xx, {figure.failed:,} failed")
        if "every token new" in name:
            hits, misses = changes["vidimus_token_cache_hits"], changes["vidimus_token_cache_misses"]
            if hits > misses * 0.02:
                raise Trouble(f"{name}: {hits:.0f} of {hits + misses:.0f} tokens were in the cache")


def about(scene, figures, seconds):
    programs = ", ".join(f"{name} {version}" for name, version in versions.measured(scene).items())
    facts = [
        f"- Date: {date.today()}; {seconds / 60:.0f} minutes.", f"- Machine: {versions.machine()}.", f"- Versions: {programs}.",
        "- Again: `loadtest/run`.",
    ]
    if noise := report.noise(figures):
        share, where = noise
        facts.append(f"- Others used at most {share:.0%} of the two cores (median of the rounds; {where}).")
    return facts


TITLES = {
    "http": "Cached, over HTTP", "new": "Every token new, RS256",
    "opaque": "Opaque tokens: the realm's answer is used for 30 s", "grpc": "Cached, ext_authz by gRPC",
    "nginx": "Behind nginx, over a unix socket", "envoy": "Behind Envoy, by gRPC over a unix socket",
    "peers": "What else answers 2xx for the same token", "stall": "Cached tokens (RS256) while others (ES384) come new",
    "sizes": "Growth: length of the token", "connections": "Growth: connections", "realms": "Growth: realms",
    "policies": "Growth: policies", "distinct": "Growth: different tokens under 64 MiB of cache",
    "memory": "Memory", "start": "Start to ready, issuer on loopback",
}
