"""The record of a scenario: what was run, where, on what, and what was measured."""

import datetime
import os
import platform
import shlex
import subprocess
import sys

from . import measure, peers, processes, programs, report, rounds

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def make(host, scenario, field, options):
    """Runs one scenario; returns the record of it."""
    print(f"{scenario.name}: {scenario.about}", flush=True)
    about_host = describe_host(host, scenario, field)
    samples = []
    for sample in rounds.samples(host, scenario, field, options):
        samples.append(sample)
        print(f"  {progress(scenario, sample)}", file=sys.stderr, flush=True)
    host.raw.note_settings(host, field, lambda words: shown(words, host))
    result = {
        "scenario": scenario.name,
        "about": scenario.about,
        "protocol": scenario.protocol,
        "figure": scenario.figure,
        "idle": scenario.idle,
        "failure": scenario.failure,
        "per": scenario.per,
        "rate": scenario.rate,
        "client": host.client,
        "subject": options.subject or field[0].name,
        "rounds": options.rounds,
        "seconds": options.seconds,
        "run": shown(["loadtest/run", *sys.argv[1:]], host),
        **about_host,
        "commands": commands(host, scenario, field, options),
        "settings": {proxy.name: f"loadtest/peers/{peers.template_of(proxy)}" for proxy in field if peers.template_of(proxy)},
        "samples": samples,
    }
    result["summary"] = report.summarise(result)
    return result


def commands(host, scenario, field, options):
    words = {proxy.name: ["taskset", "-c", proxy.cores(host), *proxy.command] for proxy in field if proxy.kind != "direct"}
    words["origin"] = ["taskset", "-c", str(host.client_core), *host.origin_command]
    if host.client:
        client = measure.command(host, scenario, options.seconds, [("127.0.0.1", "$PORT")])
        words["client"] = ["taskset", "-c", str(host.client_core), *client]
    return {name: shown(line, host) for name, line in words.items()}


def shown(words, host):
    """A command as it can be repeated elsewhere: without the directories of this host."""
    places = ((host.run_directory, "$RUN"), (host.target_directory, "target"), (ROOT + os.sep, ""))
    clean = []
    for word in words:
        name, separator, path = word.partition("=")
        head, word = (name + separator, path) if path.startswith(os.sep) else ("", word)
        for place, short in places:
            word = word.replace(place, short)
        clean.append(head + (os.path.basename(word) if word.startswith(os.sep) else word))
    return shlex.join(clean)


def describe_host(host, scenario, field):
    model = [line.split(":", 1)[1].strip() for line in processes.read("/proc/cpuinfo").splitlines() if "model name" in line]
    versions = {proxy.name: programs.version(proxy.kind, proxy.binary) for proxy in field}
    if host.client:
        versions[host.client] = programs.version(host.client, host.clients[host.client])
    if not host.client or scenario.slow_readers:
        versions["Python"] = platform.python_version()
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "kernel": platform.release(),
        "cpu": f"{model[0] if model else platform.machine()}, {os.cpu_count()} cores",
        "commit": commit(),
        "versions": versions,
    }


def commit():
    def git(*words):
        said = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
        return said.stdout.strip() if said.returncode == 0 else None

    head = git("rev-parse", "--short=12", "HEAD")
    if head is None:
        return "none"
    return head + (" with changes" if git("status", "--porcelain", "--", ".", ":!loadtest/results") else "")


def progress(scenario, sample):
    if scenario.failure:
        lost = sample["errors_by_kind"] or "nothing lost"
        return f"round {sample['round']}  {sample['proxy']:<16} {sample['recovery_ms']:.0f} ms  {lost}"
    unit = {"connection_bytes": "B/connection", "p99_us": "µs p99"}.get(scenario.figure, f"µs/{scenario.per}")
    value = sample.get(scenario.figure)
    figure = "nothing" if value is None else f"{value:.2f}"
    return f"round {sample['round']}  {sample['proxy']:<16} {figure} {unit}  {sample['errors'] or ''}".rstrip()
