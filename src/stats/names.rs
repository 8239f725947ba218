//! Every number there is: one table of names and help texts, from which counters, dumps and metrics follow.
//!
//! Exporters put `ringway_` in front and, for counters, `_total` behind.

/// Defines an enumeration whose members are statistics, with their names and help texts.
macro_rules! statistics {
    ($(#[$doc:meta])* $enum:ident { $($(#[$mark:meta])* $member:ident $name:literal $help:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $enum { $(#[doc = $help] $member,)* }

        impl $enum {
            /// All members in the order of their storage.
            pub const ALL: &'static [$enum] = &[$($enum::$member,)*];
            /// How many there are.
            pub const LEN: usize = Self::ALL.len();

            /// Name in dumps, and stem of the name in metrics.
            pub fn name(self) -> &'static str {
                match self { $($enum::$member => $name,)* }
            }

            /// What it counts, in one sentence.
            pub fn help(self) -> &'static str {
                match self { $($enum::$member => $help,)* }
            }
        }
    };
}

statistics! {
    /// Counters of a worker.
    Count {
        ConnectionsAccepted "connections_accepted" "Client connections taken from this worker's accept queue.",
        ConnectionsHandedOver "connections_handed_over" "Accepted connections given to a less loaded worker.",
        ConnectionsReceived "connections_received" "Connections taken over from another worker.",
        ConnectionsCut "connections_cut" "Connections and datagram flows cut because the shutdown's time was over.",
        ConnectionsFinished "connections_finished" "Connections and datagram flows that ended by themselves while shutting down.",
        ConnectionsDenied "connections_denied" "Connections closed because their client's address is not allowed or is denied.",
        ConnectionsOverClientLimit "connections_over_client_limit" "Connections closed because their client had as many as it may have.",
        ConnectionsRateLimited "connections_rate_limited" "Connections closed because too many came in too short a time.",
        ClientTableFull "client_table_full" "Connections and datagram flows let in without being counted for their client, for want of room.",
        ConnectionPanics "connection_panics" "Connections closed because of an internal error (panic).",
        AcceptErrorsDescriptors "accept_errors_descriptors" "Accepts refused for want of descriptors or memory.",
        AcceptErrorsAborted "accept_errors_aborted" "Connections gone before they were accepted.",
        AcceptErrorsOther "accept_errors_other" "Other errors of accept.",
        Requests "requests" "Request heads that were complete and valid.",
        RequestsDenied "requests_denied" "Requests answered 403 because a route does not allow their client's address or denies it.",
        RequestsRateLimited "requests_rate_limited" "Requests answered 429 because too many came in too short a time.",
        RateEvictions "rate_evictions" "Clients that a rate limit lost count of early, to make room for others.",
        Responses1xx "responses_1xx" "Interim responses sent to clients.",
        Responses2xx "responses_2xx" "Responses with a status of 200 to 299 sent to clients.",
        Responses3xx "responses_3xx" "Responses with a status of 300 to 399 sent to clients.",
        Responses4xx "responses_4xx" "Responses with a status of 400 to 499 sent to clients.",
        Responses5xx "responses_5xx" "Responses with a status of 500 to 599 sent to clients.",
        LocalReplies "local_replies" "Responses made by the balancer itself.",
        Tunnels "tunnels" "TCP connections that were given a backend.",
        TunnelsRefused "tunnels_refused" "TCP connections for which no backend was left.",
        TunnelTimeouts "tunnel_timeouts" "Tunnels closed for silence.",
        ProxyHeaders "proxy_headers" "PROXY protocol headers accepted.",
        ProxyHeadersInvalid "proxy_headers_invalid" "Connections closed for a wrong or missing PROXY protocol header.",
        ProxyHeadersTimeout "proxy_headers_timeout" "Connections closed because a PROXY protocol header did not arrive in time.",
        Upgrades "upgrades" "Connections switched to another protocol by a 101.",
        ClientReceivedBytes "client_received_bytes" "Bytes received from clients.",
        ClientSentBytes "client_sent_bytes" "Bytes sent to clients.",
        UpstreamReceivedBytes "upstream_received_bytes" "Bytes received from backends.",
        UpstreamSentBytes "upstream_sent_bytes" "Bytes sent to backends.",
        SplicedBytes "spliced_bytes" "Body and tunnel bytes that never touched user space.",
        PipesDenied "pipes_denied" "Times a body was copied because no pipe could be had.",
        QueueWaits "queue_waits" "Requests and connections that waited for room at a backend.",
        QueueFull "queue_full" "Requests and connections refused because too many waited for room already.",
        QueueTimeout "queue_timeout" "Requests and connections refused because no room was found in time.",
        QueueLeft "queue_left" "Clients that went away while they waited for room.",
        RetriesConnect "retries_connect" "Attempts made again, on another backend if there was one, because a connection could not be made.",
        RetriesReplay "retries_replay" "Requests sent again after a connection died before the response.",
        RetriesRefused "retries_refused" "Failures not retried because the request must not or could not be sent again.",
        RetriesOverBudget "retries_over_budget" "Failures not retried because the retry budget was used up.",
        RetriesUsedUp "retries_used_up" "Failures not retried because all attempts had been made.",
        RetriesPaused "retries_paused" "Times backends that refused were given a moment before they were tried again.",
        UpstreamStale "upstream_stale" "Idle upstream connections found closed or soiled before reuse.",
        UpstreamExpired "upstream_expired" "Idle upstream connections closed after their idle time.",
        UpstreamPoisoned "upstream_poisoned" "Upstream connections not reused because bytes followed a response.",
        FaultClientAborted "fault_client_aborted" "Exchanges ended because the client went away.",
        FaultClientTimeout "fault_client_timeout" "Client connections closed for silence inside a head or body.",
        FaultClientMalformed "fault_client_malformed" "Request bodies with invalid framing.",
        FaultClientTooLarge "fault_client_too_large" "Request bodies that turned out larger than allowed.",
        FaultUpstreamConnect "fault_upstream_connect" "Connections to a backend that failed.",
        FaultUpstreamConnectTimeout "fault_upstream_connect_timeout" "Connections to a backend that took too long.",
        FaultPortsExhausted "fault_ports_exhausted" "Connections not made because no local port was free for the backend; add source addresses.",
        FaultUpstreamReset "fault_upstream_reset" "Backend connections that died before or inside a response.",
        FaultUpstreamTimeout "fault_upstream_timeout" "Responses that did not begin or go on in time.",
        FaultUpstreamMalformed "fault_upstream_malformed" "Responses that were not valid HTTP/1.x.",
        FaultLocal "fault_local" "Exchanges ended for want of descriptors, ports or memory here.",
        FaultNoRoute "fault_no_route" "Requests that no route takes.",
        FaultNoBackend "fault_no_backend" "Requests for which no backend was left.",
        IdleTimeouts "idle_timeouts" "Connections closed because no request came in time.",
        UdpClientReceived "udp_client_received" "Datagrams received from clients.",
        UdpClientSent "udp_client_sent" "Datagrams sent to clients.",
        UdpUpstreamReceived "udp_upstream_received" "Datagrams received from backends.",
        UdpUpstreamSent "udp_upstream_sent" "Datagrams sent to backends.",
        UdpSessionsOpened "udp_sessions_opened" "Datagram flows that were given a backend.",
        UdpSessionsExpired "udp_sessions_expired" "Datagram flows forgotten after their idle time.",
        UdpSessionsEvicted "udp_sessions_evicted" "Datagram flows forgotten early, to make room for others.",
        UdpSessionsMoved "udp_sessions_moved" "Datagram flows ended because their backend is down or ejected; what comes next opens another.",
        UdpRefused "udp_refused" "Times a backend's host answered that nobody receives there (ICMP port unreachable).",
        UdpUnreachable "udp_unreachable" "Datagrams dropped, or flows moved, because no way leads to the receiver.",
        UdpOversized "udp_oversized" "Datagrams dropped because they are too large for the way on.",
        UdpTruncated "udp_truncated" "Datagrams dropped because a part of them was lost on receipt.",
        UdpDropped "udp_dropped" "Datagrams dropped because a queue was full.",
        UdpOverflowed "udp_overflowed" "Datagrams of clients lost because a listener's receive queue was full (net.core.rmem_max).",
        UdpExhausted "udp_exhausted" "Datagrams dropped for want of descriptors, ports or memory here.",
        UdpNoBackend "udp_no_backend" "Datagrams dropped because no backend was left.",
        UdpFull "udp_full" "Datagrams dropped because every backend had all it may have.",
        UdpTurnedAway "udp_turned_away" "Datagrams of new flows dropped while shutting down.",
        UdpDenied "udp_denied" "Datagrams dropped because their client's address is not allowed or is denied.",
        UdpOverClientLimit "udp_over_client_limit" "Datagrams dropped because their client had as many flows as it may have.",
        UdpRateLimited "udp_rate_limited" "Datagrams dropped because too many flows were opened in too short a time.",
        RingPolls "ring_polls" "Poll operations that fired on the ring.",
        ReadyNews "ready_news" "Changes of connections that those operations told of.",
        Turns "turns" "Times a stream gave way to others after moving its share.",
    }
}

statistics! {
    /// Gauges of a worker.
    Level {
        ConnectionsActive "connections_active" "Open client connections.",
        ExchangesActive "exchanges_active" "Requests in progress.",
        TunnelsActive "tunnels_active" "Connections relayed without a look inside: TCP mode, and HTTP after a 101.",
        UdpSessionsActive "udp_sessions_active" "Datagram flows that have a backend.",
        Queued "queued" "Requests and connections that wait for room at a backend.",
        BuffersInUse "buffers_in_use" "Buffers held by connections.",
        PipesInUse "pipes_in_use" "Pipes that hold bytes in flight.",
    }
}

statistics! {
    /// Counters of a backend, per worker.
    BackendCount {
        Picks "picks" "Times it was chosen.",
        Connects "connects" "Connections opened to it.",
        ConnectFailures "connect_failures" "Connections to it that failed.",
        PortsExhausted "ports_exhausted" "Times a local address had no free port for it.",
        Reuses "reuses" "Requests sent on a pooled connection.",
        Responses2xx "responses_2xx" "Its responses with a status of 200 to 299.",
        Responses3xx "responses_3xx" "Its responses with a status of 300 to 399.",
        Responses4xx "responses_4xx" "Its responses with a status of 400 to 499.",
        Responses5xx "responses_5xx" "Its responses with a status of 500 to 599.",
        Resets "resets" "Its connections that died before or inside a response.",
        Timeouts "timeouts" "Its responses that did not begin or go on in time.",
        Malformed "malformed" "Its responses that were not valid HTTP/1.x.",
        Blamed "blamed" "Failures of those that are held against it; the death of a connection that had served before is not.",
        SentBytes "sent_bytes" "Bytes sent to it.",
        ReceivedBytes "received_bytes" "Bytes received from it.",
        Skips "skips" "Times it was set aside after a refused connection.",
    }
}

statistics! {
    /// Gauges of a backend, per worker.
    BackendLevel {
        Active "active" "Exchanges, connections and datagram flows in progress on it.",
        Idle "idle" "Idle pooled connections to it.",
        Skipped "skipped" "1 from a refused connection until the next one that is made.",
    }
}

statistics! {
    /// Why a client's request was refused, each with its own counter.
    Refusal {
        BareLineFeed "bare_line_feed" "A line ended without a carriage return.",
        InvalidRequestLine "invalid_request_line" "The request line has not three parts.",
        InvalidMethod "invalid_method" "The method is not a token.",
        InvalidTarget "invalid_target" "The target is none of the four forms.",
        DotSegment "dot_segment" "The path has a segment that may be read as . or .., and the listener has routes.",
        Userinfo "userinfo" "The target carries user information.",
        InvalidVersion "invalid_version" "The version is not HTTP/1.x in form.",
        UnsupportedVersion "unsupported_version" "The major version is not 1.",
        InvalidHeader "invalid_header" "A header field has an invalid name, value, fold or space before its colon.",
        MissingHost "missing_host" "An HTTP/1.1 request has no Host.",
        RepeatedHost "repeated_host" "The request has more than one Host.",
        InvalidHost "invalid_host" "The Host is not host[:port].",
        InvalidContentLength "invalid_content_length" "A Content-Length is not a number, or two differ.",
        LengthWithTransferEncoding "length_with_transfer_encoding" "Both Content-Length and Transfer-Encoding.",
        UnknownTransferCoding "unknown_transfer_coding" "The transfer coding is not exactly chunked.",
        TransferEncodingInHttp10 "transfer_encoding_in_http10" "Transfer-Encoding in an HTTP/1.0 request.",
        ConnectMethod "connect_method" "CONNECT, which a load balancer does not serve.",
        TraceWithBody "trace_with_body" "TRACE with content.",
        InvalidMaxForwards "invalid_max_forwards" "Max-Forwards is not a number.",
        InvalidConnectionField "invalid_connection_field" "Connection is not a short list of tokens.",
        RequestLineTooLong "request_line_too_long" "The request line exceeds its limit.",
        HeadTooLarge "head_too_large" "The head exceeds its size limit.",
        TooManyHeaders "too_many_headers" "The head has more fields than allowed.",
        HeadTimeout "head_timeout" "The head did not arrive in time.",
        InvalidBody "invalid_body" "The body's chunked framing is invalid.",
        BodyTooLarge "body_too_large" "The body is larger than the listener or the route takes.",
    }
}

impl Refusal {
    /// The status that answers it (RFC 9110 section 15.5 and 15.6).
    pub fn status(self) -> u16 {
        match self {
            Refusal::RequestLineTooLong => 414,
            Refusal::HeadTooLarge | Refusal::TooManyHeaders => 431,
            Refusal::BodyTooLarge => 413,
            Refusal::UnsupportedVersion => 505,
            Refusal::ConnectMethod => 405,
            Refusal::HeadTimeout => 408,
            _ => 400,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_unique_snake_case_with_a_sentence_of_help() {
        let tables: [Vec<(&str, &str)>; 5] = [
            Count::ALL.iter().map(|c| (c.name(), c.help())).collect(),
            Level::ALL.iter().map(|c| (c.name(), c.help())).collect(),
            BackendCount::ALL.iter().map(|c| (c.name(), c.help())).collect(),
            BackendLevel::ALL.iter().map(|c| (c.name(), c.help())).collect(),
            Refusal::ALL.iter().map(|c| (c.name(), c.help())).collect(),
        ];
        for table in tables {
            let names: HashSet<_> = table.iter().map(|row| row.0).collect();
            assert_eq!(names.len(), table.len());
            for (name, help) in table {
                assert!(
                    name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'),
                    "{name}"
                );
                assert!(help.ends_with('.'), "{name}");
            }
        }
    }
}
