//! Few long-lived connections are spread over the workers, though the kernel's hash would not.

use crate::support::kernel::allowed_cores;
use crate::support::stats::Stats;
use crate::support::{Acceptor, Backend, Client, Directory, Ringway};

const CONNECTIONS: usize = 8;

#[test]
fn no_worker_gets_most_of_a_few_long_connections() {
    if allowed_cores().len() < 2 {
        eprintln!("there is only one core, and so nothing to spread");
        return;
    }
    let backend = Backend::well_behaved("a");
    let ringway = Ringway::options().backends(&[&backend]).cores(2).json().start();
    for round in 0..10 {
        let mut clients: Vec<Client> = Vec::new();
        for _ in 0..CONNECTIONS {
            let mut client = ringway.client();
            assert_eq!(client.get("/").status, 200);
            clients.push(client);
        }
        let all = |stats: &Stats| stats.gauge("connections_active") == CONNECTIONS as u64;
        let spread = ringway.wait_stats("all connections", all).gauge_per_worker("connections_active");
        assert_eq!(spread.len(), 2);
        assert!(spread.iter().all(|&count| count <= 5), "round {round}: {spread:?}");
        // Wherever they are, they go on.
        for client in &mut clients {
            assert_eq!(client.get("/").status, 200);
        }
        drop(clients);
        ringway.wait_quiet();
    }
}

#[test]
fn the_number_of_threads_never_changes() {
    let backend = Backend::echoing();
    let ringway = Ringway::options().backends(&[&backend]).cores(2).json().start();
    assert_eq!(ringway.get("/").status, 200);
    let threads = ringway.threads();
    let mut clients: Vec<_> = (0..100).map(|_| ringway.client()).collect();
    let body = vec![b'x'; 100_000];
    for client in &mut clients {
        assert_eq!(client.post("/", &body).body.len(), body.len());
        assert_eq!(ringway.threads(), threads);
    }
    drop(clients);
    ringway.wait_quiet();
    assert_eq!(ringway.threads(), threads);
}

/// Opens long connections in TCP mode on two workers, ten times; how many each worker has must do.
fn spread_tunnels(place: &str, fair: impl Fn(&[u64]) -> bool) {
    let acceptor = Acceptor::new();
    let options = Ringway::options().tcp().backend(&acceptor.place).cores(2).json();
    let ringway = options.listen(place).start();
    for round in 0..10 {
        let mut tunnels: Vec<_> = (0..CONNECTIONS).map(|_| acceptor.tunnel(&ringway)).collect();
        let all = |stats: &Stats| stats.gauge("tunnels_active") == CONNECTIONS as u64;
        let spread = ringway.wait_stats("all tunnels", all).gauge_per_worker("tunnels_active");
        assert_eq!(spread.len(), 2);
        assert!(fair(&spread), "round {round}: {spread:?}");
        for (client, backend) in &mut tunnels {
            client.send(b"ping").unwrap();
            assert_eq!(backend.take_exactly(4).unwrap(), b"ping");
        }
        drop(tunnels);
        ringway.wait_quiet();
    }
}

#[test]
fn no_worker_gets_most_of_a_few_long_tunnels() {
    if allowed_cores().len() < 2 {
        eprintln!("there is only one core, and so nothing to spread");
        return;
    }
    spread_tunnels("127.0.0.1:0", |spread| spread.iter().all(|&count| count <= 5));
    // One worker accepts for all, and has no hash to follow.
    let directory = Directory::new();
    spread_tunnels(&directory.socket("listener"), |spread| spread == [4, 4]);
}
