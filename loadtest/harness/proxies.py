"""The proxies: how each is started with its committed settings, and how we know that it is up."""

import os
import re
import socket

from . import exchanges, peers, processes
from .processes import Failed

# Blind relays on the runtime of ringway, by their discipline of I/O and what less the ring is set up with.
BLIND = tuple(f"relay-{way}{ring}" for way in ("set", "poll", "posted", "ring") for ring in ("", "-coop", "-plain"))
KINDS = ("ringway", "ringway-all", "ringway-many", "ringway-two", "haproxy", "haproxy-auto", "haproxy-many", "haproxy-splice", "haproxy-two", "nginx", "envoy", "floor", "floor-many", *BLIND, "direct")
OURS = frozenset(kind for kind in KINDS if kind.startswith("ringway"))
# Blind relays of bench/.
FLOORS = frozenset({"floor", "floor-many"})
RELAYS = FLOORS | frozenset(BLIND)
# What needs no program of others.
WITHOUT_PEER = OURS | RELAYS | {"direct"}
_START_ATTEMPTS = 3


class Proxy:
    """One proxy of one scenario. `kind` says how it is started, `name` is its row in the table."""

    def __init__(self, name, kind, binary, scenario):
        self.name, self.kind, self.binary, self.scenario = name, kind, binary, scenario
        self.child = self.targets = self.command = self.backends = None

    def start(self, host, addresses, backends=()):
        """Starts it listening on `addresses` (all with a free port); retries when another process took the port.
        `backends` stand behind it in place of the origin, if there are any."""
        self.backends = backends
        if self.kind == "direct":
            address, port = host.origins[self.scenario.service].rsplit(":", 1)
            self.targets, self.command = [(address, int(port))], host.origin_command
            return
        for attempt in range(_START_ATTEMPTS):
            try:
                return self._start(host, addresses)
            except Failed:
                self.stop(host)
                if attempt + 1 == _START_ATTEMPTS or self.kind in WITHOUT_PEER:
                    raise

    def stop(self, host):
        if self.child is not None:
            host.processes.stop(self.child)
            self.child = None

    def pids(self):
        """The proxy's processes; none where there is no proxy."""
        if self.child is None:
            return []
        if self.child.poll() is not None:
            raise Failed(f"{self.name} died under load: it ended with {self.child.returncode}")
        return processes.family(self.child.pid)

    def cores(self, host):
        return host.both_cores if self.backends or self.kind.endswith("-two") else str(host.proxy_core)

    def _start(self, host, addresses):
        log_path = os.path.join(host.run_directory, f"{self.name}.log")
        origin = host.origins[self.scenario.service]
        if self.kind == "ringway-many":
            self.command = self._many_command(host, addresses)
        elif self.kind == "ringway-all" or self.kind in OURS and self.scenario.defers:
            self.command = self._file_command(host, addresses, origin)
        elif self.kind in OURS and self.backends:
            self.command = self._failures_command(host, addresses)
        elif self.kind in OURS:
            self.command = self._ringway_command(host, addresses, origin)
        elif self.kind in FLOORS:
            self.command = self._floor_command(host, addresses, origin)
        elif self.kind in RELAYS:
            options = [word for pair in zip(("--io", "--ring"), self.kind.split("-")[1:]) for word in pair]
            self.command = [self.binary, f"{addresses[0]}:0", origin, *options, "--core", str(host.proxy_core)]
        else:
            port = free_port(addresses[0], self.scenario.protocol)
            self.targets = [(address, port) for address in addresses]
            self.command = peers.command(self, host, origin)
        self.child = host.processes.start(self.command, log_path, self.cores(host))
        try:
            if self.kind in OURS:
                self.targets = self._await_log(log_path, r"^ready\b", rf"listening on ([\d.]+):(\d+) mode={self.scenario.protocol}")
            elif self.kind in RELAYS:
                self.targets = self._await_log(log_path, r"^ready\b", r"ready on ([\d.]+):(\d+)")
            else:
                processes.wait_until(lambda: all(map(self._accepts, self.targets)), self.child, self.name)
            if len(self.targets) != len(addresses) and self.kind not in RELAYS:
                raise Failed(f"{self.name} listens on {self.targets}, not on each of {addresses}")
        except Failed as failure:
            raise Failed(f"{failure}\n{processes.read(log_path).strip()[-1500:]}") from failure

    def _ringway_command(self, host, addresses, origin):
        protocol = self.scenario.protocol
        listeners = [word for address in addresses for word in ("--listen", f"{address}:0")]
        mode = [] if protocol == "http" else ["--mode", protocol]
        return [self.binary, *mode, *listeners, "--cores", self.cores(host), "--backends", f"{protocol}://{origin}"]

    def _floor_command(self, host, addresses, origin):
        """`floor-many` has a connection to each backend, and each client connection its share of them."""
        upstreams, turns = origin, 1
        if self.kind == "floor-many":
            upstreams = ",".join(host.backends)
            turns = max(1, round(len(host.backends) / self.scenario.connections))
        return [self.binary, f"{addresses[0]}:0", upstreams, "--turns", str(turns), "--core", str(host.proxy_core)]

    def _many_command(self, host, addresses):
        """The same work with many routes or backends, by a file."""
        backends = [f'"{address}"' for address in host.backends]
        binds = ", ".join(f'"{address}:0"' for address in addresses)
        lines = [f"[[listener]]\nbind = [{binds}]\ncluster = \"app\"\n"]
        lines += [
            f'[[route]]\nhost = "shop-{index}.example.com"\npath_prefix = "/area-{index}"\ncluster = "app"\n'
            for index in range(self.scenario.routes)
        ]
        lines += [f'[[cluster]]\nname = "app"\nbackend = [{", ".join(backends)}]\n']
        path = os.path.join(host.run_directory, f"{self.name}.toml")
        with open(path, "w", encoding="utf-8") as file:
            file.write("\n".join(lines))
        return [self.binary, "-c", path, "--cores", self.cores(host)]

    def _file_command(self, host, addresses, origin):
        """The same work by a committed file."""
        words = {"BINDS": ", ".join(f'"{address}:0"' for address in addresses), "ORIGIN": origin}
        path = peers.write(self, host, peers.template_of(self), words)
        return [self.binary, "-c", path, "--cores", self.cores(host)]

    def _failures_command(self, host, addresses):
        words = {"BIND": f"{addresses[0]}:0", "SERVERS": ", ".join(f'"{address}"' for address in self.backends)}
        path = peers.write(self, host, peers.template_of(self), words)
        return [self.binary, "-c", path, "--cores", self.cores(host)]

    def _accepts(self, target):
        try:
            if self.scenario.protocol == "udp":
                exchanges.by_hand(self.scenario, target)
            else:
                socket.create_connection(target, 1).close()
            return True
        except OSError:
            return False

    def _await_log(self, log_path, ready, address):
        up = re.compile(ready, re.MULTILINE)
        processes.wait_until(lambda: up.search(processes.read(log_path)), self.child, self.name)
        return [(host, int(port)) for host, port in re.findall(address, processes.read(log_path))]

    def check(self):
        """One exchange by hand on each address before any load: the right answer, or no test."""
        for target in self.targets:
            try:
                exchanges.by_hand(self.scenario, target)
            except OSError as error:
                raise Failed(f"{self.name} failed its first exchange: {error!r}") from error


def free_port(address, protocol):
    """A port that is free now; whoever binds it next may still lose a race and try again."""
    with socket.socket(type=socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM) as probe:
        probe.bind((address, 0))
        return probe.getsockname()[1]
