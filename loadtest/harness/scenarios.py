"""The scenarios: what a client does, and which proxies it makes sense to send it through."""

from dataclasses import dataclass, field

WITHOUT_FLOOR = ("ringway", "haproxy", "nginx", "envoy")
WITH_FLOOR = (*WITHOUT_FLOOR, "floor")
HAPROXIES = frozenset({"haproxy", "haproxy-auto", "haproxy-many", "haproxy-splice", "haproxy-two"})
ONLY_TCP = HAPROXIES | {"envoy", "floor"}
# The clients that a scenario can be run with; the first is the one that it is run with.
GETTERS = ("wrk", "oha", "h2load")
OURS = ("client",)


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
    clients: tuple = ("wrk",)
    # Requests a second that begin at even distances, whatever becomes of those before; 0 for as many as are answered.
    rate: int = 0
    proxies: tuple = WITH_FLOOR
    unfit: frozenset = field(default_factory=frozenset)
    headers: tuple = ()
    script: str = "report.lua"
    body_bytes: int = 128
    post_bytes: int = 0
    per: str = "request"
    addresses: int = 1
    client_threads: int = 1
    # What the subject is compared by.
    figure: str = "cpu_us"
    idle: bool = False
    # So many clients that take 1 MiB at 1 KiB a second, beside those that are measured.
    slow_readers: int = 0
    # Backends of our own that fail; `work` says how.
    failure: bool = False
    # What the rows `ringway-many`, `haproxy-many` and `floor-many` have of them. `ringway-two` and `haproxy-two` have a second worker or thread, on the core of the client.
    backends: int = 1
    routes: int = 0
    twice: bool = False
    # Connections are accepted with their first bytes.
    defers: bool = False
    # Words of the peers' settings that are best for this scenario and not for the others.
    settings: dict = field(default_factory=dict)

    def client(self, wished=None):
        """The client that it is run with: what was wished for where that can do it; empty where this program is the client."""
        if self.idle or self.failure:
            return ""
        return wished if wished in self.clients else self.clients[0]


# Several scenarios have these in common.
GET = {"clients": GETTERS}
TCP_ECHO = {"protocol": "tcp", "service": "echo", "clients": OURS}
TCP_ROUND_TRIPS = TCP_ECHO | {"work": "echo", "per": "round trip"}
DATAGRAMS = {"protocol": "udp", "service": "datagrams", "clients": OURS, "proxies": ("ringway", "nginx"), "unfit": ONLY_TCP}
# 20 000 a second is what one worker of any proxy here but the slowest does with ease. `direct` is what the client and the origin take.
LATENCY = {"rate": 20_000, "figure": "p99_us", "proxies": (*WITHOUT_FLOOR, "direct")}
BULK = {
    "body_bytes": 1_048_576,
    "connections": 16,
    "proxies": ("ringway", "haproxy", "haproxy-splice", "nginx", "envoy"),
    "per": "MiB",
}
IDLE = {"connections": 8000, "unfit": frozenset({"floor", "direct"}), "figure": "connection_bytes", "idle": True}
ONE_AND_MANY = {"proxies": ("ringway", "ringway-many"), **GET}
MANY_BACKENDS = {**ONE_AND_MANY, "proxies": ("ringway", "ringway-many", "haproxy", "haproxy-many", "floor", "floor-many")}
SMALL = "GET, 128-byte answer, keep-alive, 64 connections"
FAILURE = {
    "proxies": ("ringway", "haproxy", "nginx"),
    "unfit": HAPROXIES - {"haproxy"} | {"envoy", "floor", "direct", "ringway-all", "ringway-many", "ringway-two"},
    "figure": "recovery_ms",
    "failure": True,
    "connections": 16,
}

SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        *(
            Scenario(f"small-{count}", f"GET, 128-byte answer, keep-alive, {count} connection{'s' * (count > 1)}", connections=count, **GET)
            for count in (1, 8, 64, 512, 4096)
        ),
        Scenario(
            "body-16k",
            "GET, 16 KiB answer, keep-alive, 64 connections",
            path="/bytes/16384",
            body_bytes=16_384,
            **GET,
        ),
        Scenario(
            "bulk-1m",
            "GET, 1 MiB answer, keep-alive, 16 connections",
            path="/bytes/1048576",
            **BULK,
            **GET,
        ),
        Scenario(
            "mixed",
            "of 100 requests 50 get 128 bytes, 30 4 KiB, 12 64 KiB, 1 1 MiB, 5 post 4 KiB, 2 post 64 KiB; keep-alive, 64 connections",
            script="mixed.lua",
            proxies=WITHOUT_FLOOR,
        ),
        Scenario(
            "latency-20k",
            "GET, 128-byte answer, 20 000 requests a second at even distances, 64 connections; latency counts from when each was meant to begin",
            work="get",
            clients=("client", "oha"),
            **LATENCY,
        ),
        Scenario(
            "tcp-latency-20k",
            "TCP, 128 bytes there and back, 20 000 a second at even distances, 64 connections; latency counts from when each was meant to begin",
            **TCP_ROUND_TRIPS,
            **LATENCY,
        ),
        Scenario(
            "slow-readers",
            "500 clients that take 1 MiB at 1 KiB a second, while others ask for 128 bytes 5 000 times a second over 64 connections",
            work="get",
            clients=OURS,
            rate=5_000,
            proxies=WITHOUT_FLOOR,
            unfit=frozenset({"floor", "direct"}),
            slow_readers=500,
            # What is set for 1 MiB at full speed would be kept for each of them.
            settings={"BODY_BUFFERS": "4 16k", "BUSY_BUFFERS": "32k", "WATERMARK": "16384"},
        ),
        Scenario(
            "all-on",
            f"{SMALL}; `ringway-all` has probes, outliers, limits, a line, a retry budget and rate limits",
            **{**ONE_AND_MANY, "proxies": ("ringway", "ringway-all")},
        ),
        *(
            Scenario(f"backends-{count}", f"{SMALL}; `-many` have {count} backends", backends=count, **MANY_BACKENDS)
            for count in (10, 100, 1000)
        ),
        *(
            Scenario(
                f"routes-{count}",
                f"{SMALL}; `ringway-many` has {count} routes, and none takes the request",
                routes=count,
                **ONE_AND_MANY,
            )
            for count in (1, 100, 10_000)
        ),
        Scenario(
            "workers-2",
            f"{SMALL}; `…-two` has a second worker or thread, which shares the core of the client and the origin",
            proxies=("ringway", "ringway-two", "haproxy", "haproxy-two"),
            **GET,
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
            proxies=("ringway", "haproxy", "envoy"),
            **IDLE,
        ),
        Scenario(
            "aa",
            "the noise floor: small-64 through two instances of the same build",
            proxies=("ringway",),
            twice=True,
            **GET,
        ),
        Scenario(
            "tcp-small-64",
            "TCP, 128 bytes there and back, 64 connections that stay",
            **TCP_ROUND_TRIPS,
        ),
        Scenario(
            "tcp-small-plain",
            "the same, to a backend on epoll: glommio's ring has whoever sends it something pay for an interrupt",
            **{**TCP_ROUND_TRIPS, "service": "plain"},
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
            clients=OURS,
            settings={"BUFFER": "256k", "BUFSIZE": "262144"},
            **{**BULK, "proxies": ("ringway", "haproxy", "haproxy-splice", "haproxy-auto", "nginx", "envoy")},
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
            "close-deferred",
            "the same, and all proxies accept a connection when its first bytes have come",
            headers=("Connection: close",),
            proxies=("ringway", "haproxy", "nginx"),
            unfit=frozenset({"floor", "envoy"}),
            addresses=4,
            client_threads=4,
            defers=True,
        ),
        Scenario(
            "tcp-churn",
            "TCP, a new connection for each exchange of 128 bytes there and back, closed by the origin, 64 at a time",
            protocol="tcp",
            service="once",
            work="churn",
            clients=OURS,
            per="exchange",
        ),
    )
}
