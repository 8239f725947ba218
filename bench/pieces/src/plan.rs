//! Plans, made the way the program makes them from its flags.

use std::{ffi::OsString, net::SocketAddr};

use ringway::{
    cli,
    config::{
        self, Environment,
        plan::{
            Plan,
            route::{Action, PathMatch, RoutePlan},
        },
    },
};

/// One HTTP listener over so many backends that nobody will ever connect to, for so many workers.
pub fn plan(backends: usize, workers: usize) -> Plan {
    let addresses: Vec<_> = (0..backends)
        .map(|index| SocketAddr::from(([10, 0, (index >> 8) as u8, index as u8], 8080)))
        .collect();
    let list = addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let flags = ["ringway".into(), format!("--backends={list}"), "--listen=127.0.0.1:0".into()];
    let Ok(cli::Command::Run(source)) = cli::parse(flags.map(OsString::from).into_iter()) else {
        panic!("the flags are right")
    };
    let checked = config::load(&source, &Environment::of_process().expect("there are cores"));
    let checked = checked.expect("the flags are right");
    let mut plan = checked.into_plan(addresses.into_iter().map(|address| vec![address.into()]).collect());
    plan.cores = (0..workers).collect();
    plan
}

/// The same, with these routes on its listener.
pub fn with_routes(mut plan: Plan, routes: Vec<RoutePlan>) -> Plan {
    plan.listeners[0].routes = (0..routes.len()).collect();
    plan.routes = routes;
    plan
}

/// A route for everything below a path.
pub fn route(prefix: &str, action: Action) -> RoutePlan {
    RoutePlan::new(PathMatch::Prefix(prefix.into()), action)
}
