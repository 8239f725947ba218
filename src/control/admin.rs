//! The admin HTTP server: what an operator, a probe or Prometheus may ask. It changes nothing.
//!
//! Runs on the control thread, on axum. It serves few and small answers, so each connection carries one exchange
//! and lives for [`bounded`] time; nobody who connects here can hold up a worker.

mod bounded;

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use axum::{
    Json, Router,
    extract::State,
    http::{
        HeaderValue, StatusCode,
        header::{CONNECTION, CONTENT_TYPE},
    },
    middleware,
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::{Map, Value, json};

use self::bounded::{Bounded, Bounds};
use super::metrics;
use crate::{
    addr::Endpoint,
    config::plan::{BackendPlan, ClusterPlan},
    stats::{probes::Chart, report::Report, view::View},
};

/// Connections beyond this wait in the accept queue; each lives ten seconds at most, so the queue moves.
const BOUNDS: Bounds = Bounds { connections: 64, lifetime: Duration::from_secs(10) };

const INDEX: &str = "ringway admin\n\n\
    /metrics  OpenMetrics text for Prometheus\n\
    /stats    every number per worker and in total, JSON\n\
    /config   the effective configuration, JSON\n\
    /healthz  200 while the process lives\n\
    /readyz   200 while it takes new work, 503 while it drains\n";

/// What the answers are made from.
pub struct Admin {
    /// A reload replaces it.
    shown: RwLock<Arc<Shown>>,
    /// What probes found.
    pub probes: Arc<Chart>,
    /// True from the first signal to stop.
    pub draining: AtomicBool,
}

/// What is shown of a plan in force.
#[derive(Debug)]
pub struct Shown {
    /// The plan and everybody's numbers.
    pub view: View,
    /// Where the plan's listeners are really bound, in their order.
    pub listeners: Vec<Endpoint>,
    /// The configuration the plan was made from, as `config::Checked::to_json` shows it.
    pub effective: Value,
}

impl Admin {
    /// Shows this until [`Self::show`].
    pub fn new(shown: Shown) -> Self {
        let shown = RwLock::new(Arc::new(shown));
        Admin { shown, probes: Arc::default(), draining: AtomicBool::new(false) }
    }

    /// What is in force now.
    pub fn shown(&self) -> Arc<Shown> {
        Arc::clone(&self.shown.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Shows something else from now on.
    pub fn show(&self, shown: Shown) {
        *self.shown.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(shown);
    }

    /// Everybody's numbers now.
    pub fn report(&self) -> Report {
        Report::collect(&self.shown().view).with_probes(self.probes.figures())
    }

    fn config(&self) -> Value {
        config(&self.shown())
    }
}

/// Opens the admin's socket, ready for [`serve`].
pub fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Answers until it is dropped; fails only if tokio cannot take the socket.
pub async fn serve(listener: std::net::TcpListener, admin: Arc<Admin>) -> io::Result<()> {
    serve_within(BOUNDS, listener, admin).await
}

async fn serve_within(bounds: Bounds, listener: std::net::TcpListener, admin: Arc<Admin>) -> io::Result<()> {
    let listener = Bounded::new(tokio::net::TcpListener::from_std(listener)?, bounds);
    axum::serve(listener, router(admin)).await
}

fn router(admin: Arc<Admin>) -> Router {
    Router::new()
        .route("/", get(INDEX))
        .route("/metrics", get(show_metrics))
        .route("/stats", get(async |State(admin): State<Arc<Admin>>| Json(admin.report().to_json())))
        .route("/config", get(async |State(admin): State<Arc<Admin>>| Json(admin.config())))
        .route("/healthz", get("ok"))
        .route("/readyz", get(ready))
        .fallback(async || (StatusCode::NOT_FOUND, "not found; / lists what there is\n"))
        .layer(middleware::map_response(close_after))
        .with_state(admin)
}

/// One exchange per connection: then no idle one can take the place of one that asks.
async fn close_after(mut response: Response) -> Response {
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

async fn show_metrics(State(admin): State<Arc<Admin>>) -> Response {
    match metrics::encode(admin.report()) {
        Ok(text) => ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn ready(State(admin): State<Arc<Admin>>) -> (StatusCode, &'static str) {
    if admin.draining.load(Relaxed) {
        (StatusCode::SERVICE_UNAVAILABLE, "draining")
    } else {
        (StatusCode::OK, "ready")
    }
}

/// The effective configuration in the words of the file, with the addresses that are really in use beside it.
fn config(shown: &Shown) -> Value {
    let mut config = shown.effective.clone();
    let plan = &shown.view.plan;
    let cluster = |cluster: &ClusterPlan| {
        let backend = |backend: &BackendPlan| (backend.name.to_string(), json!(backend.endpoints));
        let backends: Map<String, Value> = cluster.backends.iter().map(backend).collect();
        (cluster.name.to_string(), Value::Object(backends))
    };
    let listeners = plan.listeners.iter().zip(&shown.listeners);
    let listeners: Map<String, Value> =
        listeners.map(|(listener, bound)| (listener.name.to_string(), json!(bound))).collect();
    let clusters: Map<String, Value> = plan.clusters.iter().map(cluster).collect();
    if let Some(config) = config.as_object_mut() {
        config.insert(
            "in_use".to_owned(),
            json!({ "listeners": listeners, "backends": clusters, "cores": plan.cores }),
        );
    }
    config
}

#[cfg(test)]
mod tests;
