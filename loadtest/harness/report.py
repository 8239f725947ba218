"""What is told: the table on the terminal, the JSON of a scenario, and the summary of a directory of them, with a plot each."""

import glob
import json
import os
from statistics import median

from . import plot

LOAD_COLUMNS = ("proxy", "CPU µs/{per}", "min–max", "{subject} ÷ this", "min–max", "{per}s/s", "min–max", "p50 µs", "p99 µs")
LATENCY_COLUMNS = (
    "proxy", "p50 µs", "p99 µs", "min–max", "{subject} ÷ this", "min–max", "p99.9 µs", "CPU µs/{per}", "{subject} ÷ this", "{per}s/s", "sent late, p99 µs",
)
IDLE_COLUMNS = ("proxy", "bytes/connection", "min–max", "{subject} ÷ this", "min–max", "open CPU µs", "idle CPU ms/s")
FAILURE_COLUMNS = ("proxy", "requests", "lost GETs", "lost POSTs", "POSTs done twice", "p99 ms before", "p99 ms after", "worst ms", "recovery ms", "max", "PSS MiB", "RSS MiB", "threads")
# What only some scenarios have.
EXTRA_COLUMNS = {"resent": "resent", "reader_bytes": "bytes/slow reader"}
BOTH_COLUMNS = ("PSS MiB", "RSS MiB", "threads", "errors")


def summarise(result):
    """Raw rounds → per proxy medians, spreads and the ratio of the subject to it, computed within each round."""
    figure = figure_of(result)
    names = list(dict.fromkeys(sample["proxy"] for sample in result["samples"]))
    by_round = {(sample["round"], sample["proxy"]): sample for sample in result["samples"]}
    rounds = sorted({sample["round"] for sample in result["samples"]})
    summary = {}
    for name in names:
        samples = [by_round[number, name] for number in rounds if (number, name) in by_round]
        columns = {
            key: spread([sample[key] for sample in samples if sample.get(key) is not None])
            for key in samples[0]
            if isinstance(samples[0][key], (int, float)) and key != "round"
        }
        if name != result["subject"]:
            columns["ratio"] = spread(ratios(by_round, rounds, result["subject"], name, figure))
            columns["cpu_ratio"] = spread(ratios(by_round, rounds, result["subject"], name, "cpu_us"))
        errors = sum(sum(sample.get("errors", {}).values()) for sample in samples)
        summary[name] = {**{key: value for key, value in columns.items() if value}, "errors": errors}
    return summary


def figure_of(result):
    """What the subject is compared by. Records made before it was written down are of three kinds."""
    old = "connection_bytes" if result["idle"] else "recovery_ms" if result.get("failure") else "cpu_us"
    return result.get("figure", old)


def ratios(by_round, rounds, subject, name, figure):
    """The subject's figure by that of another, within each round."""
    both = [(by_round.get((number, subject), {}).get(figure), by_round.get((number, name), {}).get(figure)) for number in rounds]
    return [ours / theirs for ours, theirs in both if ours and theirs]


def spread(values):
    return {"median": median(values), "min": min(values), "max": max(values)} if values else None


def number(value):
    if value >= 1000:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.0f}" if value >= 200 else f"{value:.1f}" if value >= 20 else f"{value:.2f}"


def middle(cell):
    return number(cell["median"]) if cell else "–"


def edges(cell, show=number):
    return f"{show(cell['min'])}–{show(cell['max'])}" if cell else "–"


def ratio(value):
    return f"{value:.3f}"


def table(result):
    """Header and rows of text."""
    if result.get("failure"):
        return failure_table(result)
    figure = figure_of(result)
    extra = [key for key in EXTRA_COLUMNS if any(key in row for row in result["summary"].values())]
    columns = {"connection_bytes": IDLE_COLUMNS, "p99_us": LATENCY_COLUMNS}.get(figure, LOAD_COLUMNS)
    columns = (*columns, *(EXTRA_COLUMNS[key] for key in extra), *BOTH_COLUMNS)
    header = [column.format(per=result["per"], subject=result["subject"]) for column in columns]
    rows = []
    for name, row in result["summary"].items():
        value, compared = row.get(figure), quotient(row.get("ratio"))
        if figure == "connection_bytes":
            cells = [middle(value), edges(value), *compared, middle(row.get("open_cpu_us")), middle(row.get("idle_cpu_ms_per_s"))]
        elif figure == "p99_us":
            cells = [middle(row.get("p50_us")), middle(value), edges(value), *compared, middle(row.get("p999_us"))]
            cells += [middle(row.get("cpu_us")), quotient(row.get("cpu_ratio"))[0], middle(row.get("rate")), middle(row.get("late_p99_us"))]
        else:
            rate = row.get("rate")
            cells = [middle(value), edges(value), *compared, middle(rate), edges(rate), middle(row.get("p50_us")), middle(row.get("p99_us"))]
        cells += [f"{row[key]['median']:.0f}" if key in row else "–" for key in extra]
        cells += [*held(row), str(row["errors"])]
        rows.append([name, *cells])
    return header, rows


def held(row):
    """Memory and threads of a proxy; none where there is no proxy or, in old records, where nobody looked."""
    sizes = [number(row[key]["median"] / 2**20) if row.get(key) else "–" for key in ("pss_bytes", "rss_bytes")]
    return [*sizes, f"{row['threads']['median']:.0f}" if row.get("threads") else "–"]


def quotient(cell):
    return [ratio(cell["median"]) if cell else "–", edges(cell, ratio)]


def failure_table(result):
    """What was lost is the sum of all rounds, since one is too many; times are medians, and recovery has its worst too."""
    rows = []
    for name, row in result["summary"].items():
        among = [sample for sample in result["samples"] if sample["proxy"] == name]
        sums = [str(sum(sample[key] for sample in among)) for key in ("requests", "get_errors", "post_errors", "posts_twice")]
        times = [middle(row.get(key)) for key in ("p99_before_ms", "p99_after_ms", "worst_ms", "recovery_ms")]
        rows.append([name, *sums, *times, number(row["recovery_ms"]["max"]), *held(row)])
    return list(FAILURE_COLUMNS), rows


def print_table(result):
    header, rows = table(result)
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    for row in [header, *rows]:
        cells = [row[0].ljust(widths[0])] + [cell.rjust(width) for cell, width in zip(row[1:], widths[1:])]
        print("  ".join(cells).rstrip())
    print(flush=True)


def write(directory, result):
    os.makedirs(directory, exist_ok=True)
    path = os.path.join(directory, f"{result['scenario']}.json")
    with open(path, "w", encoding="utf-8") as file:
        json.dump(result, file, indent=1, ensure_ascii=False)
        file.write("\n")
    return path


def stored(directory):
    """The records of a directory, by the names of their files."""
    records = []
    for path in sorted(glob.glob(os.path.join(directory, "*.json"))):
        with open(path, encoding="utf-8") as file:
            records.append(json.load(file))
    return records


def write_summary(directory):
    """Says again what the JSON files of the directory say, in words and in plots; never anything else, so it can be made at any time."""
    lines = [f"# {os.path.basename(os.path.normpath(directory))}", ""]
    lines += ["Made by `loadtest/run` from the JSON files beside it; method and columns: `loadtest/README.md`.", ""]
    for result in stored(directory):
        plot.write(directory, result)
        lines += section(result)
    with open(os.path.join(directory, "summary.md"), "w", encoding="utf-8") as file:
        file.write("\n".join(lines))


def section(result):
    header, rows = table(result)
    lines = [f"## {result['scenario']}", "", f"{result['about'][0].upper()}{result['about'][1:]}.", ""]
    lines += [f"![{result['scenario']}]({result['scenario']}.svg)", ""]
    lines += ["| " + " | ".join(header) + " |", "|---" + "|---:" * (len(header) - 1) + "|"]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    lines += ["", f"* {result['date']} · Linux {result['kernel']} · {result['cpu']} · commit {result['commit']}"]
    each = "" if result.get("failure") else f" of {result['seconds']:g} s"
    lines += [f"* {result['rounds']} rounds{each} · `{result['run']}`"]
    lines += [f"* {name}: {said}" for name, said in result["versions"].items()]
    return [*lines, ""]
