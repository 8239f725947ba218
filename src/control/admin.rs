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
use serde_json::{Value, json};

use self::bounded::{Bounded, Bounds};
use super::metrics;
use crate::{
    addr::Endpoint,
    config::plan::{BackendPlan, ClusterPlan, HeaderPolicy, ListenerPlan, Mode, Plan, Timeouts},
    proxy_protocol::Version,
    stats::{report::Report, view::View},
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
}

impl Admin {
    /// Shows this until [`Self::show`].
    pub fn new(shown: Shown) -> Self {
        Admin { shown: RwLock::new(Arc::new(shown)), draining: AtomicBool::new(false) }
    }

    /// What is in force now.
    pub fn shown(&self) -> Arc<Shown> {
        Arc::clone(&self.shown.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Shows something else from now on.
    pub fn show(&self, shown: Shown) {
        *self.shown.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(shown);
    }

    fn report(&self) -> Report {
        Report::collect(&self.shown().view)
    }

    fn config(&self) -> Value {
        let shown = self.shown();
        config(&shown.view.plan, &shown.listeners)
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

/// The plan with the addresses that are really in use. Nothing in a plan is secret.
///
/// The structures are taken apart whole, so that the compiler asks for whatever is added to them.
fn config(plan: &Plan, bound: &[Endpoint]) -> Value {
    let Plan { listeners, clusters, cores, admin, timeouts, headers, .. } = plan;
    let Timeouts {
        head,
        client_idle,
        upstream_idle,
        connect,
        response,
        body_idle,
        tunnel_idle,
        udp_idle,
        shutdown,
    } = *timeouts;
    let HeaderPolicy { via, trust_forwarded } = *headers;
    let listener = |(index, listener): (usize, &ListenerPlan)| {
        let ListenerPlan { name, endpoint, socket_mode, mode, cluster, proxy_from, down_text, .. } = listener;
        json!({
            "name": &**name,
            "address": bound.get(index).unwrap_or(endpoint),
            "socket_mode": endpoint.inet().is_none().then(|| format!("{socket_mode:o}")),
            "mode": mode.name(),
            "cluster": cluster.and_then(|cluster| clusters.get(cluster)).map(|cluster| &*cluster.name),
            "proxy_from": proxy_from.to_string(),
            "down_text": (*mode == Mode::Tcp).then_some(&**down_text),
        })
    };
    json!({
        "listeners": listeners.iter().enumerate().map(listener).collect::<Vec<_>>(),
        "clusters": clusters.iter().map(cluster_config).collect::<Vec<_>>(),
        "cores": cores,
        "admin": admin,
        "timeouts": {
            "head": duration(head),
            "client_idle": duration(client_idle),
            "upstream_idle": duration(upstream_idle),
            "connect": duration(connect),
            "response": duration(response),
            "body_idle": duration(body_idle),
            "tunnel_idle": duration(tunnel_idle),
            "udp_idle": duration(udp_idle),
            "shutdown": duration(shutdown),
        },
        "headers": { "via": via, "trust_forwarded": trust_forwarded },
    })
}

fn cluster_config(cluster: &ClusterPlan) -> Value {
    let ClusterPlan { name, algorithm, backends, send_proxy, sources, .. } = cluster;
    let backend = |backend: &BackendPlan| {
        let BackendPlan { name, endpoints, weight, .. } = backend;
        json!({ "name": &**name, "addresses": endpoints, "weight": weight })
    };
    json!({
        "name": &**name,
        "algorithm": algorithm.name(),
        "send_proxy": send_proxy.map(Version::name),
        "sources": &**sources,
        "backends": backends.iter().map(backend).collect::<Vec<_>>(),
    })
}

/// `10s` or, if it is not in whole seconds, `250ms`.
fn duration(value: Duration) -> String {
    if value.subsec_nanos() == 0 {
        format!("{}s", value.as_secs())
    } else {
        format!("{}ms", value.as_millis())
    }
}

#[cfg(test)]
mod tests;
