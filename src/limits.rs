//! Every bound of the data path in one place, related to each other by assertions at compile time.
//!
//! A bound that was set by a measurement says which.

use std::time::Duration;

/// Largest request or response head, in bytes; beyond it 431 to a client, 502 for a backend.
pub const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Largest request line, in bytes; beyond it 414.
pub const REQUEST_LINE_BYTES_MAX: usize = 16 * 1024;

/// Most header fields in a head; beyond it 431 to a client, 502 for a backend.
pub const HEADERS_MAX: usize = 100;

/// Header fields that are parsed in one go; a head with more is parsed once more with the full table.
pub const HEADERS_USUAL: usize = 24;

/// Most options in all `Connection` fields of one head.
pub const CONNECTION_OPTIONS_MAX: usize = 16;

/// Free bytes in front of what a buffer receives: a rewritten head grows into them.
pub const HEADROOM_BYTES: usize = 1024;

/// Size of a large pooled buffer: bodies, responses, and the few requests that need it.
pub const BUFFER_BYTES: usize = HEADROOM_BYTES + HEAD_BYTES_MAX;

/// Size of a small pooled buffer: nearly every request head. A request stays in its buffer until its response
/// begins, so these are many and should touch little memory.
pub const SMALL_BUFFER_BYTES: usize = 8 * 1024;

/// Free large buffers a worker keeps; more are given back to the allocator.
pub const BUFFERS_KEPT_MAX: usize = 128;

/// Free small buffers a worker keeps.
pub const SMALL_BUFFERS_KEPT_MAX: usize = 2048;

/// Free places for exchanges a worker keeps.
pub const SLOTS_KEPT_MAX: usize = 2048;

/// Longest chunk-size line with its extensions, in bytes.
pub const CHUNK_LINE_BYTES_MAX: usize = 4 * 1024;

/// Largest trailer section, in bytes.
pub const TRAILER_BYTES_MAX: usize = 16 * 1024;

/// Largest header of the PROXY protocol, in bytes; a connection with a larger one is closed. The addresses take at
/// most 232, the rest is for what we do not read.
pub const PROXY_HEADER_BYTES_MAX: usize = 4 * 1024;

/// Most probes at the same time, if the descriptors allow it. A rack of a thousand silent backends holds up the probes
/// of no others.
pub const PROBES_MAX: usize = 1024;

/// Findings of probes that may wait for control.
pub const FINDINGS_MAX: usize = 1024;

/// What a probe looks through in the body of a response, or of what a script is answered, in bytes.
pub const PROBE_BODY_BYTES_MAX: usize = 64 * 1024;

/// Wanted capacity of a pipe for `splice(2)`: with 64 KiB a MiB costs 1.9 times as much CPU, with 1 MiB 1.1 times
/// (`bench/experiments/pipes`).
pub const PIPE_BYTES: usize = 256 * 1024;

/// Pipes a worker may have in use; streams beyond that are copied. The kernel gives an unprivileged user
/// 64 MiB of pipe pages for everything.
pub const PIPES_MAX: usize = 96;

/// Free pipes a worker keeps.
pub const PIPES_KEPT_MAX: usize = 32;

/// Bytes still to come from which a body is spliced. At 16 KiB neither that nor copying is shown to be cheaper (1.00, 0.85 to
/// 1.51: `bench/experiments/bodies`); a prototype was cheaper splicing it.
pub const SPLICE_BYTES_MIN: u64 = 12 * 1024;

/// Bytes one stream may move before others get their turn.
pub const TURN_BYTES_MAX: u64 = 1024 * 1024;

/// Connections taken from an accept queue in one go.
pub const ACCEPT_BATCH_MAX: usize = 64;

/// So many lone connections in a row are taken without a look for more.
pub const ACCEPT_LONE_MAX: u32 = 8;

/// How long a connection without a byte may stay with the kernel where accepting is deferred, about.
pub const DEFER_ACCEPT_SECONDS: i32 = 3;

/// Finished handshakes a listener may queue (the kernel caps it at `net.core.somaxconn`).
pub const LISTEN_BACKLOG: i32 = 4096;

/// A tunnel's peer that has been silent for so long is asked whether it is still there, and then again and again.
pub const KEEP_ALIVE_IDLE: Duration = Duration::from_secs(60);

/// A tunnel's peer that has acknowledged nothing, or taken nothing of what waits for it, for so long is given up:
/// about as long as the kernel goes on with retransmissions by itself.
pub const DEAD_AFTER: Duration = Duration::from_secs(900);

/// Commands that may wait in a worker's mailbox.
pub const MAILBOX_MAX: usize = 1024;

/// Idle upstream connections a worker keeps for one backend: as many as are in use at once by 4 096 clients.
pub const IDLE_PER_BACKEND_MAX: usize = 4096;

/// Interim (1xx) responses that may come before a final one.
pub const INTERIM_MAX: usize = 32;

/// Exchanges in a row that one connection may have without giving way to others.
pub const EXCHANGES_PER_TURN_MAX: u32 = 32;

/// Clients a cluster can remember by their addresses, at 8 bytes each.
pub const AFFINITY_CLIENTS: usize = 256 * 1024;

/// Attempts one request may be allowed.
pub const ATTEMPTS_MAX: usize = 16;

/// Attempts a request has unless the operator says otherwise.
pub const ATTEMPTS_USUAL: usize = 3;

/// The time over which retries are compared with requests.
pub const RETRY_WINDOW: Duration = Duration::from_secs(10);

/// Requests and connections that may wait for room in one cluster, on all workers together.
pub const QUEUE_MAX: usize = 64 * 1024;

/// While somebody waits for room, its worker looks for some as often as this, whether or not a bell has rung: it may
/// have rung for a worker that could not use what was there.
pub const QUEUE_LOOK: Duration = Duration::from_millis(50);

/// Sticky cookies of one name that are looked at in one request.
pub const PINS_PER_REQUEST_MAX: usize = 8;

/// Clients whose addresses a cluster remembers, unless the operator says otherwise: 8 bytes each.
pub const AFFINITY_CLIENTS_MAX: usize = 128 * 1024;

/// Clients that one table of connections or rates has room for, at 8 bytes each.
pub const ADMISSION_CLIENTS_MAX: usize = 128 * 1024;

/// Places of all such tables together: when there are many, each has fewer.
pub const ADMISSION_PLACES_MAX: usize = 8 * 1024 * 1024;

/// Bytes thrown away after our last word to a client, so that the close does not destroy it.
pub const LINGER_BYTES_MAX: u64 = 1024 * 1024;

/// Connections whose news are taken by one look at the set they wait in; the others come first the next time.
pub const READY_EVENTS_MAX: usize = 256;

/// Datagram flows of one worker, all its listeners together; beyond it the one that was silent longest is forgotten.
/// Each takes a descriptor and a local port, of which a host has some 28 000 for each of its addresses.
pub const UDP_SESSIONS_MAX: usize = 8192;

/// Messages received or sent by one call: the price of a call is spread well enough over so many.
pub const UDP_BATCH_MAX: usize = 32;

/// Replies taken from one flow before others get their turn.
pub const UDP_BURST_MAX: usize = 16;

/// Flows (and the listener) that are served between two looks at everything else.
pub const UDP_EVENTS_MAX: usize = 64;

/// What a datagram weighs beside its bytes when the share of a turn is measured: some 250 small ones are a turn.
pub const UDP_WEIGHT_BYTES: u64 = 4096;

/// Largest datagram that is kept until its flow's first answer, so that it can be sent to another backend: what fits
/// an Ethernet frame.
pub const UDP_OPENING_BYTES_MAX: usize = 1472;

/// Wanted size of a datagram listener's queues; the kernel's default holds fewer than 300 small datagrams.
pub const UDP_QUEUE_BYTES: usize = 4 * 1024 * 1024;

/// While shutting down, a datagram flow ends when it has been silent for so long.
pub const UDP_DRAIN_SILENCE: Duration = Duration::from_secs(1);

/// A flow whose backend has not refused it for so long shows that somebody receives there, though nobody may ever answer.
pub const UDP_PROOF: Duration = Duration::from_secs(1);

/// Listeners of a configuration.
pub const LISTENERS_MAX: usize = 256;

/// Routes of a configuration.
pub const ROUTES_MAX: usize = 64 * 1024;

/// Clusters of a configuration.
pub const CLUSTERS_MAX: usize = 1024;

/// Backends of all clusters together: each worker keeps state for each of them.
pub const BACKENDS_MAX: usize = 16 * 1024;

/// Largest body of an answer that stands in the configuration, in bytes.
pub const FIXED_BODY_BYTES_MAX: usize = 32 * 1024;

/// Largest configuration file, in bytes.
pub const CONFIGURATION_BYTES_MAX: u64 = 4 * 1024 * 1024;

const _: () = assert!(FIXED_BODY_BYTES_MAX < BUFFER_BYTES - HEADROOM_BYTES);
const _: () = assert!(ATTEMPTS_USUAL <= ATTEMPTS_MAX);
const _: () = assert!(HEADERS_USUAL < HEADERS_MAX);
const _: () = assert!(ADMISSION_PLACES_MAX / (ROUTES_MAX + 2 * LISTENERS_MAX) >= 64);
const _: () = assert!(REQUEST_LINE_BYTES_MAX < HEAD_BYTES_MAX);
const _: () = assert!(HEADROOM_BYTES < SMALL_BUFFER_BYTES && SMALL_BUFFER_BYTES < BUFFER_BYTES);
const _: () = assert!(PROXY_HEADER_BYTES_MAX < SMALL_BUFFER_BYTES - HEADROOM_BYTES);
const _: () = assert!(CHUNK_LINE_BYTES_MAX < BUFFER_BYTES - HEADROOM_BYTES);
const _: () = assert!(TRAILER_BYTES_MAX < BUFFER_BYTES - HEADROOM_BYTES);
const _: () = assert!(UDP_BURST_MAX < UDP_BATCH_MAX);
const _: () = assert!(PIPES_KEPT_MAX <= PIPES_MAX);
const _: () = assert!(PIPE_BYTES.is_power_of_two());
