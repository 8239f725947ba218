"""h2load of nghttp2, speaking HTTP/1.1: a third opinion on the GET scenarios. How it is called, and what it said.

It prints the mean of the latencies and no percentiles, so its tables have none.
"""

import re

from .processes import Failed

_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
_BYTES = re.compile(r"\((\d+)\) data")


def command(binary, scenario, seconds, targets):
    address, port = targets[0]
    # It counts in whole seconds only.
    words = [binary, "--h1", "-t", "1", "-c", str(scenario.connections), "-D", str(max(1, round(seconds)))]
    return [*words, f"http://{address}:{port}{scenario.path}"]


def environment(_targets):
    return None


def parse(output):
    ended = re.search(r"^finished in ([\d.]+)(us|ms|s)\b", output, re.MULTILINE)
    counted = re.search(r"^requests: .*?(\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", output, re.MULTILINE)
    answers = re.search(r"^status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", output, re.MULTILINE)
    body = _BYTES.search(output)
    if not (ended and counted and answers and body):
        raise Failed(f"h2load printed no report: {output.strip()[-400:]}")
    done, _, failed, errored, timeouts = map(int, counted.groups())
    wrong = int(answers[3]) + int(answers[4])
    # A request that failed has a wrong status, ended early, or took too long; it is one error and not three.
    errors = {"status": wrong, "timeout": timeouts, "request": max(0, max(failed, errored) - wrong - timeouts)}
    report = {"requests": done, "bytes": int(body[1]), "seconds": _seconds(ended[1], ended[2])}
    took = re.search(r"^time for request: +(\S+?)(us|ms|s) +(\S+?)(us|ms|s) +(\S+?)(us|ms|s) ", output, re.MULTILINE)
    if took:
        report |= {"max_us": _seconds(took[3], took[4]) * 1e6, "mean_us": _seconds(took[5], took[6]) * 1e6}
    return {**report, "errors": {name: count for name, count in errors.items() if count}}


def _seconds(number, unit):
    return float(number) * _SECONDS[unit]
