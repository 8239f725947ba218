"""The scenarios: what a client does, and which proxies it makes sense to send it through."""

from dataclasses import dataclass, field

WITH_FLOOR = ("ringway", "haproxy", "nginx", "floor")
WITHOUT_FLOOR = ("ringway", "haproxy", "nginx")


@dataclass(frozen=True)
class Scenario:
    name: str
    about: str
    path: str = "/"
    connections: int = 64
    proxies: tuple = WITH_FLOOR
    unfit: frozenset = field(default_factory=frozenset)
    headers: tuple = ()
    script: str = "report.lua"
    body_bytes: int = 128
    post_bytes: int = 0
    per: str = "request"
    addresses: int = 1
    client_threads: int = 1
    idle: bool = False
    twice: bool = False


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario("small-1", "GET, 128-byte answer, keep-alive, 1 connection", connections=1),
        Scenario("small-8", "GET, 128-byte answer, keep-alive, 8 connections", connections=8),
        Scenario("small-64", "GET, 128-byte answer, keep-alive, 64 connections"),
        Scenario("small-512", "GET, 128-byte answer, keep-alive, 512 connections", connections=512),
        Scenario(
            "body-16k",
            "GET, 16 KiB answer, keep-alive, 64 connections",
            path="/bytes/16384",
            body_bytes=16_384,
        ),
        Scenario(
            "bulk-1m",
            "GET, 1 MiB answer, keep-alive, 16 connections",
            path="/bytes/1048576",
            body_bytes=1_048_576,
            connections=16,
            proxies=("ringway", "haproxy", "haproxy-splice", "nginx"),
            per="MiB",
        ),
        Scenario(
            "post-64k",
            "POST of 64 KiB, keep-alive, 64 connections",
            path="/upload",
            script="post64k.lua",
            post_bytes=65_536,
        ),
        Scenario(
            "idle-8000",
            "8000 keep-alive connections, one request on each, then silence",
            connections=8000,
            proxies=("ringway", "haproxy"),
            unfit=frozenset({"floor"}),
            idle=True,
        ),
        Scenario(
            "aa",
            "the noise floor: small-64 through two instances of the same build",
            proxies=("ringway",),
            twice=True,
        ),
        # Last, because the thousands of TIME_WAIT sockets it leaves behind stay for a minute.
        Scenario(
            "close",
            "GET, 128-byte answer, a new connection for each request, 64 at a time",
            headers=("Connection: close",),
            proxies=WITHOUT_FLOOR,
            unfit=frozenset({"floor"}),
            # One port pair per connection: four destinations and four client threads keep the ports from running out.
            addresses=4,
            client_threads=4,
        ),
    )
}
