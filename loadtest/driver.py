"""loadtest/run: ringway and its peers side by side, interleaved, under the same client. See loadtest/README.md."""

import contextlib
import datetime
import http.client
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile

from harness import options as wishes
from harness import origin, processes, programs, proxies, raw, record, report
from harness.processes import Failed
from harness.proxies import Proxy
from harness.record import ROOT
from harness.scenarios import SCENARIOS

HERE = os.path.dirname(os.path.abspath(__file__))


class Host:
    """Where everything runs: cores, the directory of this run, the origin, the clients, and what is started there."""

    def __init__(self, options, children, run_directory, clients):
        self.processes, self.run_directory = children, run_directory
        self.proxy_core, self.client_core = options.proxy_core, options.client_core
        self.both_cores = f"{options.proxy_core},{options.client_core}"
        self.softirq = processes.softirq_thread(options.proxy_core)
        self.target_directory = target_directory()
        # The binaries of the clients by name; which of them the scenario is run with, and what it prints.
        self.clients, self.client, self.raw = clients, "", raw.Raw()
        # The origin's services by name, one address each; the addresses of its HTTP, which are many backends where many are wanted.
        self.origins = self.backends = self.origin_binary = self.origin_command = self._stats = None

    def start_origin(self, binary):
        """The one that stays up for the whole run."""
        self.origin_binary = binary
        self._use(*origin.start(self, binary)[1:])

    def _use(self, command, addresses):
        self.origin_command, self.backends = command, addresses["http"]
        self.origins = {service: among[0] for service, among in addresses.items()}
        self._stats = http.client.HTTPConnection(self.origins["http"], timeout=10)

    @contextlib.contextmanager
    def origin_of(self, scenario):
        """An origin of its own for a scenario that wants many backends, else the one that is there."""
        if scenario.backends == 1:
            yield
            return
        before = self.origin_command, self.origins, self.backends, self._stats
        child, command, addresses = origin.start(self, self.origin_binary, scenario.backends)
        try:
            self._use(command, addresses)
            yield
        finally:
            self.processes.stop(child)
            self.origin_command, self.origins, self.backends, self._stats = before

    def origin_stats(self):
        self._stats.request("GET", "/stats")
        return json.loads(self._stats.getresponse().read())


def build(options, kinds):
    """Builds what is needed; returns the binaries by kind, the builds of ringway as a list of (name, path)."""
    tools = {"origin": "ringway-loadtest", "client": "ringway-loadtest"}
    if kinds & proxies.FLOORS:
        tools["relay_floor"] = "ringway-bench"
    if kinds & proxies.RELAYS - proxies.FLOORS:
        tools["relay_ring"] = "ringway-bench"
    steps = [tools]
    if kinds & proxies.OURS and not options.builds:
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
        elif kind in proxies.OURS:
            field.append(Proxy(kind, kind, builds[0][1], scenario))
        else:
            relay = built.get("relay_floor" if kind in proxies.FLOORS else "relay_ring")
            field.append(Proxy(kind, kind, relay if kind in proxies.RELAYS else peers.get(kind), scenario))
    if scenario.twice:
        first = field[0]
        field = [Proxy(f"{first.name}-{letter}", first.kind, first.binary, scenario) for letter in "ab"]
    return field


def find_peers(options, plan):
    """The peers' binaries by kind. Without Envoy the scenarios go on, unless it was asked for."""
    install, peers = not options.no_install, {}
    for kind in sorted({kind for kinds in plan.values() for kind in kinds} - proxies.WITHOUT_PEER):
        try:
            peers[kind] = programs.need(kind.split("-")[0], install)
        except Failed as failure:
            if kind != "envoy" or "envoy" in (options.proxies or ()):
                raise
            print(f"{failure}\nThe scenarios go on without it.\n", file=sys.stderr, flush=True)
            plan.update({name: [kind for kind in kinds if kind != "envoy"] for name, kinds in plan.items()})
    if any("nginx" in kinds and SCENARIOS[name].protocol != "http" for name, kinds in plan.items()):
        programs.need_stream_module(peers["nginx"], install)
    return peers


def find_clients(options, plan):
    """The binaries of the clients by name, our own aside."""
    programs.need("taskset", False)
    names = {SCENARIOS[name].client(options.client) for name in plan} - {"", "client"}
    return {name: programs.need(name, not options.no_install) for name in sorted(names)}


def run_one(host, name, field, options, directory):
    """Runs a scenario, tells and keeps what came out; returns what was wrong with it."""
    scenario = SCENARIOS[name]
    host.client, host.raw = scenario.client(options.client), raw.Raw()
    if options.client and host.client != options.client:
        print(f"{name}: not with {options.client}, but with {host.client or 'a client of its own'}", flush=True)
    try:
        with host.origin_of(scenario):
            result = record.make(host, scenario, field, options)
    except Failed as failure:
        # One broken scenario does not cost the others; nothing of it is kept.
        print(f"{name}: {failure}\n", file=sys.stderr, flush=True)
        return [f"{name}: failed"]
    report.print_table(result)
    if options.out or not options.smoke:
        print(f"{os.path.relpath(report.write(directory, result))}\n", flush=True)
        host.raw.write(directory, name)
        report.write_summary(directory)
    return [f"{name}: {who} had {row['errors']} errors" for who, row in result["summary"].items() if row["errors"]]


def run(options):
    plan = {name: wishes.kinds_of(SCENARIOS[name], options) for name in options.scenarios}
    clients = find_clients(options, plan)
    peers = find_peers(options, plan)
    built, builds = build(options, {kind for kinds in plan.values() for kind in kinds})
    clients["client"] = built["client"]
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
            host = Host(options, children, run_directory, clients)
            host.start_origin(built["origin"])
            if options.smoke:
                print(f"origin: {', '.join(origin.Modes(host.origins).check())}\n", flush=True)
            for name, kinds in plan.items():
                field = line_up(SCENARIOS[name], kinds, built, builds, peers)
                if field:
                    faults += run_one(host, name, field, options, directory)
                else:
                    print(f"{name}: none of the chosen proxies makes sense here, skipped\n", flush=True)
    finally:
        shutil.rmtree(run_directory, ignore_errors=True)
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


def main():
    options = wishes.parse(__doc__)
    if options.plots:
        report.write_summary(options.plots)
        return 0
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
