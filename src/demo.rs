//! `ringway demo`: three small backends to look at the balancer with.
//!
//! Owns their sockets and their thread. Never listens on anything but loopback. Everything runs on one
//! thread of its own with a tokio runtime: not on a worker, whose work it would disturb, and not on the
//! control thread.

use std::{
    convert::Infallible,
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    pin::Pin,
    sync::mpsc,
    task::{Context, Poll, ready},
    thread::{self, JoinHandle},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Request, State},
    http::{HeaderMap, Uri, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::{any, post},
};
use http_body::Frame;
use tokio::{sync::oneshot, time::Interval};

/// How many backends a demo has.
const BACKEND_COUNT: usize = 3;
/// Time between two lines of `/stream`, and half of what `/slow` takes.
const PACE: Duration = Duration::from_secs(1);
/// Lines of `/stream`.
const STREAM_LINES: u32 = 5;

/// The running backends; they end when this is dropped.
#[derive(Debug)]
pub struct DemoBackends {
    addresses: Vec<SocketAddr>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl DemoBackends {
    /// Where they listen, by their number.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }
}

impl Drop for DemoBackends {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // A panic over there has been reported by its own thread.
            let _ = thread.join();
        }
    }
}

/// Starts the backends on free loopback ports; they accept connections when this returns.
pub fn start() -> io::Result<DemoBackends> {
    start_with(PACE)
}

fn start_with(pace: Duration) -> io::Result<DemoBackends> {
    let mut listeners = Vec::with_capacity(BACKEND_COUNT);
    let mut addresses = Vec::with_capacity(BACKEND_COUNT);
    for _ in 0..BACKEND_COUNT {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        addresses.push(listener.local_addr()?);
        listeners.push(listener);
    }
    let (stop, stopped) = oneshot::channel();
    let (report, started) = mpsc::channel();
    let thread = thread::Builder::new().name("demo-backends".into()).spawn(move || {
        // The runtime is built here because a caller inside another one could not drop it.
        let served = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let served = served.and_then(|runtime| runtime.block_on(serve(listeners, pace, &report, stopped)));
        // Nobody listens after a start that went well.
        let _ = report.send(served);
    })?;
    let backends = DemoBackends { addresses, stop: Some(stop), thread: Some(thread) };
    started.recv().map_err(io::Error::other)??;
    Ok(backends)
}

async fn serve(
    listeners: Vec<TcpListener>,
    pace: Duration,
    report: &mpsc::Sender<io::Result<()>>,
    stopped: oneshot::Receiver<()>,
) -> io::Result<()> {
    for (index, listener) in listeners.into_iter().enumerate() {
        let backend = DemoBackend { number: index.saturating_add(1), address: listener.local_addr()?, pace };
        let listener = tokio::net::TcpListener::from_std(listener)?;
        tokio::spawn(axum::serve(listener, router(backend)).into_future());
    }
    let _ = report.send(Ok(()));
    // Ends with an error when the sender is dropped, which is the signal.
    let _ = stopped.await;
    Ok(())
}

#[derive(Debug, Clone, Copy)]
struct DemoBackend {
    number: usize,
    address: SocketAddr,
    pace: Duration,
}

fn router(backend: DemoBackend) -> Router {
    Router::new()
        .route("/slow", any(slow))
        .route("/stream", any(stream))
        .route("/echo", post(echo))
        .fallback(hello)
        .with_state(backend)
}

async fn hello(State(backend): State<DemoBackend>, uri: Uri, headers: HeaderMap) -> String {
    let client = headers.get("x-forwarded-for").and_then(|value| value.to_str().ok()).unwrap_or("nobody");
    let DemoBackend { number, address, .. } = backend;
    format!("hello from backend {number} ({address})\npath: {uri}\nforwarded for: {client}\n")
}

async fn slow(State(backend): State<DemoBackend>) -> String {
    tokio::time::sleep(backend.pace.saturating_mul(2)).await;
    format!("slow hello from backend {} ({})\n", backend.number, backend.address)
}

async fn stream(State(backend): State<DemoBackend>) -> Response {
    let lines = Lines { backend, sent: 0, interval: tokio::time::interval(backend.pace) };
    ([(CONTENT_TYPE, "text/plain; charset=utf-8")], Body::new(lines)).into_response()
}

async fn echo(request: Request) -> Response {
    let (head, body) = request.into_parts();
    let mut response = Response::new(body);
    if let Some(kind) = head.headers.get(CONTENT_TYPE) {
        response.headers_mut().insert(CONTENT_TYPE, kind.clone());
    }
    response
}

/// The body of `/stream`: a line at each tick, the first one at once.
struct Lines {
    backend: DemoBackend,
    sent: u32,
    interval: Interval,
}

impl http_body::Body for Lines {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.sent >= STREAM_LINES {
            return Poll::Ready(None);
        }
        ready!(self.interval.poll_tick(context));
        self.sent = self.sent.saturating_add(1);
        let line = format!("line {} of {STREAM_LINES} from backend {}\n", self.sent, self.backend.number);
        Poll::Ready(Some(Ok(Frame::data(line.into()))))
    }
}

/// What to try, for a balancer on `listen` that is process `pid`.
pub fn hints(listen: SocketAddr, admin: Option<SocketAddr>, pid: u32) -> String {
    let base = authority(listen);
    let mut hints = vec![
        (format!("curl {base}"), "each time another backend"),
        (format!("curl {base}/slow"), "an answer after 2 s"),
        (format!("curl -N {base}/stream"), "a line each second, as it is written"),
        (format!("curl {base}/echo -d hello"), "the body comes back"),
        (format!("kill -USR1 {pid}"), "statistics per worker, printed here"),
    ];
    if let Some(admin) = admin {
        hints.push((format!("curl {}/metrics", authority(admin)), "the same for Prometheus"));
    }
    hints.push(("Ctrl-C".to_owned(), "graceful end"));
    let width = hints.iter().map(|(command, _)| command.len()).max().unwrap_or_default();
    let mut text = "Try, in another terminal:\n".to_owned();
    for (command, effect) in hints {
        text.push_str(&format!("  {command:width$}   {effect}\n"));
    }
    text
}

/// What to type to reach a listener from this host.
fn authority(listen: SocketAddr) -> String {
    if listen.ip().is_unspecified() {
        format!("localhost:{}", listen.port())
    } else if listen.is_ipv6() {
        // In quotes: some shells see a pattern in brackets.
        format!("'http://{listen}'")
    } else {
        listen.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HURRY: Duration = Duration::from_millis(1);

    /// Sends a request and reads to the end of the connection.
    fn exchange(address: SocketAddr, request: &str) -> String {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let stream = tokio::net::TcpStream::connect(address).await.unwrap();
            let mut request = request.as_bytes();
            while !request.is_empty() {
                stream.writable().await.unwrap();
                match stream.try_write(request) {
                    Ok(count) => request = &request[count..],
                    Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
                }
            }
            let mut answer = Vec::new();
            loop {
                stream.readable().await.unwrap();
                let mut buffer = [0; 4096];
                match stream.try_read(&mut buffer) {
                    Ok(0) => return String::from_utf8(answer).unwrap(),
                    Ok(count) => answer.extend_from_slice(&buffer[..count]),
                    Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
                }
            }
        })
    }

    fn get(address: SocketAddr, path: &str) -> String {
        exchange(
            address,
            &format!(
                "GET {path} HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 10.0.0.7\r\nConnection: close\r\n\r\n"
            ),
        )
    }

    #[test]
    fn each_backend_says_who_it_is() {
        let demo = start_with(HURRY).unwrap();
        assert_eq!(demo.addresses().len(), BACKEND_COUNT);
        for (index, &address) in demo.addresses().iter().enumerate() {
            assert!(address.ip().is_loopback());
            let answer = get(address, "/some/where?x=1");
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            let number = index + 1;
            let body = format!(
                "hello from backend {number} ({address})\npath: /some/where?x=1\nforwarded for: 10.0.0.7\n"
            );
            assert!(answer.ends_with(&body), "{answer}");
        }
    }

    #[test]
    fn slow_stream_and_echo_answer() {
        let demo = start_with(HURRY).unwrap();
        let address = demo.addresses()[1];
        assert!(get(address, "/slow").contains("slow hello from backend 2"));
        let streamed = get(address, "/stream");
        assert!(streamed.contains("transfer-encoding: chunked"), "{streamed}");
        assert!(streamed.contains("line 1 of 5") && streamed.contains("line 5 of 5"), "{streamed}");
        let echoed = exchange(
            address,
            "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Type: a/b\r\n\
             Connection: close\r\n\r\nhello",
        );
        assert!(echoed.contains("content-type: a/b") && echoed.ends_with("\r\n\r\nhello"), "{echoed}");
        assert!(get(address, "/echo").starts_with("HTTP/1.1 405"));
    }

    #[test]
    fn dropping_frees_the_ports() {
        let demo = start_with(HURRY).unwrap();
        let address = demo.addresses()[0];
        drop(demo);
        TcpListener::bind(address).unwrap();
    }

    #[test]
    fn hints_can_be_typed_as_they_are() {
        let text = hints("0.0.0.0:3030".parse().unwrap(), None, 42);
        assert!(text.contains("curl localhost:3030/slow ") && text.contains("kill -USR1 42 "), "{text}");
        assert!(text.contains("Ctrl-C") && !text.contains("metrics"), "{text}");
        let admin = Some("127.0.0.1:9".parse().unwrap());
        let text = hints("[::1]:80".parse().unwrap(), admin, 42);
        assert!(text.contains("'http://[::1]:80'/stream"), "{text}");
        assert!(text.contains("curl 127.0.0.1:9/metrics"), "{text}");
    }
}
