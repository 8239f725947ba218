"""The rounds of a scenario: which proxy is started when, and measured after whom."""

from . import failures, idle, processes, slow
from .measure import measure
from .processes import Failed

SMOKE_IDLE_CONNECTIONS = 500
SMOKE_SLOW_READERS = 50


def samples(host, scenario, field, options):
    """Runs the scenario; yields what was measured, one proxy of one round after the other."""
    if scenario.idle:
        return run_idle(host, scenario, field, options)
    if scenario.failure:
        return run_failures(host, scenario, field, options)
    if scenario.slow_readers:
        return run_slow(host, scenario, field, options)
    return run_load(host, scenario, field, options)


def order(field, round_number):
    """A B C, then C B A: a drift of the host's speed falls on both ends alike."""
    return field if round_number % 2 == 1 else field[::-1]


def run_load(host, scenario, field, options):
    addresses = [f"127.0.0.{number}" for number in range(1, scenario.addresses + 1)]
    try:
        for proxy in field:
            proxy.start(host, addresses)
            proxy.check()
        if not options.smoke:
            for proxy in field:
                measure(host, scenario, proxy, 1)
        for number in range(1, options.rounds + 1):
            for proxy in order(field, number):
                yield {"round": number, "proxy": proxy.name, **measure(host, scenario, proxy, options.seconds)}
    finally:
        for proxy in field:
            proxy.stop(host)


def run_fresh(host, field, options, one):
    """Each proxy is started afresh for each round: memory kept from an earlier one would hide what it costs."""
    for number in range(1, options.rounds + 1):
        for proxy in order(field, number):
            try:
                proxy.start(host, ["127.0.0.1"])
                proxy.check()
                yield {"round": number, "proxy": proxy.name, **one(proxy)}
            finally:
                proxy.stop(host)


def run_idle(host, scenario, field, options):
    count = SMOKE_IDLE_CONNECTIONS if options.smoke else scenario.connections
    limit = processes.raise_descriptor_limit()
    if count * 2 + 500 > limit:
        raise Failed(f"{count} connections need a limit of {count * 2 + 500} open files, it is {limit} (ulimit -n)")
    return run_fresh(host, field, options, lambda proxy: idle.measure(scenario, proxy, count, options.seconds))


def run_slow(host, scenario, field, options):
    count = SMOKE_SLOW_READERS if options.smoke else scenario.slow_readers
    return run_fresh(
        host, field, options, lambda proxy: slow.measure_beside(host, scenario, proxy, count, options.seconds)
    )


def run_failures(host, scenario, field, options):
    """Backends and proxy afresh for each round: what a proxy remembers of a failure is not to be the next one's luck."""
    for number in range(1, options.rounds + 1):
        for proxy in order(field, number):
            backends = None
            try:
                backends = failures.Backends(host)
                proxy.start(host, ["127.0.0.1"], backends.addresses)
                proxy.check()
                # At least as long as an interval of probes, and a fraction of what a round takes.
                figures = failures.measure(scenario, proxy, backends, 0.5 if options.smoke else 1.0)
            finally:
                proxy.stop(host)
                if backends:
                    backends.stop()
            # A peer that loses requests is a finding; ringway may lose no GET and do no POST twice. What waits at a
            # zombie is a 504 by intention.
            never = ("posts_twice",) if scenario.work == "stop" else ("get_errors", "posts_twice")
            errors = {key: figures[key] for key in never if figures[key]}
            yield {"round": number, "proxy": proxy.name, **figures, "errors": errors if proxy.kind == "ringway" else {}}
