//! Admission: who may come in, how many connections at a time, and how often. The tables of a plan that all workers share.
//!
//! Built on the control thread with the blueprint; asked by every worker. Never waits, never locks, never allocates once
//! it is built. A client is its address (of the network of 64 bits, for IPv6); one without, behind a UNIX socket, is asked
//! for nothing that needs an address.

pub mod access;
pub mod census;
pub mod door;
pub mod gcra;
pub mod rates;
pub mod rule;

use std::{net::IpAddr, sync::Arc};

use self::{
    census::Census,
    door::Door,
    rates::Rates,
    rule::{Denied, Rule},
};
use crate::{
    config::plan::{
        Mode, Plan,
        admission::{AdmissionPlan, RateLimit},
    },
    limits::{ADMISSION_CLIENTS_MAX, ADMISSION_PLACES_MAX},
    stats::worker::WorkerStats,
};

/// What the listeners and the routes of a plan ask of clients, in its order.
#[derive(Debug)]
pub struct Admission {
    doors: Vec<Option<Door>>,
    listeners: Vec<Option<Rule>>,
    routes: Vec<Option<Rule>>,
    /// Some listener or route asks something of requests.
    rules: bool,
}

impl Admission {
    /// What was counted `before` goes on counting: connections as long as their listener has its name, rates as long as
    /// they are the same.
    pub fn new(plan: &Plan, before: Option<(&Plan, &Admission)>) -> Self {
        let room = room(plan);
        let known = |name: &str| {
            let (plan, admission) = before?;
            let place = plan.listeners.iter().position(|old| *old.name == *name)?;
            Some((admission.doors.get(place)?, admission.listeners.get(place)?))
        };
        let known_route = |name: &str| {
            let (plan, admission) = before?;
            let place = plan.routes.iter().position(|old| *old.name == *name)?;
            admission.routes.get(place)?.as_ref()?.rates()
        };
        let (mut doors, mut listeners) = (Vec::new(), Vec::new());
        for listener in &plan.listeners {
            let asked = &listener.admission;
            let (door, rule) = known(&listener.name).unwrap_or((&None, &None));
            let (old_door, old_rule) = (door.as_ref(), rule.as_ref());
            let old = old_door.and_then(Door::rates).or(old_rule.and_then(Rule::rates));
            let rates = asked.rate.as_ref().map(|limit| rates(limit, old, room));
            let (of_door, of_rule) = if listener.mode == Mode::Http { (None, rates) } else { (rates, None) };
            let census = old_door.and_then(Door::census).cloned();
            let census =
                asked.connections_per_client.map(|max| (census.unwrap_or_else(|| Census::new(room)), max));
            doors.push(Door::new(asked, census, of_door));
            listeners.push(Rule::new(&AdmissionPlan::default(), of_rule));
        }
        let rule = |route: &crate::config::plan::RoutePlan| {
            let limit = route.admission.rate.as_ref();
            Rule::new(&route.admission, limit.map(|limit| rates(limit, known_route(&route.name), room)))
        };
        let routes: Vec<_> = plan.routes.iter().map(rule).collect();
        let rules = listeners.iter().chain(&routes).any(Option::is_some);
        Admission { doors, listeners, routes, rules }
    }

    /// What a listener asks of connections or datagram flows, if anything.
    #[inline]
    pub fn door(&self, listener: usize) -> Option<&Door> {
        self.doors.get(listener)?.as_ref()
    }

    /// Why a request must not go on, if it must not. `header` finds the value of a field by its name in lower case.
    #[inline]
    pub fn denies<'h>(
        &self,
        (listener, route): (usize, Option<usize>),
        client: Option<IpAddr>,
        header: impl Fn(&[u8]) -> Option<&'h [u8]>,
        stats: &WorkerStats,
    ) -> Option<Denied> {
        if !self.rules {
            return None;
        }
        let route = route.and_then(|route| self.routes.get(route)?.as_ref());
        let listener = self.listeners.get(listener).and_then(Option::as_ref);
        // Who may not come in at all takes nothing from the listener's rate.
        let forbidden = route.filter(|route| !route.admits(client)).map(|_| Denied::Forbidden);
        let mut rules = listener.into_iter().chain(route);
        forbidden.or_else(|| rules.find_map(|rule| rule.exceeded(client, &header, stats)))
    }
}

/// Clients that each table has room for: fewer when there are many tables.
fn room(plan: &Plan) -> usize {
    let listeners = plan.listeners.iter().map(|listener| &listener.admission);
    let all = listeners.chain(plan.routes.iter().map(|route| &route.admission));
    let tables = |asked: &AdmissionPlan| {
        usize::from(asked.rate.is_some()) + usize::from(asked.connections_per_client.is_some())
    };
    (ADMISSION_PLACES_MAX / all.map(tables).sum::<usize>().max(1)).min(ADMISSION_CLIENTS_MAX)
}

/// The buckets of a limit: those there are, if they are for the same.
fn rates(limit: &RateLimit, old: Option<&Arc<Rates>>, room: usize) -> Arc<Rates> {
    let same = old.filter(|old| old.limit() == limit).cloned();
    same.unwrap_or_else(|| Arc::new(Rates::new(limit.clone(), room)))
}

/// What a client is known by: its address, or its network of 64 bits, of which every IPv6 client has at least one.
fn subject(client: IpAddr) -> [u8; 16] {
    match client.to_canonical() {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => (address.to_bits() >> 64 << 64).to_be_bytes(),
    }
}
