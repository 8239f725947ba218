//! The file's tables as they are written, with the place of every value. What they mean together is for `check`.
//!
//! The comments here are the descriptions in the published schema, and the defaults stand there too.

mod number;
mod value;

use std::{net::IpAddr, time::Duration};

use self::number::{
    Attempts, Budget, Failures, FinalStatus, Jitter, Limit, PerClient, PerSecond, Percent, Port, Queue,
    Ratio, RedirectStatus, Requests, Size, Turns,
};
pub(super) use self::number::{BoundedLoad, Burst};
pub(super) use self::value::{
    BackendItem, Balance, FieldValue, HashKeyItem, Name, NetworkList, Permissions, RateKeyItem, SecretKey,
    Statuses, StickyItem,
};
use super::{
    plan::{
        Mode,
        admission::Rate,
        cluster::{Duty, OnDown, SameSite},
        health,
    },
    read::{List, Map, Tables, tables},
};
use crate::{
    addr::{BackendAddress, ListenAddress},
    control::log::LogFormat,
    proxy_protocol::Version,
};

tables! {
    /// Configuration of Ringway.
    File {
        /// Where clients connect.
        listener: Tables<Listener>,
        /// Which requests go where; the first match in the file wins among equals.
        route: Tables<Route>,
        /// Groups of backends that can stand in for each other.
        cluster: Tables<Cluster>,
        /// Deadlines and header policy of all listeners and clusters.
        defaults: Defaults,
        /// The process itself.
        runtime: Runtime,
        /// The admin HTTP: metrics, statistics, readiness.
        admin: Admin,
        /// The log on standard error.
        log: Log,
    }

    /// One accepting socket, or several with the same policy.
    Listener {
        /// Unique name, also the metrics label. The first one without is `default`, the next `default-2`.
        name: Name,
        /// Where to listen: `:80`, `127.0.0.1:80`, `[::]:80` or `unix:/run/name.sock`; one, or a list of them.
        bind: List<ListenAddress>,
        /// What is spoken: `http` chooses a backend for each request, `tcp` for each connection, `udp` for each client address and port.
        mode: Mode = "http",
        /// The cluster for everything that no route takes. It may be left out if there is only one and no route is for this listener; an HTTP listener without one answers 404.
        cluster: String,
        /// Clients from these networks begin with a PROXY protocol header (v1 or v2): `10.0.0.0/8`, `::1` or `all`.
        accept_proxy: NetworkList,
        /// Permissions of the UNIX sockets, octal.
        socket_mode: Permissions = "666",
        /// Whether a connection is accepted only when its first bytes have come (`TCP_DEFER_ACCEPT`), which saves a wake-up for each. One that stays silent is accepted some seconds late. Not for protocols in which the server speaks first, and refused for UDP and UNIX sockets.
        defer_accept: bool = false,
        /// What a client of a TCP listener is told when there is no backend for it; empty says nothing.
        down_text: String = "Server is down\n",
        /// Bytes of content that a request may have: `"64KiB"`, `"10MiB"`; `"0B"` has no limit. A larger one is answered with 413, at once if it says its length, else when it has become too large.
        request_body_max: Size = "0B",
        /// Only clients from these networks may come in: `10.0.0.0/8`, `::1` or `all`. Connections of others are reset, their datagrams dropped.
        allow: NetworkList,
        /// Clients from these networks may not come in, even if they are allowed.
        deny: NetworkList,
        /// Connections or UDP flows that one client may have at a time, over all workers; what is more is reset or dropped.
        max_connections_per_client: PerClient,
        /// How many requests (`http`), connections (`tcp`) or new flows (`udp`) are taken: `10/s`, `300/m` or `1000/h`, over all workers.
        rate_limit: Rate,
        /// How many may come at once after a pause; one second's worth unless given, at least 1.
        rate_burst: Burst,
        /// What has a limit of its own: each `client-address` (IPv6: each network of 64 bits), `all` together, or each value of `{ header = "…" }` (HTTP only).
        rate_key: RateKeyItem = "client-address",
    }

    /// A named group of backends.
    Cluster {
        /// Unique name, also the metrics label. It may be left out if there is only one cluster: `default`.
        name: Name,
        /// How a backend is picked.
        balance: Balance = "round-robin",
        /// What `ip-hash`, `ring` and `maglev` hash: `client-address`, `path`, `{ header = "…" }`, `{ cookie = "…" }` or `{ query = "…" }`.
        hash_key: HashKeyItem = "client-address",
        /// How far a backend's load may exceed the average before `ip-hash`, `ring` and `maglev` pass it over: 1.25 is a quarter more. Each worker counts what it has sent itself. Without it nobody is passed over.
        bounded_load: BoundedLoad,
        /// How long a backend that has come back grows into its share; `0s` gives it all at once.
        slow_start: Duration = "0s",
        /// Begin each connection to a backend with a PROXY protocol header of this version.
        send_proxy: Version,
        /// Local addresses that connections to the backends are made from, in turns; each has its own ports.
        source: List<IpAddr>,
        /// Keeps a client with its backend: `client-address` by its address, for three hours after its last connection or request; a table says it in full, or keeps it by a cookie.
        sticky: StickyItem,
        /// When failing live requests take a backend out, and for how long.
        circuit: Circuit,
        /// What becomes of the work at a backend that goes down or is ejected: `keep` lets it go on as far as it can, `close` resets its connections and ends its UDP flows; `auto` keeps connections, and gives UDP flows another backend with their next datagram.
        on_down: OnDown = "auto",
        /// Probes its backends. Without this table nobody is probed.
        health: Health,
        /// Requests in progress at each backend at most, over all workers: tunnels, TCP connections and UDP flows count too. 0 has no limit.
        max_requests: Limit = 0,
        /// Connections open to each backend at most, over all workers, idle ones included. 0 has no limit.
        max_connections: Limit = 0,
        /// How many requests (or TCP connections) may wait while every backend has all it may have, over all workers.
        queue_max: Queue = 1024,
        /// How long each of them may wait before it is answered with 503.
        queue_timeout: Duration = "1s",
        /// How often a request is tried, the first time included.
        attempts: Attempts = 3,
        /// Before backends that refused a connection are tried again, when no other is left; those that did not answer in time are not.
        retry_pause: Duration = "10ms",
        /// Retries in percent of the requests, measured over 10 seconds.
        retry_budget: Budget = 20,
        /// Retries that are allowed each second however few the requests are, over all workers; 10 seconds' worth can be saved up.
        retry_min_per_second: PerSecond = 3,
        /// Send PUT and DELETE again when a connection died before their response. Safe methods always are.
        retry_idempotent: bool = false,
        /// Also send a request again, to another backend, when the response did not begin in time; only those that may be sent again when a connection died. Each attempt may take the response timeout.
        retry_response_timeout: bool = false,
        /// Send again, whatever its method, a request with an `Idempotency-Key`.
        retry_idempotency_key: bool = false,
        /// The backends: addresses such as `10.0.0.1:8080` or `http://web:80;weight=3`, or tables.
        backend: List<BackendItem>,
    }

    /// One backend.
    Backend {
        /// `host:port`, `http://host:port`, `tcp://host:port`, `udp://host:port` or `unix:/path`.
        address: BackendAddress,
        /// Unique in its cluster, also the metrics label; the address as written unless given.
        name: Name,
        /// Relative share; 0 takes no new work.
        weight: u16 = 1,
        /// Used only while none of the others can be.
        backup: bool = false,
        /// `ready`; `drain` takes nothing new, while pinned clients go on; `maint` takes nothing at all.
        state: Duty = "ready",
        /// In place of the cluster's `max_requests`; 0 has no limit.
        max_requests: Limit,
        /// In place of the cluster's `max_connections`; 0 has no limit.
        max_connections: Limit,
    }

    /// The circuit breaker of each backend: open after failures in a row, then one trial at a time.
    Circuit {
        /// Failures in a row that eject a backend: connections refused or not made in time, responses that do not begin in time, break off or are no HTTP; `0` ejects nobody. Without it 3, but 0 in a cluster of one backend, as nobody else could do its work.
        failures: Failures,
        /// Failures further apart than this are not in a row.
        window: Duration = "10s",
        /// How long it is ejected at first; twice as long each time it fails again. Without it `1s`, or `open_max` if that is shorter.
        open: Duration,
        /// It is ejected no longer than this at a time, and after so long a time of health the next time is a first one.
        open_max: Duration = "30s",
        /// A status of 500 to 599 is a failure too.
        count_5xx: bool = false,
        /// Eject who succeeds less often than this part of the others' success ratio, such as `0.8`. Without it nobody is compared.
        outlier_ratio: Ratio,
        /// How long the ratios are observed before they are compared.
        outlier_interval: Duration = "10s",
        /// Who has had fewer requests in that time is not compared.
        outlier_requests: Requests = 100,
        /// Outliers are ejected up to this share of the cluster's backends, in percent; one always may be.
        outlier_max: Percent = 50,
        /// While fewer backends than this share are healthy, all are used, in percent; `0` never does that.
        panic_threshold: Percent = 0,
    }

    /// How a client stays with its backend: by a cookie of ours, or by its address.
    Sticky {
        /// Name of the cookie. HTTP only.
        cookie: String,
        /// Signs the cookie: 64 hexadecimal digits (`openssl rand -hex 32`). Without one a key is made at start: cookies end with the process and other instances do not know them.
        key: SecretKey,
        /// The cookie's `Domain`; without it the cookie is for the asked host alone.
        domain: String,
        /// The cookie's `Path`.
        path: String = "/",
        /// The cookie's `Max-Age`; without it the cookie ends with the browser's session.
        max_age: Duration,
        /// The cookie is `Secure`: sent over TLS only.
        secure: bool = false,
        /// The cookie is `HttpOnly`: scripts cannot read it.
        http_only: bool = true,
        /// The cookie's `SameSite`.
        same_site: SameSite = "lax",
        /// In place of a cookie: remember the client's address for this long after its last connection or request.
        client_address: Duration,
    }

    /// What backends are asked again and again, and what their answers mean.
    Health {
        /// `tcp` makes a connection, `http` asks for a page, `script` sends and expects bytes. Without it: `http` if there is a `path`, `script` if there is a `step`, otherwise `tcp`.
        probe: health::Kind,
        /// From the beginning of one probe of a backend to that of the next.
        interval: Duration = "2s",
        /// In place of `interval` while results contradict the state and have not changed it yet. Without it a quarter of `interval`, at least `100ms`.
        fast_interval: Duration,
        /// For a whole probe, from the connect to the last byte that matters.
        timeout: Duration = "2s",
        /// Successes in a row that bring a backend back.
        rise: Turns = 2,
        /// Failures in a row that take it out.
        fall: Turns = 3,
        /// How far an interval may be longer or shorter, in percent, so that probes do not come in step.
        jitter: Jitter = 10,
        /// What a backend is until its first probe, which is made at once and decides alone: `up` takes work, `down` takes none.
        start: health::Start = "up",
        /// Probe this port in place of the backend's own.
        port: Port,
        /// Probe this IP address in place of the backend's own.
        address: IpAddr,
        /// HTTP: the method.
        method: String = "GET",
        /// HTTP: path and query.
        path: String = "/",
        /// HTTP: the `Host` field. Without it the address that is probed.
        host: String,
        /// HTTP: further header fields of the request.
        header: Map<String>,
        /// HTTP: the statuses of a good answer: `200`, `"200-299"`, or a list of them.
        expect_status: List<Statuses> = "200-399",
        /// HTTP: what a good answer has in the first 64 KiB of its body.
        expect_body: String,
        /// Script: what is sent and what is expected, in order.
        step: Tables<ScriptStep>,
    }

    /// A step of a script: either `send` or `expect`. Escapes, best in single quotes: `\r`, `\n`, `\t`, `\\`, and `\xNN` for any byte.
    ScriptStep {
        /// Send these bytes.
        send: String,
        /// Wait until the backend has said this, or one of these, behind what was expected before.
        expect: List<String>,
    }

    /// What is hashed, if it is part of a request.
    HashKeyTable {
        /// The value of this header field.
        header: String,
        /// The value of this cookie.
        cookie: String,
        /// The value of this query parameter.
        query: String,
    }

    /// A rule for requests. All that it asks for must fit; what it leaves out fits everything.
    Route {
        /// Unique name, also the metrics label; `route-1` and so on unless given.
        name: Name,
        /// The listeners it is for, by name; every HTTP listener unless given.
        listener: List<String>,
        /// Any of these hosts, without a port: `example.com`, or `*.example.com` for all names below it.
        host: List<String>,
        /// This path.
        path: String,
        /// This path and what lies below it: `/api` takes `/api` and `/api/x`, but not `/apis`.
        path_prefix: String,
        /// Every path in which this regular expression is found; write `^` and `$` for the whole path.
        path_regex: String,
        /// Any of these methods.
        method: List<String>,
        /// All of these header fields: `{ "x-canary" = "1" }`, or `true` for a field that only has to be there.
        header: Map<FieldValue>,
        /// Send the request to this cluster.
        cluster: String,
        /// Send the request to one of these clusters, each with its share.
        split: Tables<Share>,
        /// Send the client elsewhere.
        redirect: Redirect,
        /// Answer here.
        respond: Respond,
        /// Take the matched `path_prefix` off before forwarding.
        strip_prefix: bool = false,
        /// Put this in the place of the matched `path_prefix` before forwarding.
        replace_prefix: String,
        /// Header fields of the request to write in place of what is there. `host` too: `X-Forwarded-Host` keeps the one that was asked.
        set_request_header: Map<String>,
        /// Header fields to add to the request.
        add_request_header: Map<String>,
        /// Header fields to take out of the request.
        remove_request_header: List<String>,
        /// Header fields of the response to write in place of what is there.
        set_response_header: Map<String>,
        /// Header fields to add to the response.
        add_response_header: Map<String>,
        /// Header fields to take out of the response.
        remove_response_header: List<String>,
        /// In place of `defaults.response_timeout`; `0s` waits for ever.
        response_timeout: Duration,
        /// In place of the listener's `request_body_max`; `"0B"` has no limit.
        request_body_max: Size,
        /// Only clients from these networks may ask: `10.0.0.0/8`, `::1` or `all`. Others are answered 403.
        allow: NetworkList,
        /// Clients from these networks may not ask, even if they are allowed.
        deny: NetworkList,
        /// How many requests are taken: `10/s`, `300/m` or `1000/h`, over all workers. Others are answered 429.
        rate_limit: Rate,
        /// How many may come at once after a pause; one second's worth unless given, at least 1.
        rate_burst: Burst,
        /// What has a limit of its own: each `client-address` (IPv6: each network of 64 bits), `all` together, or each value of `{ header = "…" }`.
        rate_key: RateKeyItem = "client-address",
    }

    /// What has a rate limit of its own, if it is part of a request.
    RateKeyTable {
        /// Each value of this header field.
        header: String,
    }

    /// A cluster's part of a route's requests.
    Share {
        /// The cluster.
        cluster: String,
        /// Relative share; 0 takes no new work.
        weight: u16 = 1,
    }

    /// Another place to ask. What is left out stays as in the request, and so does the query.
    Redirect {
        /// 301, 302, 303, 307 or 308.
        status: RedirectStatus = 302,
        /// `http` or `https`.
        scheme: String,
        /// Host, with a port if need be.
        host: String,
        /// The whole path.
        path: String,
        /// What takes the place of the matched `path_prefix`.
        prefix: String,
    }

    /// An answer that needs no backend.
    Respond {
        /// 200 to 599.
        status: FinalStatus = 200,
        /// Its content.
        body: String = "",
        /// Its media type.
        content_type: String = "text/plain; charset=utf-8",
    }

    /// Deadlines and header policy.
    Defaults {
        /// The TCP handshake with a backend, for each attempt.
        connect_timeout: Duration = "1s",
        /// A request's head, from its first byte to its last.
        head_timeout: Duration = "10s",
        /// Silence between two requests of a client.
        client_idle_timeout: Duration = "60s",
        /// How long an idle connection to a backend is kept; below the backends' own limit.
        upstream_idle_timeout: Duration = "55s",
        /// From the end of a request to the first byte of its response; `0s` waits for ever.
        response_timeout: Duration = "30s",
        /// Silence inside a body, in either direction.
        body_idle_timeout: Duration = "5m",
        /// Silence of a TCP connection or an upgraded one (WebSocket).
        tunnel_idle_timeout: Duration = "1h",
        /// How long both sides of a UDP flow may be silent before its choice of backend is forgotten.
        udp_idle_timeout: Duration = "60s",
        /// Add `Via: 1.1 ringway` to what is forwarded.
        via: bool = true,
        /// Append to the client's `X-Forwarded-*` fields instead of replacing them.
        trust_forwarded: bool = false,
    }

    /// The process.
    Runtime {
        /// Cores that get a worker each: `all` this process may run on, or a list such as `0,2-3`.
        cores: String = "all",
        /// How long a graceful stop may take before the rest is cut.
        shutdown_timeout: Duration = "25s",
    }

    /// The admin HTTP.
    Admin {
        /// Where it listens: `127.0.0.1:9000`. Without it there is none.
        bind: ListenAddress,
    }

    /// The log.
    Log {
        /// How lines look: `text` for people and journals, `json` for collectors.
        format: LogFormat = "text",
    }
}
