"""wrk: as many requests as are answered over a fixed number of connections. How it is called, and what it said."""

import json
import os

from .processes import Failed

LUA = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "wrk")
ERRORS = ("connect", "read", "write", "status", "timeout")


def command(_binary, scenario, seconds, targets):
    # It counts in whole seconds only.
    seconds = max(1, round(seconds))
    words = ["wrk", f"-t{scenario.client_threads}", f"-c{scenario.connections}", f"-d{seconds}s", "--timeout", "10s"]
    words += ["-s", os.path.join(LUA, scenario.script)]
    for header in scenario.headers:
        words += ["-H", header]
    address, port = targets[0]
    return [*words, f"http://{address}:{port}{scenario.path}"]


def environment(targets):
    return dict(os.environ, TARGETS=" ".join(f"{address}:{port}" for address, port in targets))


def parse(output):
    """The line of JSON that `report.lua` prints."""
    line = next((line for line in output.splitlines() if line.startswith("REPORT ")), None)
    if line is None:
        raise Failed(f"wrk printed no report: {output.strip()[-400:]}")
    said = json.loads(line.removeprefix("REPORT "))
    report = {key: value for key, value in said.items() if key.endswith("_us") and key != "duration_us"}
    errors = {name: said[name] for name in ERRORS if said[name]}
    return {"requests": said["requests"], "bytes": said["bytes"], "seconds": said["duration_us"] / 1e6, **report, "errors": errors}
