//! A backend that keeps its answers back until the test lets them go.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};

use super::Backend;

/// A backend that holds answers to `/held` until the test lets them go.
pub(crate) struct Holding {
    pub(crate) backend: Backend,
    pub(crate) asked: Receiver<()>,
    pub(crate) release: Sender<()>,
}

impl Holding {
    pub(crate) fn start() -> Self {
        Self::with_content("done")
    }

    /// As [`Holding::start`], with this content in each response.
    pub(crate) fn with_content(content: &str) -> Self {
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{content}", content.len());
        let (asked_here, asked) = channel();
        let (release, released) = channel::<()>();
        let released = Mutex::new(released);
        let backend = Backend::scripted(move |connection| {
            while let Some(request) = connection.request() {
                if request.target() == "/held" {
                    asked_here.send(()).unwrap();
                    // An error means that the test is over.
                    let _over = released.lock().unwrap().recv();
                }
                connection.say(answer.as_bytes());
            }
        });
        Self { backend, asked, release }
    }
}
