"""loadtest/run: ringway and its peers side by side, interleaved, under the same client. See loadtest/README.md."""

import argparse
import datetime
import fnmatch
import http.client
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile

from harness import client, failures, idle, processes, proxies, report, wrk
from harness.processes import Failed
from harness.proxies import Proxy
from harness.scenarios import SCENARIOS

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
SMOKE_IDLE_CONNECTIONS = 500


class Host:
    """Where everything runs: cores, the directory of this run, the origin, and what is started there."""

    def __init__(self, options, children, run_directory):
        self.processes, self.run_directory = children, run_directory
        self.proxy_core, self.client_core = options.proxy_core, options.client_core
        self.both_cores = f"{options.proxy_core},{options.client_core}"
        self.softirq = processes.softirq_thread(options.proxy_core)
        self.client = self.origins = self._stats = None

    def start_origin(self, binary):
        self.origins = proxies.start_origin(self, binary)
        self._stats = http.client.HTTPConnection(self.origins["http"], timeout=10)

    def origin_stats(self):
        self._stats.request("GET", "/stats")
        return json.loads(self._stats.getresponse().read())


def parse_options():
    parser = argparse.ArgumentParser(prog="loadtest/run", description=__doc__)
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=f"{', '.join(SCENARIOS)}, a pattern of them, or all")
    parser.add_argument("--rounds", type=int, help="rounds of the interleave (default 5; smoke 1)")
    parser.add_argument("--seconds", type=float, help="seconds of each run (default 3; smoke 0.3; wrk rounds it)")
    parser.add_argument("--proxies", metavar="LIST", help=f"of {', '.join(proxies.KINDS)}; default: by scenario")
    parser.add_argument(
        "--ringway", action="append", metavar="[NAME=]PATH", help="a prebuilt binary; repeat it to compare builds"
    )
    parser.add_argument("--subject", metavar="NAME", help="whose ratio to the others is shown (default: the first)")
    parser.add_argument("--smoke", action="store_true", help="one short round, two proxies, nothing kept")
    parser.add_argument("--out", metavar="DIR", help="where results go (default loadtest/results/DATE-KERNEL)")
    parser.add_argument("--proxy-core", type=int, default=0, metavar="N")
    parser.add_argument("--client-core", type=int, default=1, metavar="N", help="for the client and the origin")
    parser.add_argument("--no-build", action="store_true", help="use what an earlier run has built")
    parser.add_argument("--no-install", action="store_true", help="never install a missing peer")
    options = parser.parse_args()
    if not options.scenarios:
        parser.error(f"name a scenario: {', '.join(SCENARIOS)}, or all")
    chosen = [fnmatch.filter(SCENARIOS, "*" if name == "all" else name) for name in options.scenarios]
    for name, matching in zip(options.scenarios, chosen):
        if not matching:
            parser.error(f"no scenario is called {name}; there are {', '.join(SCENARIOS)}")
    options.scenarios = list(dict.fromkeys(name for matching in chosen for name in matching))
    options.proxies = options.proxies.split(",") if options.proxies else None
    for name in options.proxies or ():
        if name not in proxies.KINDS:
            parser.error(f"no proxy is called {name}; there are {', '.join(proxies.KINDS)}")
    options.builds = [named_build(text) for text in options.ringway or ()]
    names = [name for name, _ in options.builds]
    if len(set(names)) != len(names) or set(names) & set(proxies.KINDS[1:]):
        parser.error("each --ringway needs a name of its own, and not that of a peer: --ringway new=PATH")
    options.rounds = max(1, options.rounds or (1 if options.smoke else 5))
    options.seconds = max(0.1, options.seconds or (0.3 if options.smoke else 3))
    for core in (options.proxy_core, options.client_core):
        if core not in os.sched_getaffinity(0):
            parser.error(f"core {core} is not usable here; choose others with --proxy-core and --client-core")
    return options


def named_build(text):
    name, separator, path = text.partition("=")
    return (name, os.path.abspath(path)) if separator else ("ringway", os.path.abspath(text))


def kinds_of(scenario, options):
    """Which kinds of proxy a scenario is run with: what was asked for, as far as it makes sense."""
    kinds = [kind for kind in options.proxies or scenario.proxies if kind not in scenario.unfit]
    if scenario.twice:
        return kinds[:1]
    if options.smoke and not options.proxies:
        # ringway and the first peer that is already here.
        peers = [kind for kind in kinds if kind != "ringway" and proxies.present(kind, scenario.protocol)]
        return ["ringway", *peers[:1]]
    return kinds


def build(options, kinds):
    """Builds what is needed; returns the binaries by kind, the builds of ringway as a list of (name, path)."""
    tools = {"origin": "ringway-loadtest", "client": "ringway-loadtest"}
    if "floor" in kinds:
        tools["relay_floor"] = "ringway-bench"
    steps = [tools]
    if "ringway" in kinds and not options.builds:
        # On its own: built together with the tools, crates they share would get the tools' features too.
        steps.append({"ringway": "ringway"})
    for step in steps if not options.no_build else ():
        words = ["cargo", "build", "--release"]
        for package in dict.fromkeys(step.values()):
            words += ["-p", package]
        for binary in step:
            words += ["--bin", binary]
        print(" ".join(words), flush=True)
        if subprocess.run(words, cwd=ROOT, check=False).returncode != 0:
            raise Failed("the build failed")
    release = os.path.join(target_directory(), "release")
    built = {binary: os.path.join(release, binary) for step in steps for binary in step}
    for binary, path in [*built.items(), *options.builds]:
        if not os.access(path, os.X_OK):
            raise Failed(f"{binary}: {path} is not there or not executable")
    builds = options.builds or ([("ringway", built["ringway"])] if "ringway" in built else [])
    return built, builds


def target_directory():
    words = ["cargo", "metadata", "--no-deps", "--format-version", "1"]
    said = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    if said.returncode == 0:
        return json.loads(said.stdout)["target_directory"]
    return os.environ.get("CARGO_TARGET_DIR") or os.path.join(ROOT, "target")


def line_up(scenario, kinds, built, builds, peers):
    """The proxies of a scenario, in the order of the first round."""
    field = []
    for kind in kinds:
        if kind == "ringway":
            field += [Proxy(name, "ringway", path, scenario) for name, path in builds]
        elif kind == "ringway-many":
            field.append(Proxy(kind, kind, builds[0][1], scenario))
        else:
            field.append(Proxy(kind, kind, built["relay_floor"] if kind == "floor" else peers[kind], scenario))
    if scenario.twice:
        first = field[0]
        field = [Proxy(f"{first.name}-{letter}", first.kind, first.binary, scenario) for letter in "ab"]
    return field


def order(field, round_number):
    """A B C, then C B A: a drift of the host's speed falls on both ends alike."""
    return field if round_number % 2 == 1 else field[::-1]


def run_load(host, scenario, field, options):
    measure = (wrk if scenario.protocol == "http" else client).measure
    addresses = [f"127.0.0.{number}" for number in range(1, scenario.addresses + 1)]
    try:
        for proxy in field:
            proxy.start(host, addresses)
            proxy.check()
        if not options.smoke:
            for proxy in field:
                measure(host, scenario, proxy, 1)
        for number in range(1, options.rounds + 1):
            for proxy in order(field, number):
                yield {"round": number, "proxy": proxy.name, **measure(host, scenario, proxy, options.seconds)}
    finally:
        for proxy in field:
            proxy.stop(host)


def run_idle(host, scenario, field, options):
    count = SMOKE_IDLE_CONNECTIONS if options.smoke else scenario.connections
    limit = processes.raise_descriptor_limit()
    if count * 2 + 500 > limit:
        raise Failed(f"{count} connections need a limit of {count * 2 + 500} open files, it is {limit} (ulimit -n)")
    for number in range(1, options.rounds + 1):
        for proxy in order(field, number):
            try:
                proxy.start(host, ["127.0.0.1"])
                proxy.check()
                yield {"round": number, "proxy": proxy.name, **idle.measure(scenario, proxy, count, options.seconds)}
            finally:
                proxy.stop(host)


def run_failures(host, scenario, field, options):
    """Backends and proxy afresh for each round: what a proxy remembers of a failure is not to be the next one's luck."""
    for number in range(1, options.rounds + 1):
        for proxy in order(field, number):
            backends = None
            try:
                backends = failures.Backends(host)
                proxy.start(host, ["127.0.0.1"], backends.addresses)
                proxy.check()
                # At least as long as an interval of probes, and a fraction of what a round takes.
                figures = failures.measure(scenario, proxy, backends, 0.5 if options.smoke else 1.0)
            finally:
                proxy.stop(host)
                if backends:
                    backends.stop()
            # A peer that loses requests is a finding; ringway may lose no GET and do no POST twice. What waits at a
            # zombie is a 504 by intention.
            never = ("posts_twice",) if scenario.work == "stop" else ("get_errors", "posts_twice")
            errors = {key: figures[key] for key in never if figures[key]}
            yield {"round": number, "proxy": proxy.name, **figures, "errors": errors if proxy.kind == "ringway" else {}}


def shown(words, host):
    """A command as it can be repeated elsewhere: without the directories of this host."""
    places = ((host.run_directory, "$RUN"), (target_directory(), "target"), (ROOT + os.sep, ""))
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
    versions = {proxy.name: proxies.version(proxy.kind, proxy.binary) for proxy in field}
    if scenario.failure:
        versions["client"] = f"Python {platform.python_version()}"
    elif scenario.protocol == "http":
        versions["wrk"] = proxies.version("wrk", proxies.find("wrk")).split(" Copyright")[0]
    else:
        versions["client"] = proxies.version("client", host.client)
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


def run_scenario(host, scenario, field, options):
    """Runs one scenario; returns the record of it."""
    subject = options.subject or field[0].name
    print(f"{scenario.name}: {scenario.about}", flush=True)
    about_host = describe_host(host, scenario, field)
    samples = []
    runner = run_idle if scenario.idle else run_failures if scenario.failure else run_load
    for sample in runner(host, scenario, field, options):
        samples.append(sample)
        print(f"  {progress(scenario, sample)}", file=sys.stderr, flush=True)
    cores = host.both_cores if scenario.failure else str(host.proxy_core)
    commands = {proxy.name: shown(["taskset", "-c", cores, *proxy.command], host) for proxy in field}
    if not scenario.idle and not scenario.failure:
        target = ("127.0.0.1", "$PORT")
        if scenario.protocol == "http":
            words = wrk.command(scenario, options.seconds, [target])
        else:
            words = client.command(host.client, scenario, options.seconds, target)
        commands["client"] = shown(["taskset", "-c", str(host.client_core), *words], host)
    result = {
        "scenario": scenario.name,
        "about": scenario.about,
        "protocol": scenario.protocol,
        "idle": scenario.idle,
        "failure": scenario.failure,
        "per": scenario.per,
        "subject": subject,
        "rounds": options.rounds,
        "seconds": options.seconds,
        "run": shown(["loadtest/run", *sys.argv[1:]], host),
        **about_host,
        "commands": commands,
        "samples": samples,
    }
    result["summary"] = report.summarise(result)
    return result


def progress(scenario, sample):
    if scenario.failure:
        lost = sample["errors_by_kind"] or "nothing lost"
        return f"round {sample['round']}  {sample['proxy']:<16} {sample['recovery_ms']:.0f} ms  {lost}"
    key = "connection_bytes" if scenario.idle else "cpu_us"
    unit = "B/connection" if scenario.idle else f"µs/{scenario.per}"
    figure = "nothing" if sample[key] is None else f"{sample[key]:.2f}"
    return f"round {sample['round']}  {sample['proxy']:<16} {figure} {unit}  {sample['errors'] or ''}".rstrip()


def run(options):
    plan = {name: kinds_of(SCENARIOS[name], options) for name in options.scenarios}
    kinds = {kind for names in plan.values() for kind in names}
    install = not options.no_install
    proxies.need("taskset", False)
    if any(SCENARIOS[name].protocol == "http" and not SCENARIOS[name].failure for name in plan):
        proxies.need("wrk", install)
    peers = {kind: proxies.need(kind.split("-")[0], install) for kind in kinds - {"ringway", "ringway-many", "floor"}}
    if any("nginx" in names and SCENARIOS[name].protocol != "http" for name, names in plan.items()):
        proxies.need_stream_module(peers["nginx"], install)
    built, builds = build(options, kinds)
    processes.raise_descriptor_limit()
    directory = options.out or os.path.join(
        HERE, "results", f"{datetime.date.today().isoformat()}-{platform.release()}"
    )
    faults = []
    run_directory = tempfile.mkdtemp(prefix="ringway-loadtest-")
    # What runs as another user (an nginx worker) must be able to pass through it.
    os.chmod(run_directory, 0o755)
    try:
        with processes.Processes() as children:
            os.sched_setaffinity(0, {options.client_core})
            host = Host(options, children, run_directory)
            host.client = built["client"]
            host.start_origin(built["origin"])
            for name, names in plan.items():
                scenario = SCENARIOS[name]
                field = line_up(scenario, names, built, builds, peers)
                if not field:
                    print(f"{name}: none of the chosen proxies makes sense here, skipped\n", flush=True)
                    continue
                try:
                    result = run_scenario(host, scenario, field, options)
                except Failed as failure:
                    # One broken scenario does not cost the others; nothing of it is kept.
                    print(f"{name}: {failure}\n", file=sys.stderr, flush=True)
                    faults.append(f"{name}: failed")
                    continue
                report.print_table(result)
                faults += [f"{name}: {who} had {row['errors']} errors" for who, row in result["summary"].items() if row["errors"]]
                if options.out or not options.smoke:
                    print(f"{os.path.relpath(report.write(directory, result))}\n", flush=True)
                    report.write_summary(directory)
    finally:
        shutil.rmtree(run_directory, ignore_errors=True)
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


def main():
    options = parse_options()
    processes.stop_on_signals()
    try:
        return run(options)
    except Failed as failure:
        print(f"loadtest: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("loadtest: stopped", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
