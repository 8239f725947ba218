"""One run of wrk against one proxy, and what the proxy consumed meanwhile."""

import json
import os

from .account import Account, cpu_per_unit
from .processes import Failed

LUA = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "wrk")
ERRORS = ("connect", "read", "write", "status", "timeout")


def command(scenario, seconds, targets):
    # It counts in whole seconds only.
    seconds = max(1, round(seconds))
    words = ["wrk", f"-t{scenario.client_threads}", f"-c{scenario.connections}", f"-d{seconds}s", "--timeout", "10s"]
    words += ["-s", os.path.join(LUA, scenario.script)]
    for header in scenario.headers:
        words += ["-H", header]
    address, port = targets[0]
    return [*words, f"http://{address}:{port}{scenario.path}"]


def measure(host, scenario, proxy, seconds):
    """Runs wrk; returns the figures of this round as a flat dictionary."""
    env = dict(os.environ, TARGETS=" ".join(f"{address}:{port}" for address, port in proxy.targets))
    account = Account(host, proxy)
    output = host.processes.run(
        command(scenario, seconds, proxy.targets),
        os.path.join(host.run_directory, "wrk.log"),
        host.client_core,
        seconds + 30,
        env,
    )
    used = account.close()
    line = next((line for line in output.splitlines() if line.startswith("REPORT ")), None)
    if line is None:
        raise Failed(f"wrk printed no report: {output.strip()[-400:]}")
    report = json.loads(line.removeprefix("REPORT "))
    elapsed = report["duration_us"] / 1e6
    units = report["bytes"] / 2**20 if scenario.per == "MiB" else report["requests"]
    errors = {name: report[name] for name in ERRORS if report[name]}
    if report["requests"] == 0:
        errors["no_request_completed"] = 1
    return {
        "cpu_us": cpu_per_unit(used, units),
        "rate": units / elapsed,
        "requests": report["requests"],
        "bytes": report["bytes"],
        "seconds": elapsed,
        "p50_us": report["p50_us"],
        "p90_us": report["p90_us"],
        "p99_us": report["p99_us"],
        "max_us": report["max_us"],
        **used,
        "errors": errors,
    }
