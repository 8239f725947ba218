"""The proxies: how each is started with its committed settings, and how we know that it is up."""

import getpass
import hashlib
import http.client
import os
import re
import shutil
import socket
import subprocess

from . import processes
from .processes import Failed

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PEERS = os.path.join(HERE, "peers")
KINDS = ("ringway", "haproxy", "haproxy-splice", "nginx", "floor")
_START_ATTEMPTS = 3
_SYSTEM_PATHS = os.pathsep + os.pathsep.join(("/usr/local/sbin", "/usr/sbin", "/sbin"))


class Proxy:
    """One proxy of one scenario. `kind` says how it is started, `name` is its row in the table."""

    def __init__(self, name, kind, binary):
        self.name, self.kind, self.binary = name, kind, binary
        self.child = self.targets = self.command = None

    def start(self, host, addresses):
        """Starts it listening on `addresses` (all with a free port); retries when another process took the port."""
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
        if self.kind == "ringway":
            self.command = self._ringway_command(host, addresses)
        elif self.kind == "floor":
            self.command = [self.binary, f"{addresses[0]}:0", host.origin, "--core", str(host.proxy_core)]
        else:
            port = free_port(addresses[0])
            self.targets = [(address, port) for address in addresses]
            self.command = self._peer_command(host)
        self.child = host.processes.start(self.command, log_path, host.proxy_core)
        try:
            if self.kind == "ringway":
                self.targets = self._await_log(log_path, r"^ready\b", r"listening on ([\d.]+):(\d+) mode=http")
            elif self.kind == "floor":
                self.targets = self._await_log(log_path, r"^ready\b", r"ready on ([\d.]+):(\d+)")
            else:
                processes.wait_until(lambda: all(map(accepts, self.targets)), self.child, self.name)
            if len(self.targets) != len(addresses) and self.kind != "floor":
                raise Failed(f"{self.name} listens on {self.targets}, not on each of {addresses}")
        except Failed as failure:
            raise Failed(f"{failure}\n{processes.read(log_path).strip()[-1500:]}") from failure

    def _ringway_command(self, host, addresses):
        listeners = [word for address in addresses for word in ("--listen", f"{address}:0")]
        return [self.binary, *listeners, "--cores", str(host.proxy_core), "--backends", f"http://{host.origin}"]

    def _peer_command(self, host):
        if self.kind == "nginx":
            listen = "\n".join(f"        listen {a}:{p} reuseport backlog=4096;" for a, p in self.targets)
            path = self._fill_in(host, "nginx.conf", listen)
            return [self.binary, "-e", os.path.join(host.run_directory, "nginx.log"), "-p", host.run_directory, "-c", path]
        listen = "\n".join(f"    bind {a}:{p} backlog 4096" for a, p in self.targets)
        return [self.binary, "-db", "-f", self._fill_in(host, "haproxy.cfg", listen)]

    def _fill_in(self, host, template, listen):
        text = processes.read(os.path.join(PEERS, template))
        splice = "option splice-auto" if self.kind == "haproxy-splice" else "# no splice"
        words = {"LISTEN": listen, "ORIGIN": host.origin, "RUN": host.run_directory, "SPLICE": splice}
        words["USER"] = getpass.getuser()
        for word, value in words.items():
            text = text.replace(f"@{word}@", value)
        path = os.path.join(host.run_directory, f"{self.name}-{template}")
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def _await_log(self, log_path, ready, address):
        up = re.compile(ready, re.MULTILINE)
        processes.wait_until(lambda: up.search(processes.read(log_path)), self.child, self.name)
        return [(host, int(port)) for host, port in re.findall(address, processes.read(log_path))]

    def check(self, scenario):
        """One exchange by hand on each address before any load: the right status and the right body, or no test."""
        for address, port in self.targets:
            connection = http.client.HTTPConnection(address, port, timeout=5)
            try:
                if scenario.post_bytes:
                    connection.request("POST", scenario.path, body=b"x" * scenario.post_bytes)
                    expected = f"{scenario.post_bytes}\n".encode()
                else:
                    connection.request("GET", scenario.path)
                    expected = bytes(b"a"[0] + at % 23 for at in range(scenario.body_bytes))
                answer = connection.getresponse()
                body = answer.read()
            except (OSError, http.client.HTTPException) as error:
                raise Failed(f"{self.name} failed its first exchange: {error!r}") from error
            finally:
                connection.close()
            if answer.status != 200 or body != expected:
                raise Failed(f"{self.name} answered {answer.status} with {len(body)} bytes, not what the origin sent")


def start_origin(host, binary):
    """The origin stays up for the whole run; returns its address as text."""
    log_path = os.path.join(host.run_directory, "origin.log")
    command = [binary, "--listen", "127.0.0.1:0", "--cores", str(host.client_core)]
    child = host.processes.start(command, log_path, host.client_core)
    ready = re.compile(r"^ready on (\S+)$", re.MULTILINE)
    try:
        return processes.wait_until(lambda: ready.search(processes.read(log_path)), child, "origin").group(1)
    except Failed as failure:
        raise Failed(f"{failure}\n{processes.read(log_path).strip()[-1500:]}") from failure


def free_port(address):
    """A port that is free now; whoever binds it next may still lose a race and try again."""
    with socket.socket() as probe:
        probe.bind((address, 0))
        return probe.getsockname()[1]


def accepts(target):
    try:
        socket.create_connection(target, 1).close()
        return True
    except OSError:
        return False


def find(program):
    return shutil.which(program) or shutil.which(program, path=os.environ.get("PATH", "") + _SYSTEM_PATHS)


def need(program, install):
    """Finds a program; installs it when allowed and able, otherwise says how to."""
    path = find(program)
    if path:
        return path
    command = ["apt-get", "install", "-y", "--no-install-recommends", program]
    if install and os.geteuid() == 0 and shutil.which("apt-get"):
        print(f"{program} is missing: {' '.join(command)}", flush=True)
        env = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
        subprocess.run(command, check=False, env=env, stdout=subprocess.DEVNULL)
        path = find(program)
    if not path:
        raise Failed(f"{program} is missing. Install it with: sudo {' '.join(command)}")
    return path


def version(kind, binary):
    """One line for the record: what a binary calls itself, and for our own builds what it is."""
    if kind == "floor":
        return "sha256 " + digest(binary)
    flag = "-V" if kind == "ringway" else "-v"
    try:
        said = subprocess.run([binary, flag], capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"unknown ({error})"
    lines = (said.stdout + said.stderr).strip().splitlines() or ["unknown"]
    return f"{lines[0]}, sha256 {digest(binary)}" if kind == "ringway" else lines[0]


def digest(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()[:16]
