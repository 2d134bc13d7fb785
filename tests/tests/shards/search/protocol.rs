//! The protocol in its two forms, the ways to break it, and how much may go wrong in one search.

/// One stage of a move, as the coordinator goes through it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Puts the version that lets writes wait.
    Fence,
    /// Asks the members until those that are needed have followed.
    Members,
    /// Closes the source's gate.
    Close,
    /// Waits for the transactions that were let in before.
    Drain,
    /// Brings what the source has to the target: marker, flush, the rest of the rows.
    CopyRest,
    /// Puts the version from which there is no way back.
    PassReturn,
    /// Closes the source's gate for good.
    MarkMoved,
    /// Opens the target's gate.
    OpenTarget,
    /// Puts the version that gives the range to the target.
    Commit,
}

use Stage::{Close, Commit, CopyRest, Drain, Fence, MarkMoved, Members, OpenTarget, PassReturn};

/// A way to break the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// An abort puts the object back that was there before the move.
    AbortWithOldEpoch,
    /// An abort is another object of the epoch that it ends.
    AbortInSameEpoch,
    /// An abort is possible past the point of no return.
    AbortAfterNoReturn,
    /// A pod puts whatever it is shown in force.
    LowerEpochTaken,
    /// Objects are put into the store without a condition.
    NoIfMatch,
    /// A member is left out by name, though it runs.
    PodLeftOut,
    /// Members are asked once: who has followed need not have followed before.
    AskedOnce,
    /// A pod that starts follows the ranges of its rules file.
    NewcomerFromSeed,
    /// A pod says that it follows while writes of the range are in flight there.
    AckWithWritesInFlight,
    /// The map is looked at before a write is entered, and not after it.
    LookedBeforeEntry,
    /// A write that a newer marker sent here is entered by the older map of the receiver.
    EnteredByOlderMap,
    /// A write from another pod waits where it came to.
    HeldAtReceiver,
    /// A write from another pod is sent on when the map has changed since it came.
    SentOnAfterChange,
}

pub struct Protocol {
    /// Whether owners refuse by themselves what they must not take; else only what pods say counts.
    pub has_gate: bool,
    /// Whether each pod's application reaches both owners (`X-Shard`); else each pod sits beside one of them
    /// and forwards to the other pod.
    pub is_annotated: bool,
    pub order: &'static [Stage],
    pub coordinators: usize,
    pub writes: usize,
    /// Which pods may crash, once each.
    pub may_crash: [bool; 2],
    pub broken: Option<Broken>,
}

impl Protocol {
    /// Owners with a gate, led by a tool that moves the data.
    pub fn with_gate() -> Self {
        Self {
            has_gate: true,
            is_annotated: false,
            order: &[
                Fence, Members, Close, Drain, CopyRest, PassReturn, MarkMoved, OpenTarget, Commit,
            ],
            coordinators: 1,
            writes: 2,
            may_crash: [true, true],
            broken: None,
        }
    }

    /// Owners that take whatever comes, led by hand: the data is copied between the acks and the commit.
    pub fn without_gate() -> Self {
        Self {
            has_gate: false,
            order: &[Fence, Members, CopyRest, Members, Commit],
            ..Self::with_gate()
        }
    }

    pub fn broken(self, broken: Broken) -> Self {
        Self { broken: Some(broken), ..self }
    }

    pub fn ordered(self, order: &'static [Stage]) -> Self {
        Self { order, ..self }
    }

    /// With a second coordinator, which may begin or abort at any time.
    pub fn led_by_two(self) -> Self {
        Self { coordinators: 2, ..self }
    }

    pub fn crashing(self, may_crash: [bool; 2]) -> Self {
        Self { may_crash, ..self }
    }

    pub fn with_one_write(self) -> Self {
        Self { writes: 1, ..self }
    }

    pub fn annotated(self) -> Self {
        Self { is_annotated: true, ..self }
    }

    pub fn is(&self, broken: Broken) -> bool {
        self.broken == Some(broken)
    }

    /// The first place of a stage in the order.
    pub fn place(&self, stage: Stage) -> u8 {
        let place = self.order.iter().position(|own| *own == stage);
        u8::try_from(place.expect("a stage of this order")).expect("few stages")
    }
}
