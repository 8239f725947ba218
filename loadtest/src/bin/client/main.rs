//! The load-test client for TCP and UDP: so many exchanges at a time, each after the last, as fast as they are answered. With `--rate` they
//! begin at fixed times instead, and latency is counted from those; for that it speaks a little HTTP too. One thread on epoll.
//!
//! HTTP at full speed is `wrk`'s job. This one speaks to the services of `origin` through a proxy, checks what comes back, and
//! prints one line of JSON. It ends with 0 whatever went wrong on the way: errors are counted, not fatal.
//!
//! `client echo --target 127.0.0.1:8000 --connections 64 --seconds 3`

mod answer;
mod latency;
mod load;
mod pace;
mod slot;
mod sources;

use std::net::SocketAddrV4;
use std::num::NonZero;
use std::time::Duration;

use slot::Work;

const USAGE: &str = "usage: client WORK --target ADDR:PORT [--connections N] [--seconds S] [--rate N]
  get              HTTP, GET / and its 128 bytes, on connections that stay
  echo             TCP, 128 bytes there and back, on connections that stay
  bulk             TCP, 1 MiB for each message, on connections that stay
  churn            TCP, 128 bytes there and back, a new connection for each, closed by the other side
  datagrams        UDP, 128 bytes there and back, on sockets that stay
  datagram-churn   UDP, 128 bytes there and back, a new socket for each
--rate: N exchanges a second begin at even distances, each on a connection that is free; not for churn";

type Failure = Box<dyn std::error::Error>;

pub struct Plan {
    work: Work,
    target: SocketAddrV4,
    connections: usize,
    duration: Duration,
    /// Exchanges a second, `None` for as many as are answered.
    rate: Option<u64>,
}

fn plan() -> Result<Plan, Failure> {
    let mut arguments = std::env::args().skip(1);
    let work = arguments.next().and_then(|name| Work::named(&name)).ok_or(USAGE)?;
    let (mut target, mut connections, mut duration, mut rate) = (None, 64, Duration::from_secs(3), None);
    while let Some(flag) = arguments.next() {
        let value = arguments.next().ok_or(USAGE)?;
        match flag.as_str() {
            "--target" => target = Some(value.parse()?),
            "--connections" => connections = value.parse()?,
            "--seconds" => duration = Duration::try_from_secs_f64(value.parse()?)?,
            "--rate" if !work.is_churn() => rate = Some(value.parse::<NonZero<u64>>()?.get()),
            _ => return Err(USAGE.into()),
        }
    }
    Ok(Plan { work, target: target.ok_or(USAGE)?, connections, duration, rate })
}

fn main() -> Result<(), Failure> {
    let report = load::run(&plan()?)?;
    println!("{report}");
    Ok(())
}
