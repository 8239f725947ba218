//! Reports: the backends of a worker that control is to hear of, sent in batches.
//!
//! A backend that has news stands here once, however much happens to it, so a storm of failures costs a worker as much as
//! a few. What a full queue does not take is kept and told later.

use std::{
    cell::RefCell,
    future::poll_fn,
    rc::Rc,
    task::{Poll, Waker},
};

use super::backend::Backend;
use crate::health::standing::Observation;

/// Who has news.
#[derive(Default)]
pub struct Reports {
    pending: RefCell<Vec<Rc<Backend>>>,
    waker: RefCell<Option<Waker>>,
}

impl Reports {
    /// A backend has news.
    pub fn add(&self, backend: &Rc<Backend>) {
        if !backend.is_reported() {
            backend.set_reported(true);
            self.pending.borrow_mut().push(Rc::clone(backend));
            if let Some(waker) = self.waker.take() {
                waker.wake();
            }
        }
    }

    /// Waits until somebody has news.
    pub async fn wait(&self) {
        poll_fn(|cx| {
            if !self.pending.borrow().is_empty() {
                return Poll::Ready(());
            }
            self.waker.replace(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await;
    }

    /// Takes all news to tell them; `send` says whether they could be.
    pub fn flush(&self, send: impl FnOnce(Vec<Observation>) -> bool) {
        let backends = self.pending.take();
        let mut told = Vec::with_capacity(backends.len());
        let mut batch = Vec::with_capacity(backends.len());
        for backend in backends {
            backend.set_reported(false);
            let mut record = backend.record();
            // Who has left its cluster is nobody's concern.
            if let (Some(news), Some((cluster, index))) = (record.take_news(), backend.place()) {
                batch.push(Observation {
                    cluster,
                    backend: index,
                    failures: news.failures,
                    failure: news.failure,
                    succeeded: news.succeeded,
                    trial: news.trial,
                });
                told.push((Rc::clone(&backend), news));
            }
            backend.set_record(record);
        }
        if batch.is_empty() || send(batch) {
            return;
        }
        for (backend, news) in told {
            let mut record = backend.record();
            record.put_back(news);
            backend.set_record(record);
            self.add(&backend);
        }
    }
}
