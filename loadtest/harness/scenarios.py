"""The scenarios: what a client does, and which proxies it makes sense to send it through."""

from dataclasses import dataclass, field

WITH_FLOOR = ("ringway", "haproxy", "nginx", "floor")
WITHOUT_FLOOR = ("ringway", "haproxy", "nginx")
ONLY_TCP = frozenset({"haproxy", "haproxy-splice", "floor"})


@dataclass(frozen=True)
class Scenario:
    name: str
    about: str
    # What the proxy is told to speak; which of the origin's services stands behind it; what our own client does.
    protocol: str = "http"
    service: str = "http"
    work: str = ""
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
    # Backends of our own that fail; `work` says how.
    failure: bool = False
    # What the row `ringway-many` has of them.
    backends: int = 1
    routes: int = 0
    twice: bool = False
    # Words of the peers' settings that are best for this scenario and not for the others.
    settings: dict = field(default_factory=dict)


# Several scenarios have these in common.
TCP_ECHO = {"protocol": "tcp", "service": "echo"}
TCP_ROUND_TRIPS = TCP_ECHO | {"work": "echo", "per": "round trip"}
DATAGRAMS = {"protocol": "udp", "service": "datagrams", "proxies": ("ringway", "nginx"), "unfit": ONLY_TCP}
BULK = {
    "body_bytes": 1_048_576,
    "connections": 16,
    "proxies": ("ringway", "haproxy", "haproxy-splice", "nginx"),
    "per": "MiB",
}
IDLE = {"connections": 8000, "unfit": frozenset({"floor"}), "idle": True}
ONE_AND_MANY = {"proxies": ("ringway", "ringway-many")}
FAILURE = {
    "proxies": WITHOUT_FLOOR,
    "unfit": frozenset({"floor", "haproxy-splice", "ringway-many"}),
    "failure": True,
    "connections": 16,
}

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
            **BULK,
        ),
        Scenario(
            "backends-1000",
            "GET, 128-byte answer, keep-alive, 64 connections; `ringway-many` has 1 000 backends",
            backends=1000,
            **ONE_AND_MANY,
        ),
        Scenario(
            "routes-10000",
            "GET, 128-byte answer, keep-alive, 64 connections; `ringway-many` has 10 000 routes, and none takes the request",
            routes=10_000,
            **ONE_AND_MANY,
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
            proxies=("ringway", "haproxy"),
            **IDLE,
        ),
        Scenario(
            "aa",
            "the noise floor: small-64 through two instances of the same build",
            proxies=("ringway",),
            twice=True,
        ),
        Scenario(
            "tcp-small-64",
            "TCP, 128 bytes there and back, 64 connections that stay",
            **TCP_ROUND_TRIPS,
        ),
        Scenario(
            "tcp-small-512",
            "TCP, 128 bytes there and back, 512 connections that stay",
            connections=512,
            **TCP_ROUND_TRIPS,
        ),
        Scenario(
            "tcp-bulk",
            "TCP, 1 MiB for a message of 128 bytes, 16 connections that stay",
            protocol="tcp",
            service="bulk",
            work="bulk",
            settings={"BUFFER": "256k", "BUFSIZE": "262144"},
            **BULK,
        ),
        Scenario(
            "tcp-idle",
            "8000 TCP connections through to the origin, 128 bytes there and back on each, then silence",
            proxies=WITHOUT_FLOOR,
            settings={"BUFFER": "512"},
            **TCP_ECHO,
            **IDLE,
        ),
        Scenario(
            "udp-echo",
            "UDP, 128 bytes there and back, 64 client sockets that stay; per datagram, of which a round trip has two",
            work="datagrams",
            per="datagram",
            **DATAGRAMS,
        ),
        Scenario(
            "udp-churn",
            "UDP, 128 bytes there and back, a new client socket for each exchange, 64 at a time",
            work="datagram-churn",
            per="exchange",
            settings={"RESPONSES": "proxy_responses 1;"},
            **DATAGRAMS,
        ),
        Scenario("failures-end", "3 backends, each ended gracefully and started again, one after the other", work="end", **FAILURE),
        Scenario("failures-kill-each", "3 backends, each killed and started again, one after the other", work="kill-each", **FAILURE),
        Scenario("failures-kill", "3 backends, one killed and later started again", work="kill", **FAILURE),
        Scenario("failures-zombie", "3 backends, one stopped (it accepts and never answers) and later continued", work="stop", **FAILURE),
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
        Scenario(
            "tcp-churn",
            "TCP, a new connection for each exchange of 128 bytes there and back, closed by the origin, 64 at a time",
            protocol="tcp",
            service="once",
            work="churn",
            per="exchange",
        ),
    )
}
