"""One run of a client against one proxy, whatever the client: what it saw, and what the proxy consumed meanwhile."""

import os

from . import client, h2load, oha, wrk
from .account import Account, cpu_per_unit

CLIENTS = {"wrk": wrk, "oha": oha, "h2load": h2load, "client": client}


def command(host, scenario, seconds, targets):
    """The words that start the client which this run uses for a scenario."""
    return CLIENTS[host.client].command(host.clients.get(host.client), scenario, seconds, targets)


def units_of(scenario, report):
    if scenario.per == "MiB":
        return report["bytes"] / 2**20
    # Every exchange of datagrams is two for the proxy: one there, one back. What was sent again is not counted.
    return report["requests"] * (2 if scenario.per == "datagram" else 1)


def measure(host, scenario, proxy, seconds):
    """Runs the client; returns the figures of this round as a flat dictionary."""
    account = Account(host, proxy)
    words = command(host, scenario, seconds, proxy.targets)
    log_path = os.path.join(host.run_directory, f"{host.client}.log")
    tool = CLIENTS[host.client]
    output = host.processes.run(words, log_path, host.client_core, seconds + 30, tool.environment(proxy.targets))
    used = account.close()
    host.raw.note(f"{proxy.name}, {seconds:g} s, {host.client}", output)
    return figures(scenario, tool.parse(output), used)


def figures(scenario, report, used):
    units = units_of(scenario, report)
    errors = report.pop("errors")
    if report["requests"] == 0:
        errors["nothing_completed"] = 1
    if scenario.protocol != "udp":
        report.pop("resent", None)
    return {
        "cpu_us": cpu_per_unit(used, units),
        "rate": units / max(report["seconds"], 1e-6),
        **report,
        **used,
        "errors": errors,
    }
