//! Backend names become addresses.
//!
//! Owns the lookup and its time limit. Never parses what the operator wrote (that is `addr`) and never
//! runs on a worker: a lookup may block, so it happens on the control thread's tokio runtime. After a
//! time-out the system's resolver may still be busy: end that runtime with `shutdown_background`.

use std::{future::Future, io, net::SocketAddr, time::Duration};

use tokio::time::{Instant, timeout_at};

use crate::addr::{BackendAddress, Endpoint, Target};

/// How long all lookups together may take.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a backend has no address.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what the variants and their fields mean")]
pub enum ResolveError {
    #[error("cannot resolve the host of backend `{backend}`: {cause}")]
    Failed { backend: String, cause: io::Error },
    #[error("cannot resolve the host of backend `{backend}`: it has no address")]
    NoAddress { backend: String },
    #[error("cannot resolve the host of backend `{backend}`: no answer within {limit:?}")]
    TimedOut { backend: String, limit: Duration },
}

/// Looks up all backends at once, within 5 s.
///
/// The answer has one list for each backend, in their order: never empty, without duplicates, in the
/// resolver's order. Must be awaited on a tokio runtime with I/O and time enabled.
pub async fn resolve(backends: &[BackendAddress]) -> Result<Vec<Vec<Endpoint>>, ResolveError> {
    resolve_with(backends, RESOLVE_TIMEOUT, |host, port| async move {
        #[cfg(debug_assertions)]
        hang_if_told(&host).await;
        Ok(tokio::net::lookup_host((&*host, port)).await?.collect())
    })
    .await
}

/// The suite's way to a resolver that does not answer; not compiled into releases.
#[cfg(debug_assertions)]
async fn hang_if_told(host: &str) {
    if std::env::var("RINGWAY_TEST_HANGING_NAME").is_ok_and(|name| name == host) {
        tracing::info!(host, "a lookup hangs");
        std::future::pending().await
    }
}

async fn resolve_with<L, F>(
    backends: &[BackendAddress],
    limit: Duration,
    lookup: L,
) -> Result<Vec<Vec<Endpoint>>, ResolveError>
where
    L: Fn(Box<str>, u16) -> F,
    F: Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'static,
{
    let deadline = Instant::now() + limit;
    // All lookups run at once; awaiting them in order then takes as long as the slowest.
    let pending: Vec<_> = backends
        .iter()
        .map(|backend| match (backend.literal(), &backend.target) {
            (None, Target::Host { host, port }) => Pending::Lookup(tokio::spawn(lookup(host.clone(), *port))),
            (literal, _) => Pending::Literal(literal),
        })
        .collect();

    let mut resolved = Vec::with_capacity(backends.len());
    for (backend, pending) in backends.iter().zip(pending) {
        let task = match pending {
            Pending::Literal(endpoint) => {
                resolved.push(endpoint.into_iter().collect());
                continue;
            }
            Pending::Lookup(task) => task,
        };
        let name = || backend.authority();
        let answer = timeout_at(deadline, task)
            .await
            .map_err(|_| ResolveError::TimedOut { backend: name(), limit })?
            .unwrap_or_else(|died| Err(io::Error::other(died)))
            .map_err(|cause| ResolveError::Failed { backend: name(), cause })?;
        let mut addresses: Vec<Endpoint> = Vec::with_capacity(answer.len());
        for address in answer.into_iter().map(Endpoint::from) {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        if addresses.is_empty() {
            return Err(ResolveError::NoAddress { backend: name() });
        }
        resolved.push(addresses);
    }
    Ok(resolved)
}

enum Pending {
    Literal(Option<Endpoint>),
    Lookup(tokio::task::JoinHandle<io::Result<Vec<SocketAddr>>>),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::parse_backends;

    fn address(text: &str) -> Endpoint {
        Endpoint::Inet(text.parse().unwrap())
    }

    #[tokio::test]
    async fn literals_are_not_looked_up() {
        let backends = parse_backends("127.0.0.1:1,[::1]:2,unix:/a").unwrap();
        let resolved =
            resolve_with(&backends, Duration::ZERO, |host, _| async move { panic!("{host}") }).await;
        let expected = [[address("127.0.0.1:1")], [address("[::1]:2")], [backends[2].literal().unwrap()]];
        assert_eq!(resolved.unwrap(), expected);
    }

    #[tokio::test]
    async fn the_order_of_the_resolver_is_kept_and_duplicates_are_not() {
        let backends = parse_backends("a:1,127.0.0.9:9").unwrap();
        let resolved = resolve_with(&backends, RESOLVE_TIMEOUT, |_, _| async {
            Ok(["[::1]:1", "127.0.0.2:1", "[::1]:1", "127.0.0.1:1"]
                .map(|text| text.parse().unwrap())
                .to_vec())
        });
        let expected = vec![
            ["[::1]:1", "127.0.0.2:1", "127.0.0.1:1"].map(address).to_vec(),
            vec![address("127.0.0.9:9")],
        ];
        assert_eq!(resolved.await.unwrap(), expected);
    }

    #[tokio::test]
    async fn localhost_resolves_with_the_systems_resolver() {
        let backends = parse_backends("http://localhost:3031").unwrap();
        let resolved = resolve(&backends).await.unwrap();
        let addresses = resolved.first().unwrap();
        assert!(!addresses.is_empty());
        assert!(
            addresses.iter().filter_map(Endpoint::inet).all(|a| a.ip().is_loopback() && a.port() == 3031)
        );
    }

    #[tokio::test]
    async fn a_failure_names_host_and_cause() {
        let backends = parse_backends("127.0.0.1:1,gone:2").unwrap();
        let failed =
            resolve_with(&backends, RESOLVE_TIMEOUT, |_, _| async { Err(io::Error::other("no such name")) });
        let message = failed.await.unwrap_err().to_string();
        assert!(message.contains("`gone:2`: no such name"), "{message}");
        let empty = resolve_with(&backends, RESOLVE_TIMEOUT, |_, _| async { Ok(vec![]) });
        assert!(empty.await.unwrap_err().to_string().contains("`gone:2`: it has no address"));
    }

    #[tokio::test]
    async fn a_silent_resolver_is_given_up() {
        let backends = parse_backends("slow:1").unwrap();
        let silent = resolve_with(&backends, Duration::from_millis(5), |_, _| std::future::pending());
        assert!(silent.await.unwrap_err().to_string().contains("`slow:1`: no answer within 5ms"));
    }
}
