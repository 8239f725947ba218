"""Our own client (`src/bin/client`): TCP, UDP, and HTTP at a fixed rate. How it is called, and what it said."""

import json

from .processes import Failed


def command(binary, scenario, seconds, targets):
    address, port = targets[0]
    words = [binary, scenario.work, "--target", f"{address}:{port}"]
    words += ["--connections", str(scenario.connections), "--seconds", f"{seconds:g}"]
    return [*words, "--rate", str(scenario.rate)] if scenario.rate else words


def environment(_targets):
    return None


def parse(output):
    try:
        said = json.loads(output)
    except ValueError as error:
        raise Failed(f"the client printed no report: {output.strip()[-400:]}") from error
    errors = {name: count for name, count in said.pop("errors").items() if count}
    return {"requests": said.pop("exchanges"), **said, "errors": errors}
