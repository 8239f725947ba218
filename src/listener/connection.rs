//! A connection that has just been accepted, before anybody speaks on it.

use std::{net::SocketAddr, rc::Rc};

use super::client::Client;
use crate::{
    admission::door::Pass,
    config::plan::{ClusterPlan, ListenerPlan},
    io::{alarm::Alarm, stream::Stream},
    proxy_protocol,
    shard::{Setup, Shard},
    stats::worker::Held,
};

/// A fresh connection, which counts as open for as long as its holder keeps [`Self::open`].
pub struct Connection {
    /// The shard of the worker that serves it.
    pub shard: Rc<Shard>,
    /// What was in force when it was accepted.
    pub setup: Rc<Setup>,
    /// Where it was accepted, by its place in that setup's plan.
    pub listener: usize,
    /// The connection itself.
    pub stream: Stream,
    /// Its deadline.
    pub alarm: Alarm,
    /// Who opened it, as the socket shows.
    pub client: Client,
    /// Counts it as open.
    pub open: Held,
    /// Counts it for its client, once that has been let in.
    pub pass: Pass,
}

impl Connection {
    /// Gives it a deadline of its own.
    pub fn new(
        shard: Rc<Shard>,
        setup: Rc<Setup>,
        listener: usize,
        stream: Stream,
        peer: Option<SocketAddr>,
        open: Held,
    ) -> Self {
        let alarm = shard.alarms.register();
        Connection {
            shard,
            setup,
            listener,
            stream,
            alarm,
            client: Client::peer(peer),
            open,
            pass: Pass::default(),
        }
    }

    /// The policy of its listener.
    pub fn plan(&self) -> Option<&ListenerPlan> {
        self.setup.plan().listeners.get(self.listener)
    }

    /// Lets its client in; false, and counted, when that may not come in: then the connection is to be closed by a reset.
    pub fn admit(&mut self) -> bool {
        let pass = admit(&self.shard, &self.setup, self.listener, self.client);
        pass.map(|pass| self.pass = pass).is_some()
    }

    /// True when it must begin with a PROXY protocol header.
    pub fn awaits_introduction(&self) -> bool {
        // Whoever may open the UNIX socket is trusted once headers are accepted at all.
        self.plan().is_some_and(|plan| {
            let trusted = |source: SocketAddr| plan.proxy_from.contains(source.ip());
            !plan.proxy_from.is_empty() && self.client.source.is_none_or(trusted)
        })
    }
}

/// Lets a client in; `None`, and counted, when it may not come in.
pub fn admit(shard: &Shard, setup: &Setup, listener: usize, client: Client) -> Option<Pass> {
    let Some(door) = setup.blueprint.admission.door(listener) else { return Some(Pass::default()) };
    let entered = door.enter(client.source.map(|source| source.ip()), &shard.stats);
    entered.map_err(|turned| shard.stats.count(turned.connection())).ok()
}

/// What a connection to a backend of this cluster begins with: a PROXY protocol header for the client, or nothing.
pub fn greeting(cluster: &ClusterPlan, client: Client, stream: &Stream) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(version) = cluster.send_proxy {
        proxy_protocol::write(version, client.ends(stream), &mut bytes);
    }
    bytes
}
