"""oha: a second opinion on the GET scenarios, at full speed or at a rate. How it is called, and what it said."""

import json

from .processes import Failed

_PERCENTILES = {"p50": "p50_us", "p90": "p90_us", "p99": "p99_us", "p99.9": "p999_us"}
# Its name for what it does with requests under way when the time is over, if it does not wait for them; never a fault.
_AT_THE_END = "aborted due to deadline"


def command(binary, scenario, seconds, targets):
    address, port = targets[0]
    # One thread, as the other clients: a second one could only compete with the origin for the same core.
    words = [binary, "--no-tui", "--worker-threads", "1", "-c", str(scenario.connections), "-z", f"{seconds:g}s", "-w"]
    if scenario.rate:
        words += ["-q", str(scenario.rate), "--latency-correction"]
    return [*words, "--output-format", "json", f"http://{address}:{port}{scenario.path}"]


def environment(_targets):
    return None


def parse(output):
    try:
        said = json.loads(output[output.index("{") :])
        summary, statuses = said["summary"], said["statusCodeDistribution"]
        percentiles = said["latencyPercentiles"]
    except (ValueError, KeyError) as error:
        raise Failed(f"oha printed no report: {output.strip()[-400:]}") from error
    requests = sum(statuses.values())
    wrong = sum(count for status, count in statuses.items() if not 200 <= int(status) < 400)
    failed = sum(count for what, count in said["errorDistribution"].items() if what != _AT_THE_END)
    report = {name: percentiles[key] * 1e6 for key, name in _PERCENTILES.items() if percentiles.get(key) is not None}
    if summary["slowest"] is not None:
        report["max_us"] = summary["slowest"] * 1e6
    errors = {name: count for name, count in (("status", wrong), ("request", failed)) if count}
    return {"requests": requests, "bytes": summary["totalData"], "seconds": summary["total"], **report, "errors": errors}
