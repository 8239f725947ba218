"""What the command line asks for."""

import argparse
import fnmatch
import os

from . import programs, proxies
from .scenarios import GETTERS, SCENARIOS


def parse(about):
    parser = argparse.ArgumentParser(prog="loadtest/run", description=about)
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=f"{', '.join(SCENARIOS)}, a pattern of them, or all")
    parser.add_argument("--rounds", type=int, help="rounds of the interleave (default 5; smoke 1)")
    parser.add_argument("--seconds", type=float, help="seconds of each run (default 3; smoke 0.3; wrk and h2load round it)")
    parser.add_argument("--proxies", metavar="LIST", help=f"of {', '.join(proxies.KINDS)}; default: by scenario")
    parser.add_argument("--client", choices=GETTERS, help="for the scenarios that can be run with it (default: by scenario)")
    parser.add_argument(
        "--ringway", action="append", metavar="[NAME=]PATH", help="a prebuilt binary; repeat it to compare builds"
    )
    parser.add_argument("--subject", metavar="NAME", help="whose ratio to the others is shown (default: the first)")
    parser.add_argument("--smoke", action="store_true", help="one short round, two proxies, nothing kept")
    parser.add_argument("--out", metavar="DIR", help="where results go (default loadtest/results/DATE-KERNEL)")
    parser.add_argument("--proxy-core", type=int, default=0, metavar="N")
    parser.add_argument("--client-core", type=int, default=1, metavar="N", help="for the client and the origin")
    parser.add_argument("--no-build", action="store_true", help="use what an earlier run has built")
    parser.add_argument("--no-install", action="store_true", help="never install a missing peer or client")
    parser.add_argument("--plots", metavar="DIR", help="only make the plots and the summary of stored results again")
    options = parser.parse_args()
    if options.plots:
        if options.scenarios or not os.path.isdir(options.plots):
            parser.error("--plots wants a directory of results, and no scenario")
        return options
    return complete(options, parser)


def complete(options, parser):
    """Checks what was asked for, and fills in what was not."""
    if not options.scenarios:
        parser.error(f"name a scenario: {', '.join(SCENARIOS)}, or all")
    chosen = [fnmatch.filter(SCENARIOS, "*" if name == "all" else name) for name in options.scenarios]
    for name, matching in zip(options.scenarios, chosen):
        if not matching:
            parser.error(f"no scenario is called {name}; there are {', '.join(SCENARIOS)}")
    options.scenarios = list(dict.fromkeys(name for matching in chosen for name in matching))
    options.proxies = options.proxies.split(",") if options.proxies else None
    for name in options.proxies or ():
        if name not in proxies.KINDS:
            parser.error(f"no proxy is called {name}; there are {', '.join(proxies.KINDS)}")
    options.builds = [named_build(text) for text in options.ringway or ()]
    names = [name for name, _ in options.builds]
    if len(set(names)) != len(names) or set(names) & set(proxies.KINDS[1:]):
        parser.error("each --ringway needs a name of its own, and not that of a peer: --ringway new=PATH")
    options.rounds = max(1, options.rounds or (1 if options.smoke else 5))
    options.seconds = max(0.1, options.seconds or (0.3 if options.smoke else 3))
    for core in (options.proxy_core, options.client_core):
        if core not in os.sched_getaffinity(0):
            parser.error(f"core {core} is not usable here; choose others with --proxy-core and --client-core")
    return options


def named_build(text):
    name, separator, path = text.partition("=")
    return (name, os.path.abspath(path)) if separator else ("ringway", os.path.abspath(text))


def kinds_of(scenario, options):
    """Which kinds of proxy a scenario is run with: what was asked for, as far as it makes sense."""
    # Many routes and backends are those of HTTP.
    unfit = scenario.unfit | (set() if scenario.protocol == "http" else {"ringway-all", "ringway-many", "haproxy-many", "floor-many"})
    unfit = unfit | (proxies.RELAYS if "floor" in unfit else set())
    kinds = [kind for kind in options.proxies or scenario.proxies if kind not in unfit]
    if scenario.twice:
        return kinds[:1]
    if options.smoke and not options.proxies:
        return smoke_kinds(kinds, scenario.protocol)
    return kinds


def smoke_kinds(kinds, protocol):
    """ringway and the first peer that is already here."""
    peers = [kind for kind in kinds if kind != "ringway" and programs.present(kind, protocol)]
    return ["ringway", *peers[:1]]
