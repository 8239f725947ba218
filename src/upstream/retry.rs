//! What follows a failure: another backend, the same one afresh, an answer of our own, or the end.
//!
//! One exhaustive function over plain values, and one that holds its verdict against what is left. The rule behind it: a request that may have been delivered and may
//! change state is never delivered twice, and a response that has begun is never begun again.

use crate::fault::{Fault, Kind, Phase, Side};

/// How far the exchange had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// It may be delivered twice: its method is safe (GET, HEAD, OPTIONS, TRACE), or the operator allows it.
    pub repeatable: bool,
    /// A response that does not begin in time is a reason to ask somebody else.
    pub retries_late: bool,
    /// All of the request is still at hand.
    pub whole: bool,
    /// Bytes of it were handed to a backend's connection.
    pub sent: bool,
    /// That connection came from the pool.
    pub reused: bool,
    /// Bytes of the response have arrived, or been sent to the client.
    pub response_begun: bool,
    /// Nothing has been sent to the client, so it can still get an answer of ours.
    pub answerable: bool,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Try a backend that was not tried yet; if there is none, answer with this status.
    Elsewhere(u16),
    /// Send it again to the same backend on a fresh connection.
    Afresh,
    /// Answer with this status.
    Answer(u16),
    /// The client's connection cannot be saved.
    Abort,
}

/// Decides.
pub fn verdict(fault: Fault, progress: Progress) -> Verdict {
    let repeatable = progress.whole && !progress.response_begun && (progress.repeatable || !progress.sent);
    match (fault.side, fault.phase, fault.kind) {
        (_, _, Kind::Cut) => Verdict::Abort,
        (Side::Client, Phase::Connect | Phase::Request, Kind::Malformed) if progress.answerable => {
            Verdict::Answer(400)
        }
        (Side::Client, Phase::Connect | Phase::Request, Kind::Silent) if progress.answerable => {
            Verdict::Answer(408)
        }
        (Side::Client, Phase::Connect | Phase::Request, Kind::TooLarge) if progress.answerable => {
            Verdict::Answer(413)
        }
        (Side::Client, ..) => Verdict::Abort,
        _ if !progress.answerable => Verdict::Abort,
        (Side::Local, ..) => Verdict::Answer(503),
        (Side::Upstream, _, Kind::Missing | Kind::Full) => Verdict::Answer(503),
        (Side::Upstream, Phase::Connect, _) => Verdict::Elsewhere(503),
        (Side::Upstream, Phase::Request, Kind::Silent) if repeatable && progress.retries_late => {
            Verdict::Elsewhere(504)
        }
        (Side::Upstream, _, Kind::Silent | Kind::Exhausted) => Verdict::Answer(504),
        (Side::Upstream, _, Kind::Malformed | Kind::TooLarge) => Verdict::Answer(502),
        (Side::Upstream, Phase::Request, Kind::Died) if repeatable && progress.reused => Verdict::Afresh,
        (Side::Upstream, Phase::Request, Kind::Died) if repeatable => Verdict::Elsewhere(502),
        (Side::Upstream, Phase::Request | Phase::Response, Kind::Died) => Verdict::Answer(502),
    }
}

/// What a further attempt needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The request has attempts left.
    pub attempts_left: bool,
    /// Somebody is left to try, or to try again.
    pub targets_left: bool,
}

/// Why a retry that would be right is not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// All attempts have been made.
    UsedUp,
    /// The budget is used up.
    OverBudget,
}

/// Holds a verdict against what is left. The budget is asked, and pays, only for a retry that will be made.
pub fn permit(verdict: Verdict, limits: Limits, budget: impl FnOnce() -> bool) -> (Verdict, Option<Stop>) {
    let status = match verdict {
        // Nobody would be found.
        Verdict::Elsewhere(_) if !limits.targets_left => return (verdict, None),
        Verdict::Elsewhere(status) => status,
        // It died at the pool's end of a connection that had worked.
        Verdict::Afresh => 502,
        Verdict::Answer(_) | Verdict::Abort => return (verdict, None),
    };
    match (limits.attempts_left, limits.attempts_left && budget()) {
        (false, _) => (Verdict::Answer(status), Some(Stop::UsedUp)),
        (true, false) => (Verdict::Answer(status), Some(Stop::OverBudget)),
        (true, true) => (verdict, None),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SENT: Progress = Progress {
        repeatable: true,
        retries_late: false,
        whole: true,
        sent: true,
        reused: true,
        response_begun: false,
        answerable: true,
    };
    const DIED: Fault = Fault { side: Side::Upstream, phase: Phase::Request, kind: Kind::Died };

    #[test]
    fn a_pooled_connection_that_died_is_replaced_for_safe_methods_only() {
        assert_eq!(verdict(DIED, SENT), Verdict::Afresh);
        assert_eq!(verdict(DIED, Progress { reused: false, ..SENT }), Verdict::Elsewhere(502));
        assert_eq!(verdict(DIED, Progress { repeatable: false, ..SENT }), Verdict::Answer(502));
        assert_eq!(verdict(DIED, Progress { repeatable: false, sent: false, ..SENT }), Verdict::Afresh);
        assert_eq!(verdict(DIED, Progress { whole: false, ..SENT }), Verdict::Answer(502));
        assert_eq!(verdict(DIED, Progress { response_begun: true, ..SENT }), Verdict::Answer(502));
    }

    #[test]
    fn a_refused_connection_is_retried_for_every_method() {
        let refused = Fault::upstream(Phase::Connect, Kind::Died);
        assert_eq!(
            verdict(refused, Progress { repeatable: false, sent: false, ..SENT }),
            Verdict::Elsewhere(503)
        );
    }

    #[test]
    fn slow_bad_and_missing_backends_have_their_statuses() {
        for (kind, status) in [(Kind::Silent, 504), (Kind::Malformed, 502), (Kind::Missing, 503)] {
            assert_eq!(verdict(Fault::upstream(Phase::Request, kind), SENT), Verdict::Answer(status));
        }
        assert_eq!(verdict(Fault::local(Phase::Connect, Kind::Exhausted), SENT), Verdict::Answer(503));
    }

    #[test]
    fn what_a_client_does_wrong_is_answered_while_it_can_be() {
        for (kind, status) in [(Kind::Malformed, 400), (Kind::Silent, 408), (Kind::TooLarge, 413)] {
            let fault = |phase| Fault::client(phase, kind);
            assert_eq!(verdict(fault(Phase::Request), SENT), Verdict::Answer(status));
            assert_eq!(verdict(fault(Phase::Response), SENT), Verdict::Abort);
            let begun = Progress { answerable: false, ..SENT };
            assert_eq!(verdict(fault(Phase::Request), begun), Verdict::Abort);
        }
    }

    #[test]
    fn a_late_response_is_asked_for_elsewhere_if_the_operator_says_so_and_it_may_be() {
        let late = Fault::upstream(Phase::Request, Kind::Silent);
        let wanted = Progress { retries_late: true, ..SENT };
        assert_eq!(verdict(late, wanted), Verdict::Elsewhere(504));
        for not in [
            Progress { repeatable: false, ..wanted },
            Progress { whole: false, ..wanted },
            Progress { response_begun: true, ..wanted },
        ] {
            assert_eq!(verdict(late, not), Verdict::Answer(504));
        }
    }

    fn progress() -> impl Strategy<Value = Progress> {
        any::<[bool; 7]>().prop_map(
            |[repeatable, retries_late, whole, sent, reused, response_begun, answerable]| Progress {
                repeatable,
                retries_late,
                whole,
                sent,
                reused,
                response_begun,
                answerable,
            },
        )
    }

    fn fault() -> impl Strategy<Value = Fault> {
        let side = prop_oneof![Just(Side::Client), Just(Side::Upstream), Just(Side::Local)];
        let phase = prop_oneof![Just(Phase::Request), Just(Phase::Response)];
        let kind = prop_oneof![
            Just(Kind::Died),
            Just(Kind::Silent),
            Just(Kind::Malformed),
            Just(Kind::TooLarge),
            Just(Kind::Missing),
            Just(Kind::Full),
            Just(Kind::Exhausted),
            Just(Kind::Cut)
        ];
        (side, phase, kind).prop_map(|(side, phase, kind)| Fault { side, phase, kind })
    }

    #[test]
    fn a_retry_needs_an_attempt_somebody_to_ask_and_the_budget_in_this_order() {
        let limits = |attempts_left, targets_left| Limits { attempts_left, targets_left };
        let unasked = || -> bool { panic!("the budget pays for a retry that is not made") };
        for verdict in [Verdict::Elsewhere(503), Verdict::Afresh] {
            assert_eq!(permit(verdict, limits(true, true), || true), (verdict, None));
            let (stopped, why) = permit(verdict, limits(true, true), || false);
            assert!(matches!(stopped, Verdict::Answer(502 | 503)) && why == Some(Stop::OverBudget));
            assert_eq!(permit(verdict, limits(false, true), unasked).1, Some(Stop::UsedUp));
        }
        let nobody = permit(Verdict::Elsewhere(502), limits(true, false), unasked);
        assert_eq!(nobody, (Verdict::Elsewhere(502), None));
        for verdict in [Verdict::Answer(504), Verdict::Abort] {
            assert_eq!(permit(verdict, limits(false, false), unasked), (verdict, None));
        }
    }

    proptest! {
        #[test]
        fn nothing_that_may_have_been_delivered_is_delivered_twice(fault in fault(), progress in progress()) {
            let verdict = verdict(fault, progress);
            if matches!(verdict, Verdict::Afresh | Verdict::Elsewhere(_)) {
                prop_assert!(progress.whole && !progress.response_begun && progress.answerable);
                prop_assert!(progress.repeatable || !progress.sent);
            }
            if !progress.answerable {
                prop_assert_eq!(verdict, Verdict::Abort);
            }
        }
    }
}
