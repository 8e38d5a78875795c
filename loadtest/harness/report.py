"""The table: on the terminal, and as loadtest/results.md."""

HEAD = ("", "requests/s", "ratio", "p50 ms", "p99 ms", "p99 ratio", "CPU µs", "CPU ratio", "of it ours", "MiB", "load %", "ratio to")


def cells(figure):
    """One row. A figure that there is not stays empty."""
    number = lambda value, form: "" if value is None else format(value, form)
    several = len(figure.row.processes) > 1
    return (
        figure.row.name, f"{figure.rate:,.0f}", number(figure.ratio, ".2f"), f"{figure.p50:.2f}", f"{figure.p99:.2f}",
        number(figure.p99_ratio, ".2f"), f"{figure.cpu:.1f}",
        number(figure.cpu_ratio, ".2f"), f"{figure.own_cpu:.1f}" if several else "",
        f"{figure.memory:.0f}", f"{figure.load_share * 100:.0f}", figure.row.against or "",
    )


def notes(figures):
    """What a reader must know about some rows."""
    for figure in figures:
        changes = figure.row.changes
        hits, misses = (changes.get(f"vidimus_token_cache_{kind}", 0) for kind in ("hits", "misses"))
        told = changes.get("vidimus_introspection_cache_hits", 0)
        if told:
            calls = sum(value for name, value in changes.items() if name.startswith("vidimus_introspection_total"))
            yield f"{figure.row.name}: {told:,.0f} answers used again, {calls:,.0f} questions to the realm."
        elif hits + misses:
            yield f"{figure.row.name}: {hits / (hits + misses):.1%} of the tokens were in the cache."
        if figure.failed or figure.refused:
            yield f"{figure.row.name}: {figure.refused} answers were no 2xx, {figure.failed} requests failed."


def markdown(head, rows):
    lines = ["| " + " | ".join(head) + " |", "| --- |" + " ---: |" * (len(head) - 1)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def terminal(rows, head=HEAD):
    rows = [head, *rows]
    widths = [max(len(row[place]) for row in rows) for place in range(len(head))]
    line = lambda row: "  ".join(
        cell.ljust(width) if place == 0 else cell.rjust(width) for place, (cell, width) in enumerate(zip(row, widths)))
    return "\n".join(line(row).rstrip() for row in rows)


def alone(figures):
    """Memory and start, as sentences."""
    memory, start = figures.get("memory"), figures.get("start")
    if memory:
        yield f"Resident memory, idle: {memory['idle']:.1f} MiB."
        for name in ("all fit", "64 MiB of cache"):
            part = memory[name]
            yield (f"After 100,000 tokens of 1.1 KB, {name}: {part['resident']:.0f} MiB resident, {part['entries']:,} "
                   f"proofs held, {part['accounted']:.0f} MiB by `vidimus_token_cache_bytes`.")
    if start:
        yield f"Start to ready: {start['start']:.0f} ms (median; worst {start['worst']:.0f} ms)."


def reached(verdicts):
    return [(bound.text, bound.limit(), f"{value:.3g}{bound.unit}", "yes" if holds else "**no**")
            for bound, value, holds in verdicts]


def document(facts, figures, titles, verdicts):
    """The whole of results.md. `facts` are lines about the run."""
    parts = ["# Load test: results", "\n".join(facts), "Made by `loadtest/run`. README.md beside this file says how to read it."]
    parts += ["![answers a second](results.svg)", "## Numbers to reach"]
    parts.append(markdown(("", "limit", "measured", "reached"), reached(verdicts)))
    for name, title in titles.items():
        found = figures.get(name)
        if isinstance(found, list):
            parts.append(f"## {title}")
            parts.append(markdown(HEAD, [cells(figure) for figure in found]))
            parts += ["\n".join(f"- {note}" for note in notes(found))]
    sentences = list(alone(figures))
    if sentences:
        parts += ["## Memory and start", "\n".join(f"- {sentence}" for sentence in sentences)]
    return "\n\n".join(part for part in parts if part) + "\n"


def noise(figures):
    """How much of the two cores others used, at worst, and where."""
    rows = [figure for found in figures.values() if isinstance(found, list) for figure in found]
    if not rows:
        return None
    worst = max(rows, key=lambda figure: figure.others)
    return worst.others, worst.row.name
