//! stub
use std::{sync::{Arc,atomic::AtomicBool},net::SocketAddr,io};
pub struct Admin { pub plan: Arc<crate::config::plan::Plan>, pub workers: Vec<Arc<crate::stats::worker::WorkerStats>>, pub draining: Arc<AtomicBool>, pub listeners: Vec<SocketAddr> }
pub fn bind(_a: SocketAddr)->io::Result<std::net::TcpListener>{ std::net::TcpListener::bind("127.0.0.1:0") }
pub async fn serve(_l: std::net::TcpListener,_a:Arc<Admin>)->io::Result<()>{Ok(())}
