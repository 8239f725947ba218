//! Stickiness: a client stays with its backend, by a cookie of ours or by its address.
//!
//! Pure: what is remembered is decided here, who asks and when is not. A pin is only a wish: whoever uses it looks
//! whether the backend can still be used (a draining one can, a dead one cannot), and pins the client anew when it had
//! to be moved. Clients without a pin follow the cluster's algorithm.

pub mod affinity;
pub mod cookie;
