//! A connection that has just been accepted, before anybody speaks on it.

use std::{net::SocketAddr, rc::Rc};

use super::client::Client;
use crate::{
    config::plan::{ClusterPlan, ListenerPlan},
    io::{alarm::Alarm, stream::Stream},
    proxy_protocol,
    shard::Shard,
    stats::worker::Held,
};

/// A fresh connection, which counts as open for as long as its holder keeps [`Self::open`].
pub struct Connection {
    /// The shard of the worker that serves it.
    pub shard: Rc<Shard>,
    /// The connection itself.
    pub stream: Stream,
    /// Its deadline.
    pub alarm: Alarm,
    /// Who opened it, as the socket shows.
    pub client: Client,
    /// Where it was accepted, by its place in the plan.
    pub listener: usize,
    /// Counts it as open.
    pub open: Held,
}

impl Connection {
    /// Gives it a deadline of its own.
    pub fn new(
        shard: Rc<Shard>,
        stream: Stream,
        peer: Option<SocketAddr>,
        listener: usize,
        open: Held,
    ) -> Self {
        let alarm = shard.alarms.register();
        Connection { shard, stream, alarm, client: Client::peer(peer), listener, open }
    }

    /// True when it must begin with a PROXY protocol header.
    pub fn awaits_introduction(&self, plan: &ListenerPlan) -> bool {
        // Whoever may open the UNIX socket is trusted once headers are accepted at all.
        let trusted = |source: SocketAddr| plan.proxy_from.contains(source.ip());
        !plan.proxy_from.is_empty() && self.client.source.is_none_or(trusted)
    }
}

/// What a connection to a backend of this cluster begins with: a PROXY protocol header for the client, or nothing.
pub fn greeting(cluster: &ClusterPlan, client: Client, stream: &Stream) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(version) = cluster.send_proxy {
        proxy_protocol::write(version, client.ends(stream), &mut bytes);
    }
    bytes
}
