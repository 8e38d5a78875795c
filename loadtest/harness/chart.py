"""Answers a second as bars, in an SVG that needs nothing else."""

from html import escape

LEFT, BAR, RIGHT, STEP, THICK = 450, 520, 110, 24, 15
TABLES = ("http", "new", "opaque", "grpc", "nginx", "envoy", "peers")


def draw(figures, titles, caption):
    groups = [(titles[name], figures[name]) for name in TABLES if figures.get(name)]
    most = max((figure.rate for _, found in groups for figure in found), default=1)
    parts, top = [], 64
    for title, found in groups:
        top += 16
        parts.append(text(16, top, title, "group"))
        top += 10
        for figure in found:
            ours = "Vidimus" in figure.row.name
            width = max(1, figure.rate / most * BAR)
            parts.append(text(LEFT - 10, top + 12, figure.row.name, "ours name" if ours else "name"))
            parts.append(f'<rect x="{LEFT}" y="{top}" width="{width:.1f}" height="{THICK}" rx="2" '
                         f'class="{"mine" if ours else "other"}"/>')
            parts.append(text(LEFT + width + 6, top + 12, f"{figure.rate:,.0f}", "value"))
            top += STEP
    width, height = LEFT + BAR + RIGHT, top + 16
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="Answers a second">\n<style>{STYLE}</style>\n'
        f'<rect width="{width}" height="{height}" class="paper"/>\n'
        + text(16, 30, "Answers a second, one core for the servers", "title") + text(16, 50, caption, "caption")
        + "".join(parts) + "</svg>\n"
    )


def text(x, y, words, kind):
    return f'<text x="{x:.0f}" y="{y}" class="{kind}">{escape(words)}</text>\n'


STYLE = """
text { font: 12px system-ui, sans-serif; fill: #24292f }
.title { font-size: 16px; font-weight: 600 } .caption { fill: #57606a } .group { font-weight: 600 }
.name { text-anchor: end } .ours { font-weight: 600 } .value { fill: #57606a }
.mine { fill: #0969da } .other { fill: #afb8c1 } .paper { fill: #ffffff }
"""
