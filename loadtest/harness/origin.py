"""The origin behind the proxies: its start, its counters, and a check of all that it can do."""

import http.client
import json
import os
import re
import socket
import time

from . import exchanges, processes
from .processes import Failed

SERVICES = ("echo", "plain", "once", "bulk", "datagrams")
_PATIENCE_SECONDS = 5


def start(host, binary, backends=1):
    """HTTP on as many loopback addresses as there are to be backends, and the other services; returns the process, its
    command, and the addresses of each service as text."""
    log_path = os.path.join(host.run_directory, f"origin-{backends}.log")
    first, *others = [f"127.0.{index // 250}.{index % 250 + 1}:0" for index in range(backends)]
    pages = [word for address in others for word in ("--http", address)]
    services = [word for service in SERVICES for word in (f"--{service}", "127.0.0.1:0")]
    command = [binary, "--listen", first, *pages, *services, "--cores", str(host.client_core)]
    child = host.processes.start(command, log_path, host.client_core)
    try:
        processes.wait_until(lambda: "\nready\n" in processes.read(log_path), child, "origin")
    except Failed as failure:
        raise Failed(f"{failure}\n{processes.read(log_path).strip()[-1500:]}") from failure
    addresses = {}
    for service, address in re.findall(r"^(\w+) on (\S+)$", processes.read(log_path), re.MULTILINE):
        addresses.setdefault(service, []).append(address)
    return child, command, addresses


class Modes:
    """Asks the origin itself for each thing it can do; anything but the right answer ends the run."""

    def __init__(self, origins):
        self.origins = origins

    def check(self):
        """Returns the names of what was seen to work."""
        checks = [name for name in dir(self) if name.startswith("seen_")]
        for name in checks:
            try:
                right = getattr(self, name)()
            except (OSError, http.client.HTTPException) as error:
                raise Failed(f"the origin's {name.removeprefix('seen_')}: {error!r}") from error
            if not right:
                raise Failed(f"the origin's {name.removeprefix('seen_')}: not what it should have answered")
        return [name.removeprefix("seen_") for name in checks]

    def ask(self, path, method="GET", body=None, headers=None):
        """Status, body and how it was framed, on a connection of its own."""
        connection = http.client.HTTPConnection(self.origins["http"], timeout=_PATIENCE_SECONDS)
        try:
            connection.request(method, path, body=body, headers=headers or {})
            answer = connection.getresponse()
            framing = "chunked" if answer.chunked else "close" if answer.length is None else "length"
            return answer.status, answer.read(), framing
        finally:
            connection.close()

    def outcomes(self, path, count):
        """How a number of requests ended, in order: a status, or the name of what came in its place."""
        said = []
        for _ in range(count):
            try:
                said.append(self.ask(path)[0])
            except http.client.IncompleteRead:
                said.append("half")
            except (http.client.RemoteDisconnected, ConnectionError):
                said.append("nothing")
        return said

    def seen_sizes(self):
        sizes = (0, 1, 128, 16_384, 1_048_577)
        return all(self.ask(f"/bytes/{size}") == (200, exchanges.pattern(size) if size < 1 << 20 else self.block(size), "length") for size in sizes)

    @staticmethod
    def block(size):
        # The origin sends a large body as copies of one block of 1 MiB.
        return (exchanges.pattern(1 << 20) * (size // (1 << 20) + 1))[:size]

    def seen_chunked(self):
        status, body, framing = self.ask("/chunked/40000")
        return (status, len(body), framing) == (200, 40_000, "chunked")

    def seen_close(self):
        return self.ask("/close/40000") == (200, exchanges.pattern(40_000), "close")

    def seen_stream(self):
        begun = time.monotonic()
        status, body, framing = self.ask("/stream/4096/20")
        return (status, len(body), framing) == (200, 4_096, "chunked") and time.monotonic() - begun >= 0.08

    def seen_slow(self):
        begun = time.monotonic()
        return self.ask("/slow/50")[:2] == (200, exchanges.pattern(128)) and time.monotonic() - begun >= 0.05

    def seen_hang(self):
        connection = http.client.HTTPConnection(self.origins["http"], timeout=0.2)
        connection.request("GET", "/hang")
        try:
            connection.getresponse()
        except TimeoutError:
            return True
        finally:
            connection.close()
        return False

    def seen_flaky(self):
        return self.one_of_three("/flaky/3", 503)

    def seen_drop(self):
        return self.one_of_three("/drop/3", "nothing")

    def seen_cut(self):
        return self.one_of_three("/cut/3", "half")

    def one_of_three(self, path, failure):
        said = self.outcomes(path, 6)
        return said.count(failure) == 2 and said.count(200) == 4

    def seen_count(self):
        number = str(time.monotonic_ns())
        before = self.ask(f"/count/{number}")[1]
        self.ask("/", headers={"X-Number": number})
        posted = self.ask("/", "POST", b"x" * 1000, {"X-Number": number})
        return (before, posted[:2], self.ask(f"/count/{number}")[1]) == (b"0\n", (200, b"1000\n"), b"2\n")

    def seen_stats(self):
        return json.loads(self.ask("/stats")[1])["malformed"] == 0

    def address(self, service):
        host, port = self.origins[service].split(":")
        return host, int(port)

    def seen_tcp_echo(self):
        message = exchanges.pattern(4_000)
        with socket.create_connection(self.address("echo"), _PATIENCE_SECONDS) as connection:
            connection.sendall(message)
            return exchanges.exactly(connection, len(message)) == message

    def seen_tcp_plain(self):
        message = exchanges.pattern(4_000)
        with socket.create_connection(self.address("plain"), _PATIENCE_SECONDS) as connection:
            connection.sendall(message)
            return exchanges.exactly(connection, len(message)) == message

    def seen_tcp_once(self):
        message = exchanges.pattern(exchanges.MESSAGE_BYTES)
        with socket.create_connection(self.address("once"), _PATIENCE_SECONDS) as connection:
            connection.sendall(message)
            return exchanges.exactly(connection, len(message)) == message and connection.recv(1) == b""

    def seen_tcp_bulk(self):
        message = (100_000).to_bytes(8, "little") + exchanges.pattern(exchanges.MESSAGE_BYTES - 8)
        with socket.create_connection(self.address("bulk"), _PATIENCE_SECONDS) as connection:
            connection.sendall(message)
            return exchanges.exactly(connection, 100_000) == exchanges.pattern(100_000)

    def seen_udp_echo(self):
        exchanges.udp(self.address("datagrams"))
        return True
