"""The proxies: how each is started with its committed settings, and how we know that it is up."""

import getpass
import hashlib
import os
import re
import shutil
import socket
import subprocess

from . import exchanges, processes
from .processes import Failed

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PEERS = os.path.join(HERE, "peers")
KINDS = ("ringway", "ringway-many", "haproxy", "haproxy-splice", "nginx", "floor")
SERVICES = ("echo", "once", "bulk", "datagrams")
# Words of the peers' settings, as far as a scenario says nothing else.
_SETTINGS = {"RESPONSES": "# proxy_responses unset: a session stays", "BUFFER": "16k", "BUFSIZE": "16384"}
_START_ATTEMPTS = 3
_SYSTEM_PATHS = os.pathsep + os.pathsep.join(("/usr/local/sbin", "/usr/sbin", "/sbin"))


class Proxy:
    """One proxy of one scenario. `kind` says how it is started, `name` is its row in the table."""

    def __init__(self, name, kind, binary, scenario):
        self.name, self.kind, self.binary, self.scenario = name, kind, binary, scenario
        self.child = self.targets = self.command = self.backends = None

    def start(self, host, addresses, backends=()):
        """Starts it listening on `addresses` (all with a free port); retries when another process took the port.
        `backends` stand behind it in place of the origin, if there are any."""
        self.backends = backends
        for attempt in range(_START_ATTEMPTS):
            try:
                return self._start(host, addresses)
            except Failed:
                self.stop(host)
                if attempt + 1 == _START_ATTEMPTS or self.kind in ("ringway", "floor"):
                    raise

    def stop(self, host):
        if self.child is not None:
            host.processes.stop(self.child)
            self.child = None

    def _start(self, host, addresses):
        log_path = os.path.join(host.run_directory, f"{self.name}.log")
        origin = host.origins[self.scenario.service]
        if self.kind == "ringway-many":
            self.command = self._many_command(host, addresses, origin)
        elif self.kind == "ringway" and self.backends:
            self.command = self._failures_command(host, addresses)
        elif self.kind == "ringway":
            self.command = self._ringway_command(host, addresses, origin)
        elif self.kind == "floor":
            self.command = [self.binary, f"{addresses[0]}:0", origin, "--core", str(host.proxy_core)]
        else:
            port = free_port(addresses[0], self.scenario.protocol)
            self.targets = [(address, port) for address in addresses]
            self.command = self._peer_command(host, origin)
        self.child = host.processes.start(self.command, log_path, host.both_cores if self.backends else host.proxy_core)
        try:
            if self.kind.startswith("ringway"):
                self.targets = self._await_log(log_path, r"^ready\b", rf"listening on ([\d.]+):(\d+) mode={self.scenario.protocol}")
            elif self.kind == "floor":
                self.targets = self._await_log(log_path, r"^ready\b", r"ready on ([\d.]+):(\d+)")
            else:
                processes.wait_until(lambda: all(map(self._accepts, self.targets)), self.child, self.name)
            if len(self.targets) != len(addresses) and self.kind != "floor":
                raise Failed(f"{self.name} listens on {self.targets}, not on each of {addresses}")
        except Failed as failure:
            raise Failed(f"{failure}\n{processes.read(log_path).strip()[-1500:]}") from failure

    def _ringway_command(self, host, addresses, origin):
        protocol = self.scenario.protocol
        listeners = [word for address in addresses for word in ("--listen", f"{address}:0")]
        mode = [] if protocol == "http" else ["--mode", protocol]
        return [self.binary, *mode, *listeners, "--cores", str(host.proxy_core), "--backends", f"{protocol}://{origin}"]

    def _many_command(self, host, addresses, origin):
        """The same work with many routes or backends, by a file."""
        port = origin.rsplit(":", 1)[1]
        backends = [f'"127.0.{index // 250}.{index % 250 + 1}:{port}"' for index in range(self.scenario.backends)]
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
        return [self.binary, "-c", path, "--cores", str(host.proxy_core)]

    def _failures_command(self, host, addresses):
        servers = ", ".join(f'"{address}"' for address in self.backends)
        path = self._write(host, "ringway-failures.toml", {"BIND": f"{addresses[0]}:0", "SERVERS": servers})
        return [self.binary, "-c", path, "--cores", host.both_cores]

    def _failures_template(self):
        """The peer's template, and its words for the backends."""
        if self.kind == "nginx":
            return "nginx-failures.conf", "\n".join(
                f"        server {address} max_fails=3 fail_timeout=1s;" for address in self.backends
            )
        servers = enumerate(self.backends)
        return "haproxy-failures.cfg", "\n".join(f"    server backend{index} {address}" for index, address in servers)

    def _peer_command(self, host, origin):
        protocol = self.scenario.protocol
        if self.kind == "nginx":
            options = "udp reuseport" if protocol == "udp" else "reuseport backlog=4096"
            listen = "\n".join(f"        listen {a}:{p} {options};" for a, p in self.targets)
            template = "nginx.conf" if protocol == "http" else "nginx-stream.conf"
            path = self._fill_in(host, template, listen, origin)
            return [self.binary, "-e", os.path.join(host.run_directory, "nginx.log"), "-p", host.run_directory, "-c", path]
        listen = "\n".join(f"    bind {a}:{p} backlog 4096" for a, p in self.targets)
        template = "haproxy.cfg" if protocol == "http" else "haproxy-tcp.cfg"
        return [self.binary, "-db", "-f", self._fill_in(host, template, listen, origin)]

    def _fill_in(self, host, template, listen, origin):
        servers = ""
        if self.backends:
            template, servers = self._failures_template()
        # `splice-auto` waits for the signs of a steady stream, which 1 MiB on request gives it only now and then.
        splice = "option splice-response" if self.kind == "haproxy-splice" else "# no splice"
        words = {"LISTEN": listen, "ORIGIN": origin, "RUN": host.run_directory, "SPLICE": splice}
        words |= {"USER": getpass.getuser(), "SERVERS": servers}
        if template == "nginx-stream.conf":
            words["MODULE"] = stream_module(self.binary)
        return self._write(host, template, {**words, **_SETTINGS, **self.scenario.settings})

    def _write(self, host, template, words):
        text = processes.read(os.path.join(PEERS, template))
        for word, value in words.items():
            text = text.replace(f"@{word}@", value)
        path = os.path.join(host.run_directory, f"{self.name}-{template}")
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

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


def start_origin(host, binary):
    """The origin stays up for the whole run; returns the addresses of its services as text."""
    log_path = os.path.join(host.run_directory, "origin.log")
    services = [word for service in SERVICES for word in (f"--{service}", "127.0.0.1:0")]
    # HTTP on every loopback address: many backends are many addresses.
    command = [binary, "--listen", "0.0.0.0:0", *services, "--cores", str(host.client_core)]
    child = host.processes.start(command, log_path, host.client_core)
    try:
        processes.wait_until(lambda: "\nready\n" in processes.read(log_path), child, "origin")
    except Failed as failure:
        raise Failed(f"{failure}\n{processes.read(log_path).strip()[-1500:]}") from failure
    said = re.findall(r"^(\w+) on (\S+)$", processes.read(log_path), re.MULTILINE)
    return {service: address.replace("0.0.0.0", "127.0.0.1") for service, address in said}


def free_port(address, protocol):
    """A port that is free now; whoever binds it next may still lose a race and try again."""
    with socket.socket(type=socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM) as probe:
        probe.bind((address, 0))
        return probe.getsockname()[1]


def find(program):
    return shutil.which(program) or shutil.which(program, path=os.environ.get("PATH", "") + _SYSTEM_PATHS)


def present(kind, protocol):
    """Whether a peer can be used without installing anything."""
    program = find(kind.split("-")[0])
    if kind != "nginx" or protocol == "http" or program is None:
        return kind == "floor" or program is not None
    return stream_module(program) is not None


def need(program, install):
    """Finds a program; installs it when allowed and able, otherwise says how to."""
    return provide(program, lambda: find(program), install)


def need_stream_module(nginx, install):
    provide("libnginx-mod-stream", lambda: stream_module(nginx) is not None, install)


def provide(package, look, install):
    found = look()
    if found:
        return found
    command = ["apt-get", "install", "-y", "--no-install-recommends", package]
    if install and os.geteuid() == 0 and shutil.which("apt-get"):
        print(f"{package} is missing: {' '.join(command)}", flush=True)
        env = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
        subprocess.run(command, check=False, env=env, stdout=subprocess.DEVNULL)
        found = look()
    if not found:
        raise Failed(f"{package} is missing. Install it with: sudo {' '.join(command)}")
    return found


def stream_module(nginx):
    """The line that loads nginx's stream module, empty when it is built in; `None` when there is none."""
    said = subprocess.run([nginx, "-V"], capture_output=True, text=True, check=False, timeout=10).stderr
    if "--with-stream=dynamic" not in said.split():
        return "" if "--with-stream" in said.split() else None
    path = os.path.join(re.search(r"--modules-path=(\S+)|$", said).group(1) or "", "ngx_stream_module.so")
    return f"load_module {path};" if os.path.exists(path) else None


def version(kind, binary):
    """One line for the record: what a binary calls itself, and for our own builds what it is."""
    if kind in ("floor", "client"):
        return "sha256 " + digest(binary)
    ours = kind.startswith("ringway")
    flag = "-V" if ours else "-v"
    try:
        said = subprocess.run([binary, flag], capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"unknown ({error})"
    lines = (said.stdout + said.stderr).strip().splitlines() or ["unknown"]
    return f"{lines[0]}, sha256 {digest(binary)}" if ours else lines[0]


def digest(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()[:16]
