"""Many idle connections: what a proxy keeps for each of them, and what it does while nothing happens."""

import socket
import time

from . import exchanges, processes
from .processes import Failed

_SAMPLE_EVERY = 100
_SETTLE_SECONDS = 0.5


def measure(scenario, proxy, count, seconds):
    """Needs a freshly started proxy: memory that an earlier round left behind would hide what a connection costs."""
    pids = processes.family(proxy.child.pid)
    errors = {}
    connections, took = [], []

    def attempt(kind, action):
        try:
            return action()
        except OSError as error:
            errors[kind] = errors.get(kind, 0) + 1
            if sum(errors.values()) > 100:
                raise Failed(f"{proxy.name}: more than 100 of {count} connections failed: {error}") from error
            return None

    try:
        with socket.create_connection(proxy.targets[0], 5) as first:
            exchanges.on(first, scenario)
        time.sleep(_SETTLE_SECONDS)
        threads_before = processes.thread_count(pids)
        before, cpu_start = processes.memory(pids)["pss_bytes"], processes.cpu_ns(pids)
        for _ in range(count):
            begun = time.monotonic()
            connection = attempt("connect", lambda: socket.create_connection(proxy.targets[0], 5))
            if connection is not None:
                connections.append(connection)
                attempt("exchange", lambda: exchanges.on(connection, scenario))
            took.append(time.monotonic() - begun)
        time.sleep(_SETTLE_SECONDS)
        open_cpu, cpu_idle = processes.cpu_ns(pids) - cpu_start, processes.cpu_ns(pids)
        time.sleep(seconds)
        cpu_idle = processes.cpu_ns(pids) - cpu_idle
        held, threads = processes.memory(pids), processes.thread_count(pids)
        for connection in connections[::_SAMPLE_EVERY]:
            attempt("stale", lambda: exchanges.on(connection, scenario))
        if threads > threads_before:
            errors["new_threads"] = threads - threads_before
    finally:
        for connection in connections:
            connection.close()
    time.sleep(_SETTLE_SECONDS)
    took.sort()
    return {
        "connections": len(connections),
        "connection_bytes": (held["pss_bytes"] - before) / max(1, len(connections)),
        "pss_before_bytes": before,
        **held,
        "pss_after_bytes": processes.memory(pids)["pss_bytes"],
        # Of a connection and its exchange, one after the other.
        "p50_us": took[len(took) // 2] * 1e6,
        "p99_us": took[len(took) * 99 // 100] * 1e6,
        "open_cpu_us": open_cpu / 1e3 / max(1, len(connections)),
        "idle_seconds": seconds,
        "idle_cpu_ms_per_s": cpu_idle / 1e6 / seconds,
        "threads_before": threads_before,
        "threads": threads,
        "errors": errors,
    }
