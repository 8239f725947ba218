//! A setup: what one worker balances by until the next reload, and the one place where a backend is chosen.
//!
//! Whoever needs one thing to stay the same for as long as an exchange or a connection lasts keeps it.

use std::{cell::RefCell, net::IpAddr, rc::Rc, sync::Arc};

use crate::{
    blueprint::Blueprint,
    cluster::{Cluster, attempt::Attempt, tried::Tried},
    config::plan::{Plan, RoutePlan, route::Action},
    io::alarm::Millis,
    route::share::Shares,
};

/// Workers begin a route's turns this many apart at most.
const SHARES_APART: usize = 16;

/// A blueprint and what a worker has built from it.
pub struct Setup {
    /// What all workers share.
    pub blueprint: Arc<Blueprint>,
    /// The worker's clusters, in the order of the plan.
    pub clusters: Vec<Rc<Cluster>>,
    /// Whose turn it is on each route that forwards, in the order of the plan.
    shares: Vec<RefCell<Shares>>,
}

/// What the choice of a backend goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wish {
    /// Index into the plan's clusters.
    pub cluster: usize,
    /// For the hashing algorithms.
    pub key: u64,
    /// The backend the client is pinned to, by its place in the cluster.
    pub pinned: Option<usize>,
    /// Who is pinned anew when it cannot be that one.
    pub client: Option<IpAddr>,
}

/// Why there is no choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denial {
    /// Those that could take it have all they may have: it may wait for room.
    Full,
    /// Nobody is left who was not tried.
    Nobody,
}

/// A choice.
pub struct Picked {
    /// The backend, counted as in flight there.
    pub attempt: Attempt,
    /// The client was not pinned to it.
    pub is_new: bool,
}

impl Setup {
    pub(super) fn new(blueprint: Arc<Blueprint>, clusters: Vec<Rc<Cluster>>, offset: usize) -> Rc<Self> {
        let shares = |route: &RoutePlan| match &route.action {
            Action::Forward(shares) => RefCell::new(Shares::new(shares, offset % SHARES_APART)),
            _ => RefCell::new(Shares::new(&[], 0)),
        };
        let shares = blueprint.plan.routes.iter().map(shares).collect();
        Rc::new(Setup { blueprint, clusters, shares })
    }

    /// The plan in force.
    pub fn plan(&self) -> &Plan {
        &self.blueprint.plan
    }

    /// The cluster that takes the next request of a route.
    pub fn share(&self, route: usize) -> Option<usize> {
        self.shares.get(route)?.borrow_mut().pick()
    }

    /// What a connection or a flow goes by, of which nothing is known but its client.
    pub fn wish_of(&self, cluster: usize, client: Option<IpAddr>, now: Millis) -> Wish {
        let keyed = self.clusters.get(cluster).filter(|cluster| cluster.is_keyed()).zip(client);
        Wish {
            cluster,
            key: keyed.map_or(0, |(cluster, client)| cluster.key_of_client(client)),
            pinned: self.remembered(cluster, client, now),
            client,
        }
    }

    /// The backend a client's address is pinned to.
    pub fn remembered(&self, cluster: usize, client: Option<IpAddr>, now: Millis) -> Option<usize> {
        let (table, client) = self.blueprint.affinity(cluster).zip(client)?;
        table.find(client, now)
    }

    /// Picks a backend for the next attempt, and pins the client to it if it could not be its own. One that is only full
    /// is worth waiting for.
    pub fn pick(&self, wish: Wish, tried: &mut Tried, now: Millis) -> Result<Picked, Denial> {
        let cluster = self.clusters.get(wish.cluster).ok_or(Denial::Nobody)?;
        if let Some(place) = wish.pinned {
            if let Some(attempt) = cluster.pick_pinned(place, tried, now) {
                return Ok(Picked { attempt, is_new: false });
            }
            if cluster.is_worth_waiting_for(place, tried, now) {
                return Err(Denial::Full);
            }
        }
        let Some(attempt) = cluster.pick(tried, wish.key, now) else {
            return Err(if cluster.is_worth_waiting(tried) { Denial::Full } else { Denial::Nobody });
        };
        let known = self.blueprint.affinity(wish.cluster).zip(wish.client);
        if let Some(((table, client), place)) = known.zip(attempt.backend().index()) {
            table.pin(client, place, now);
        }
        Ok(Picked { attempt, is_new: true })
    }
}
