//! Black-box tests: they start the real binary, put misbehaving peers around it and look at it from outside only.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "these are tests, and their helpers: they stop at the first surprise, and their threads may block"
)]

mod support;

mod aborts;
mod admission;
mod affinity;
mod algorithms;
mod algorithms_keyed;
mod algorithms_workers;
mod answers;
mod basics;
mod bodies;
mod bodies_refused;
mod bounded_load;
mod command_line;
mod configuration;
mod counters;
mod crossing;
mod deadlines;
mod deferred;
mod demo;
mod departures;
mod descriptor_tables;
mod desync;
mod doctor;
mod draining;
mod economy;
mod failures;
mod failures_clients;
mod flapping;
mod health;
mod interim;
mod kernel_limits;
mod limits;
mod lookups;
mod malformed;
mod membership;
mod membership_modes;
mod mutations;
mod panics;
mod pipelining;
mod pool;
mod probe_kinds;
mod probe_times;
mod probes;
mod proxy_protocol;
mod proxy_protocol_clients;
mod proxy_protocol_http;
mod queue;
mod queue_turns;
mod queue_workers;
mod rates;
mod request_sizes;
mod requests_accepted;
mod requests_forwarded;
mod requests_refused;
mod requirements;
mod responses_forwarded;
mod responses_refused;
mod retries;
mod route_actions;
mod routing;
mod signals;
mod slow_start;
mod sockets;
mod sources;
mod splicing;
mod spreading;
mod stale;
mod sticky;
mod stillness;
mod stopped;
mod streaming;
mod tables;
mod tcp;
mod tcp_endings;
mod tcp_scale;
mod tcp_streams;
mod tuning;
mod udp;
mod udp_failures;
mod udp_health;
mod unix_sockets;
mod unreachable;
mod unresolved;
mod upgrade;
mod upstreams;
mod workers;
mod yielding;
