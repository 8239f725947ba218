//! Networks that no way leads to: counted as what they are, in every mode, and left alone while others can be reached.

use crate::support::datagram::{DatagramBackend, DatagramClient, udp_options};
use crate::support::kernel::refuse_first;
use crate::support::stats::Stats;
use crate::support::{Backend, Ringway};

/// Everybody on this network, which nobody can connect to.
const NOWHERE: &str = "255.255.255.255:9";

/// Connections that failed, in all and at each backend.
fn failures(stats: &Stats) -> (u64, Vec<u64>) {
    (stats.counter("fault_upstream_connect"), stats.counter_per_backend("connect_failures"))
}

/// Four were told that nobody is there, and nobody but the network was blamed.
fn has_failed_as_it_is(ringway: &Ringway, told: &str) {
    let stats = ringway.wait_quiet();
    let (failed, at_backends) = failures(&stats);
    assert!(failed >= 4 && at_backends == [failed], "{failed}, {at_backends:?}");
    assert_eq!((stats.counter("fault_no_backend"), stats.counter(told)), (4, 4), "{told}");
    assert_eq!((stats.counter("fault_ports_exhausted"), stats.counter("fault_local")), (0, 0));
}

#[test]
fn a_connection_to_nowhere_is_counted_and_its_client_is_told() {
    let ringway = Ringway::options().tcp().json().backend(NOWHERE).start();
    for _ in 0..4 {
        assert_eq!(ringway.client().take_to_end().unwrap(), b"Server is down\n");
    }
    has_failed_as_it_is(&ringway, "tunnels_refused");
}

#[test]
fn a_request_to_nowhere_is_counted_and_answered() {
    let ringway = Ringway::options().json().backend(NOWHERE).start();
    let mut client = ringway.client();
    for _ in 0..4 {
        assert_eq!(client.post("/", b"body").status, 503);
    }
    drop(client);
    has_failed_as_it_is(&ringway, "responses_5xx");
}

#[test]
fn nobody_notices_a_network_that_is_gone_while_another_one_is_there() {
    let alive = Backend::well_behaved("alive");
    let http = Ringway::options().json().backend(NOWHERE).backends(&[&alive]).start();
    for _ in 0..10 {
        assert_eq!(http.client().post("/", b"body").text(), "alive");
    }
    let announcing = Backend::scripted(|connection| connection.say(b"alive"));
    let tcp = Ringway::options().tcp().json().backend(NOWHERE).backends(&[&announcing]).start();
    for _ in 0..10 {
        assert_eq!(tcp.client().take_to_end().unwrap(), b"alive");
    }
    for ringway in [http, tcp] {
        let stats = ringway.wait_quiet();
        let (failed, at_backends) = failures(&stats);
        // Set aside after the first time, for longer than the rest takes.
        assert!((1..10).contains(&failed) && at_backends == [failed, 0], "{failed}, {at_backends:?}");
        assert_eq!((stats.counter("retries_connect"), stats.counter("fault_no_backend")), (failed, 0));
        assert_eq!(stats.counter_per_backend("connects")[0], 0);
    }
}

/// A way that is lost under a flow: what was to be sent goes to another backend.
#[test]
fn a_datagram_that_finds_no_way_is_counted_and_goes_elsewhere() {
    for errno in [libc::ENETUNREACH, libc::EHOSTUNREACH, libc::EACCES] {
        let backends = ["a", "b"].map(DatagramBackend::named);
        let options = udp_options(&backends.each_ref().map(|backend| backend.address));
        let change = |command: &mut _| refuse_first(command, libc::SYS_sendto, &[errno]);
        let ringway = options.command(change).start();
        let heard = DatagramClient::new(ringway.address()).ask(b"x");
        assert!(heard == b"a:x" || heard == b"b:x", "{}", heard.escape_ascii());
        let stats = ringway.stats();
        assert_eq!((stats.counter("udp_unreachable"), stats.counter("udp_refused")), (1, 0), "errno {errno}");
        assert_eq!((stats.counter("retries_connect"), stats.counter("udp_no_backend")), (1, 0));
        let arrived: Vec<_> = backends.iter().map(|backend| backend.arrivals().len()).collect();
        assert_eq!(arrived.iter().sum::<usize>(), 1, "{arrived:?}");
    }
}
