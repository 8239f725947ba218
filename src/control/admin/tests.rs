//! The admin over real sockets.

use std::{future::Future, io::ErrorKind};

use tokio::net::TcpStream;

use super::*;
use crate::stats::report::tests::two_workers;

fn admin() -> Arc<Admin> {
    let view = two_workers();
    let listeners = vec![SocketAddr::from(([127, 0, 0, 1], 43211)).into()];
    let effective = json!({ "listener": [{ "name": "default", "bind": "127.0.0.1:0" }] });
    Arc::new(Admin::new(Shown { view, listeners, effective }))
}

/// Runs a client against a server on a free port.
fn with_server<F: Future<Output = ()>>(
    bounds: Bounds,
    admin: Arc<Admin>,
    client: impl FnOnce(SocketAddr) -> F,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(serve_within(bounds, listener, admin));
        client(address).await;
        assert!(!server.is_finished());
    });
}

/// Sends as much as the server takes before it closes.
async fn send(stream: &TcpStream, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        stream.writable().await.unwrap();
        match stream.try_write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => {
                assert!(
                    matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe),
                    "{error}"
                );
                return;
            }
        }
    }
}

/// All until the server closes, be it with a reset.
async fn receive(stream: &TcpStream) -> String {
    let (mut all, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        stream.readable().await.unwrap();
        match stream.try_read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => all.extend_from_slice(&chunk[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::ConnectionReset);
                break;
            }
        }
    }
    String::from_utf8(all).unwrap()
}

/// The status, head and body of the answer.
async fn ask(address: SocketAddr, method: &str, path: &str) -> (u16, String, String) {
    let stream = TcpStream::connect(address).await.unwrap();
    send(&stream, format!("{method} {path} HTTP/1.1\r\nHost: admin\r\n\r\n").as_bytes()).await;
    let answer = receive(&stream).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head.to_ascii_lowercase(), body.to_owned())
}

#[test]
fn every_path_answers() {
    with_server(BOUNDS, admin(), async |address| {
        let (status, head, body) = ask(address, "GET", "/metrics").await;
        assert_eq!(status, 200);
        assert!(head.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"));
        assert!(head.contains("connection: close"));
        assert!(body.contains("\nringway_requests_total{worker=\"1\"} 234\n") && body.ends_with("# EOF\n"));

        let (status, head, body) = ask(address, "GET", "/stats").await;
        assert_eq!(status, 200);
        assert!(head.contains("content-type: application/json"));
        let stats: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(stats["stats"]["total"]["counters"]["requests"], 1_234);

        assert_eq!(ask(address, "GET", "/healthz").await.2, "ok");
        assert!(ask(address, "GET", "/").await.2.contains("/metrics"));
        assert_eq!(ask(address, "GET", "/nowhere").await.0, 404);
        assert_eq!(ask(address, "GET", "/stats/").await.0, 404);
    });
}

#[test]
fn only_get_and_head_are_served() {
    with_server(BOUNDS, admin(), async |address| {
        let (status, head, body) = ask(address, "HEAD", "/stats").await;
        assert_eq!((status, body.as_str()), (200, ""));
        assert!(head.contains("content-length: "));
        for method in ["POST", "PUT", "DELETE"] {
            let (status, head, _) = ask(address, method, "/config").await;
            assert_eq!(status, 405);
            assert!(head.contains("allow: get,head"));
        }
    });
}

#[test]
fn readiness_ends_with_draining() {
    let admin = admin();
    with_server(BOUNDS, Arc::clone(&admin), async |address| {
        let (status, _, body) = ask(address, "GET", "/readyz").await;
        assert_eq!((status, body.as_str()), (200, "ready"));
        admin.draining.store(true, Relaxed);
        let (status, _, body) = ask(address, "GET", "/readyz").await;
        assert_eq!((status, body.as_str()), (503, "draining"));
        assert_eq!(ask(address, "GET", "/healthz").await.0, 200);
    });
}

#[test]
fn the_effective_configuration_is_shown() {
    with_server(BOUNDS, admin(), async |address| {
        let (status, _, body) = ask(address, "GET", "/config").await;
        assert_eq!(status, 200);
        let config: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(config["listener"], json!([{ "name": "default", "bind": "127.0.0.1:0" }]));
        assert_eq!(config["in_use"]["listeners"], json!({ "default": "127.0.0.1:43211" }));
        assert_eq!(config["in_use"]["backends"]["default"]["127.0.0.1:3032"], json!(["127.0.0.1:3032"]));
        assert_eq!(config["in_use"]["cores"], json!([2, 5]));
    });
}

#[test]
fn silent_and_slow_clients_are_cut_and_make_room() {
    let bounds = Bounds { connections: 2, lifetime: Duration::from_millis(50) };
    with_server(bounds, admin(), async |address| {
        let silent = TcpStream::connect(address).await.unwrap();
        let slow = TcpStream::connect(address).await.unwrap();
        send(&slow, b"GET /stats HTTP/1.1\r\nHos").await;
        // Both places are taken: this one waits until their time is over.
        assert_eq!(ask(address, "GET", "/healthz").await.0, 200);
        assert_eq!(receive(&silent).await, "");
        assert_eq!(receive(&slow).await, "");
    });
}

#[test]
fn garbage_is_refused_and_the_next_client_is_served() {
    with_server(BOUNDS, admin(), async |address| {
        for garbage in [&b"\x16\x03\x01\x02\x00\x01\x00\xfc\r\n\r\n"[..], b"GET\r\n\r\n", &[0xff; 64]] {
            let stream = TcpStream::connect(address).await.unwrap();
            send(&stream, garbage).await;
            let answer = receive(&stream).await;
            assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{answer}");
        }
        let endless = TcpStream::connect(address).await.unwrap();
        send(&endless, b"GET / HTTP/1.1\r\nHost: admin\r\nX: ").await;
        send(&endless, &vec![b'a'; 600 * 1024]).await;
        let answer = receive(&endless).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
        assert_eq!(ask(address, "GET", "/healthz").await.0, 200);
    });
}
