"""What clients notice of backends that end, are killed, or stop: one run of constant load against one proxy."""

import asyncio
import os
import signal
import socket
import sys
import time
from collections import Counter

from . import processes

BACKENDS = 3
GETTERS, POSTERS = 12, 4
# What a client waits between an answer and its next request: constant load, that leaves the machine idle time.
PAUSE_SECONDS = 0.02
# A client that has waited for so long has not been answered.
PATIENCE_SECONDS = 10
# A window with an error, or whose p99 is above this, is a bad one.
GOOD_SECONDS = 0.05
WINDOW_SECONDS = 0.25


class Backends:
    """Three processes, each on a port that stays taken while it is gone."""

    def __init__(self, host):
        self.host, self.children, self.addresses, self.notes, self.ports = host, [], [], [], []
        for index in range(BACKENDS):
            port = socket.socket()
            port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            port.bind(("127.0.0.1", 0))
            self.ports.append(port)
            self.addresses.append("127.0.0.1:%d" % port.getsockname()[1])
            self.notes.append(os.path.join(host.run_directory, f"backend-{index}.notes"))
            self.children.append(None)
            self.start(index)

    def start(self, index):
        program = os.path.join(os.path.dirname(os.path.abspath(__file__)), "backend.py")
        command = [sys.executable, "-B", program, self.addresses[index], self.notes[index]]
        log_path = os.path.join(self.host.run_directory, f"backend-{index}.log")
        child = self.children[index] = self.host.processes.start(command, log_path, self.host.both_cores)
        processes.wait_until(lambda: self.accepts(index), child, f"backend {index}")

    def accepts(self, index):
        host, port = self.addresses[index].split(":")
        try:
            socket.create_connection((host, int(port)), 1).close()
            return True
        except OSError:
            return False

    def signal(self, index, number):
        os.killpg(self.children[index].pid, number)

    async def end(self, index, number):
        self.signal(index, number)
        while self.children[index].poll() is None:
            await asyncio.sleep(0.005)

    def delivered(self):
        """How often each POST was delivered, by its number."""
        return Counter(line for path in self.notes if os.path.exists(path) for line in processes.read(path).split())

    def stop(self):
        for index, child in enumerate(self.children):
            if child is not None:
                if child.poll() is None:
                    # One that was stopped would not hear of its end.
                    self.signal(index, signal.SIGCONT)
                self.host.processes.stop(child)
        for port in self.ports:
            port.close()


class Load:
    """Clients that ask until they are told to stop, and remember everything."""

    def __init__(self, target):
        self.target, self.over, self.samples, self.next = target, False, [], 0

    async def client(self, method):
        connection = None
        while not self.over:
            self.next += 1
            number, begun, error = self.next, time.monotonic(), None
            try:
                if connection is None:
                    connection = await asyncio.open_connection(*self.target)
                status, goes_on = await asyncio.wait_for(self.ask(method, number, *connection), PATIENCE_SECONDS)
                error = None if status == 200 else str(status)
            except asyncio.TimeoutError:
                error, goes_on = "no answer", False
            except (OSError, ValueError, asyncio.IncompleteReadError) as failure:
                error, goes_on = type(failure).__name__, False
            if connection is not None and not goes_on:
                connection[1].close()
                connection = None
            self.samples.append((begun, time.monotonic() - begun, method, number, error))
            await asyncio.sleep(PAUSE_SECONDS)

    async def ask(self, method, number, reader, writer):
        body = "work" if method == "POST" else ""
        fields = f"X-Number: {number}\r\nContent-Length: 4\r\n" if body else ""
        writer.write(f"{method} / HTTP/1.1\r\nHost: failures.test\r\n{fields}\r\n{body}".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        lines = head.split(b"\r\n")
        lengths = [int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length:")]
        if len(lengths) != 1:
            # To the end of the connection.
            await reader.read()
            return int(lines[0].split()[1]), False
        await reader.readexactly(lengths[0])
        return int(lines[0].split()[1]), b"connection: close" not in lines


async def restarts(backends, number, pause):
    """One after the other: it ends, is gone for a moment, comes back, and has time to be noticed."""
    for index in range(BACKENDS):
        await backends.end(index, number)
        await asyncio.sleep(pause / 4)
        await asyncio.to_thread(backends.start, index)
        await asyncio.sleep(pause * 2)


async def kill(backends, pause):
    await backends.end(0, signal.SIGKILL)
    await asyncio.sleep(pause * 3)
    await asyncio.to_thread(backends.start, 0)
    await asyncio.sleep(pause * 2)


async def zombie(backends, pause):
    backends.signal(0, signal.SIGSTOP)
    await asyncio.sleep(pause * 5)
    backends.signal(0, signal.SIGCONT)
    await asyncio.sleep(pause * 2)


EVENTS = {
    "end": lambda backends, pause: restarts(backends, signal.SIGTERM, pause),
    "kill-each": lambda backends, pause: restarts(backends, signal.SIGKILL, pause),
    "kill": kill,
    "stop": zombie,
}


async def play(load, backends, work, pause):
    """The load before, during and after what happens; returns when it began."""
    clients = [asyncio.create_task(load.client(method)) for method in ["GET"] * GETTERS + ["POST"] * POSTERS]
    await asyncio.sleep(pause)
    begun = time.monotonic()
    await EVENTS[work](backends, pause)
    load.over = True
    await asyncio.gather(*clients)
    return begun


def percentile_ms(samples, percent):
    took = sorted(sample[1] for sample in samples)
    return took[len(took) * percent // 100] * 1e3 if took else None


def p99_ms(samples):
    return percentile_ms(samples, 99)


def recovery_ms(samples, event):
    """From the event to the end of the last bad window, by the beginnings of the requests."""
    bad = {}
    for sample in samples:
        window = int((sample[0] - event) / WINDOW_SECONDS)
        bad.setdefault(window, []).append(sample)
    ends = [
        window + 1
        for window, among in bad.items()
        if any(sample[4] for sample in among) or p99_ms(among) > GOOD_SECONDS * 1e3
    ]
    return max(ends, default=0) * WINDOW_SECONDS * 1e3


def measure(scenario, proxy, backends, pause):
    """One run; returns its figures as a flat dictionary."""
    load, noted = Load(proxy.targets[0]), backends.delivered()
    event = asyncio.run(play(load, backends, scenario.work, pause))
    pids = proxy.pids()
    delivered = backends.delivered() - noted
    before = [sample for sample in load.samples if sample[0] < event]
    after = [sample for sample in load.samples if sample[0] >= event]
    errors = {method: Counter(s[4] for s in load.samples if s[2] == method and s[4]) for method in ("GET", "POST")}
    twice = sum(count > 1 for count in delivered.values())
    return {
        "requests": len(load.samples),
        "get_errors": sum(errors["GET"].values()),
        "post_errors": sum(errors["POST"].values()),
        "posts_twice": twice,
        "p50_us": percentile_ms(load.samples, 50) * 1e3,
        "p99_us": p99_ms(load.samples) * 1e3,
        "p99_before_ms": p99_ms(before),
        "p99_after_ms": p99_ms(after),
        "worst_ms": max(sample[1] for sample in load.samples) * 1e3,
        "recovery_ms": recovery_ms(after, event),
        "threads": processes.thread_count(pids),
        **processes.memory(pids),
        "errors_by_kind": {method: dict(kinds) for method, kinds in errors.items() if kinds},
    }
