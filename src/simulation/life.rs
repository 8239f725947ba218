//! The life of a backend: how it behaves, and when it changes.

use crate::io::alarm::Millis;

/// How a backend behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mood {
    /// It answers at once.
    Well,
    /// It answers late, at times too late.
    Slow,
    /// It refuses connections; those it has are gone.
    Refusing,
    /// Its host says nothing at all.
    Absent,
    /// It takes connections and requests, and never answers.
    Zombie,
    /// It resets connections when a request comes.
    Resetting,
    /// It dies within its responses.
    Breaking,
    /// It does not speak HTTP.
    Garbling,
    /// It answers with status 503.
    Failing,
    /// It answers every other request with status 500.
    Ailing,
    /// It refuses connections in every second half of a second.
    Flapping,
}

impl Mood {
    const ALL: [Mood; 11] = [
        Mood::Well,
        Mood::Slow,
        Mood::Refusing,
        Mood::Absent,
        Mood::Zombie,
        Mood::Resetting,
        Mood::Breaking,
        Mood::Garbling,
        Mood::Failing,
        Mood::Ailing,
        Mood::Flapping,
    ];

    /// True when a probe of this kind succeeds.
    pub(super) fn passes(self, by_request: bool) -> bool {
        match self {
            Mood::Well | Mood::Slow | Mood::Breaking => true,
            Mood::Refusing | Mood::Absent => false,
            _ => !by_request,
        }
    }
}

/// All that becomes of one backend.
pub(super) struct Life {
    /// From when on it behaves how; before the first it is well.
    turns: Vec<(Millis, Mood)>,
}

impl Life {
    /// A life with troubles between `from` and `until`, or without any.
    pub(super) fn new(chance: &mut fastrand::Rng, from: Millis, until: Millis) -> Self {
        let mut turns = Vec::new();
        let mut at = from;
        match chance.u8(..6) {
            0 => {}
            1 => turns.push((from, Mood::Flapping)),
            2 => turns.push((from, Mood::ALL[chance.usize(..Mood::ALL.len())])),
            pace => {
                let longest = [2_000, 5_000, 12_000][usize::from(pace % 3)];
                while at < until {
                    at += chance.u64(50..longest);
                    // It is well half of the time.
                    let mood =
                        if chance.bool() { Mood::Well } else { Mood::ALL[chance.usize(..Mood::ALL.len())] };
                    turns.push((at, mood));
                }
            }
        }
        turns.retain(|(at, _)| *at < until);
        turns.push((until, Mood::Well));
        Life { turns }
    }

    /// How it behaves now.
    pub(super) fn mood(&self, now: Millis) -> Mood {
        let last = self.turns.partition_point(|(at, _)| *at <= now).checked_sub(1);
        match last.map_or(Mood::Well, |place| self.turns[place].1) {
            Mood::Flapping if now % 1_000 < 500 => Mood::Well,
            Mood::Flapping => Mood::Refusing,
            mood => mood,
        }
    }
}
