"""One run of our own client (`src/bin/client`) against one proxy: TCP and UDP."""

import json
import os

from .account import Account, cpu_per_unit
from .processes import Failed


def command(binary, scenario, seconds, target):
    words = [binary, scenario.work, "--target", f"{target[0]}:{target[1]}"]
    return [*words, "--connections", str(scenario.connections), "--seconds", f"{seconds:g}"]


def units_of(scenario, report):
    if scenario.per == "MiB":
        return report["bytes"] / 2**20
    # Every exchange of datagrams is two for the proxy: one there, one back. What was sent again is not counted.
    return report["exchanges"] * (2 if scenario.per == "datagram" else 1)


def measure(host, scenario, proxy, seconds):
    """Runs the client; returns the figures of this round as a flat dictionary."""
    account = Account(host, proxy)
    words = command(host.client, scenario, seconds, proxy.targets[0])
    log_path = os.path.join(host.run_directory, "client.log")
    output = host.processes.run(words, log_path, host.client_core, seconds + 30)
    used = account.close()
    try:
        report = json.loads(output)
    except ValueError as error:
        raise Failed(f"the client printed no report: {output.strip()[-400:]}") from error
    units = units_of(scenario, report)
    errors = {name: count for name, count in report["errors"].items() if count}
    if report["exchanges"] == 0:
        errors["no_exchange_completed"] = 1
    sample = {
        "cpu_us": cpu_per_unit(used, units),
        "rate": units / max(report["seconds"], 1e-6),
        **{key: value for key, value in report.items() if key not in ("errors", "resent")},
        **used,
    }
    if scenario.protocol == "udp":
        sample["resent"] = report["resent"]
    return {**sample, "errors": errors}
