"""One picture of a scenario, made from its record and nothing else: SVG, by hand.

It has a light ground of its own, so it reads the same on a dark page and on a white one. Pure but for `write`.
"""

import os
from html import escape
from math import ceil, floor, log10

WIDTH = 760
LABEL_WIDTH, VALUE_WIDTH = 140, 210
ROW_HEIGHT, BAR_HEIGHT = 30, 16
HEAD_HEIGHT, PANEL_HEIGHT, FOOT_HEIGHT = 70, 34, 30
LEFT, RIGHT = LABEL_WIDTH + 10, WIDTH - VALUE_WIDTH
INK, FAINT, GROUND, FRAME, GRID = "#1f2328", "#59636e", "#ffffff", "#d1d9e0", "#e6eaef"
SUBJECT, OTHER, SPREAD = "#0969da", "#9aa7b5", "#1f2328"
PERCENTILES = (("p50_us", "p50", "#9aa7b5"), ("p99_us", "p99", "#0969da"), ("p999_us", "p99.9", "#bc4c00"))
TITLE_MAX = 108


def write(directory, record):
    path = os.path.join(directory, f"{record['scenario']}.svg")
    with open(path, "w", encoding="utf-8") as file:
        file.write(draw(record))
    return path


def draw(record):
    """The whole picture: what was done, its panels, and where and when."""
    body, height = [], HEAD_HEIGHT
    for part in panels(record):
        text, below = part(height)
        body += text
        height = below
    height += FOOT_HEIGHT
    said = f"{shape(record)} · {record['date']} · Linux {record['kernel']} · commit {commit(record)}"
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
        'font-family="system-ui, -apple-system, Segoe UI, sans-serif" role="img">',
        f"<title>{escape(record['scenario'])}</title>",
        f'<rect x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="8" fill="{GROUND}" stroke="{FRAME}"/>',
        text_at(20, 28, record["scenario"], size=17, weight=600),
    ]
    lines += [text_at(20, 46 + 14 * at, line, FAINT, 12) for at, line in enumerate(wrapped(record["about"]))]
    return "\n".join([*lines, *body, text_at(20, height - 13, said, FAINT, 11), "</svg>", ""])


def commit(record):
    """As short as can be found again, and whether there was more than what it has."""
    name, _, rest = record["commit"].partition(" ")
    return " ".join(filter(None, (name[:12], rest)))


def shape(record):
    """What the bars and dots are."""
    rounds = f"{record['rounds']} round{'s' * (record['rounds'] > 1)}"
    if record.get("failure"):
        return f"{rounds}, added up"
    return rounds if record["rounds"] == 1 else f"medians and spreads of {rounds}"


def wrapped(text):
    """One line, or two of which the second may be cut."""
    if len(text) <= TITLE_MAX:
        return [text]
    cut = text.rfind(" ", 0, TITLE_MAX)
    rest = text[cut + 1 :]
    return [text[:cut], rest if len(rest) <= TITLE_MAX else rest[: TITLE_MAX - 1] + "…"]


def panels(record):
    """What there is to see in this record, as functions that draw below a height."""
    figure = record.get("figure") or ("connection_bytes" if record["idle"] else "cpu_us")
    if record.get("failure"):
        return [lambda top: bars(record, top, "Requests lost, all rounds", lost(record))]
    if figure == "p99_us":
        return [
            lambda top: percentiles(record, top),
            lambda top: bars(record, top, f"CPU µs per {record['per']} at this rate", spreads(record, "cpu_us")),
        ]
    if figure == "connection_bytes":
        return [lambda top: bars(record, top, "Bytes of memory per connection", spreads(record, figure))]
    shown = [lambda top: bars(record, top, f"CPU µs per {record['per']}", spreads(record, "cpu_us"))]
    if any("reader_bytes" in row for row in record["summary"].values()):
        shown.append(lambda top: bars(record, top, "Bytes of memory per slow reader", spreads(record, "reader_bytes")))
    return shown


def spreads(record, key):
    """A figure of each proxy that has it; in words also how often the subject's it is, as the table has it: within the rounds."""
    cells = {}
    for name, row in record["summary"].items():
        if row.get(key):
            compared = row.get("cpu_ratio" if key == "cpu_us" and record.get("figure", key) != key else "ratio")
            cells[name] = dict(row[key], said=short(row[key]["median"]))
            if compared and key != "reader_bytes":
                cells[name]["said"] += f"  ({1 / compared['median']:.2f} × {record['subject']})"
    return cells


def lost(record):
    """GETs and POSTs without an answer, and POSTs done twice, as one number; the parts are told in words."""
    cells = {}
    for name in record["summary"]:
        among = [sample for sample in record["samples"] if sample["proxy"] == name]
        gets, posts, twice = (sum(sample[key] for sample in among) for key in ("get_errors", "post_errors", "posts_twice"))
        total = gets + posts + twice
        said = f"{gets} GETs, {posts} POSTs" + (f", {twice} twice" if twice else "")
        cells[name] = {"median": total, "min": total, "max": total, "said": said}
    return cells


def bars(record, top, title, cells):
    """A bar for each proxy, from zero, with the spread of the rounds as a line over its end; less is better."""
    out = [text_at(20, top + 18, f"{title} (less is better)", size=13, weight=600)]
    most = max((cell["max"] for cell in cells.values()), default=0) or 1
    step = max(nice_step(most), 1 if record.get("failure") else 0)
    scale = (RIGHT - LEFT) / (ceil(most / step) * step)
    bottom = top + PANEL_HEIGHT + ROW_HEIGHT * len(cells)
    for at in range(ceil(most / step) + 1):
        out += tick(LEFT + at * step * scale, top + PANEL_HEIGHT, bottom, short(at * step))
    for index, (name, cell) in enumerate(cells.items()):
        middle = top + PANEL_HEIGHT + ROW_HEIGHT * index + ROW_HEIGHT / 2
        colour = SUBJECT if name == record["subject"] else OTHER
        length = cell["median"] * scale
        out += [
            text_at(LABEL_WIDTH, middle + 4, name, anchor="end", weight=600 if name == record["subject"] else 400),
            f'<rect x="{LEFT}" y="{middle - BAR_HEIGHT / 2:.1f}" width="{length:.1f}" height="{BAR_HEIGHT}" rx="2" fill="{colour}"/>',
            *whisker(LEFT + cell["min"] * scale, LEFT + cell["max"] * scale, middle, SPREAD),
            text_at(RIGHT + 12, middle + 4, cell["said"]),
        ]
    return out, bottom + 22


def percentiles(record, top):
    """A dot for each percentile on a line of its proxy; the axis is logarithmic, as latencies are."""
    out = [text_at(20, top + 18, "Latency in µs from the intended beginning, logarithmic (less is better)", size=13, weight=600)]
    for index, (_, label, colour) in enumerate(PERCENTILES):
        x = WIDTH - 180 + 56 * index
        out += [f'<circle cx="{x}" cy="{top + 14}" r="5" fill="{colour}"/>', text_at(x + 9, top + 18, label, FAINT, 12)]
    rows = record["summary"]
    cells = [row[key] for row in rows.values() for key, _, _ in PERCENTILES if row.get(key) and row[key]["min"] > 0]
    low = 10 ** floor(log10(min((cell["min"] for cell in cells), default=1)))
    high = max(10 ** ceil(log10(max((cell["max"] for cell in cells), default=10))), low * 10)

    def place(value):
        return LEFT + (RIGHT - LEFT) * log10(max(value, low) / low) / log10(high / low)

    bottom = top + PANEL_HEIGHT + ROW_HEIGHT * len(rows)
    for power in range(round(log10(low)), round(log10(high)) + 1):
        out += tick(place(10**power), top + PANEL_HEIGHT, bottom, brief(10**power))
    for index, (name, row) in enumerate(rows.items()):
        middle = top + PANEL_HEIGHT + ROW_HEIGHT * index + ROW_HEIGHT / 2
        out.append(text_at(LABEL_WIDTH, middle + 4, name, anchor="end", weight=600 if name == record["subject"] else 400))
        present = [(row[key], colour) for key, _, colour in PERCENTILES if row.get(key)]
        for cell, colour in present:
            out += whisker(place(cell["min"]), place(cell["max"]), middle, colour)
            out.append(f'<circle cx="{place(cell["median"]):.1f}" cy="{middle:.1f}" r="6" fill="{colour}"/>')
        out.append(text_at(RIGHT + 12, middle + 4, " / ".join(brief(cell["median"]) for cell, _ in present)))
    return out, bottom + 22


def whisker(start, end, y, colour):
    """A line from the least to the most; nothing where they are the same."""
    if end - start < 1:
        return []
    ends = "".join(f"M{x:.1f} {y - 4:.1f}v8" for x in (start, end))
    return [f'<path d="M{start:.1f} {y:.1f}H{end:.1f}{ends}" stroke="{colour}" stroke-width="1.5" fill="none"/>']


def tick(x, top, bottom, label):
    line = f'<path d="M{x:.1f} {top}V{bottom}" stroke="{GRID}"/>'
    return [line, text_at(x, bottom + 14, label, FAINT, 11, anchor="middle")]


def text_at(x, y, words, fill=INK, size=13, weight=400, anchor="start"):
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{fill}" font-size="{size}" font-weight="{weight}" text-anchor="{anchor}">{escape(str(words))}</text>'


def nice_step(most):
    """A round distance between marks, of which there are to be three to six."""
    base = 10 ** floor(log10(most / 4))
    return next(base * factor for factor in (1, 2, 5, 10) if most / (base * factor) <= 5)


def short(value):
    if value >= 10_000:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def brief(microseconds):
    """Where there is little room: the large ones in milliseconds or seconds."""
    if microseconds >= 1e6:
        return f"{microseconds / 1e6:.3g} s"
    return f"{microseconds / 1e3:.3g} ms" if microseconds >= 10_000 else short(microseconds)
