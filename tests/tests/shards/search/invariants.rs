//! What must hold in every state.

use super::book::{SOURCE, TARGET};
use super::model::Model;
use super::world::{Gate, Mishap, Pod, PodMap, World, Write};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Invariant {
    OneOwnerOpen,
    NewOwnerHasAll,
    WhereTheMapSays,
    NoClosedGateAfterTheMove,
    OneEpochOneMap,
    EpochNeverFalls,
    NoLoop,
    NoRound,
    NoWaitingInFlight,
    MoveCanEnd,
    AbortCanEnd,
}

impl Invariant {
    pub fn sentence(self) -> &'static str {
        match self {
            Self::OneOwnerOpen => "never are two owners open",
            Self::NewOwnerHasAll => "the new owner, once open, has every acknowledged write",
            Self::WhereTheMapSays => "an acknowledged write lies where the map says",
            Self::NoClosedGateAfterTheMove => {
                "nobody who follows the map meets a closed gate at the new owner"
            }
            Self::OneEpochOneMap => "one epoch is one map",
            Self::EpochNeverFalls => "a pod's epoch never falls",
            Self::NoLoop => "no write is answered 508 because pods follow different maps",
            Self::NoRound => "no write goes round in a pod that the store does not answer",
            Self::NoWaitingInFlight => {
                "no write that waits for the move is one that the move waits for"
            }
            Self::MoveCanEnd => "the move can end",
            Self::AbortCanEnd => "before the point of no return an abort can end",
        }
    }
}

impl Model {
    /// The first invariant that a state breaks. Those about ends are of the whole search.
    pub fn broken_by(&self, world: &World) -> Option<Invariant> {
        let is_broken = [
            (self.has_two_open(world), Invariant::OneOwnerOpen),
            (self.lacks_a_write(world), Invariant::NewOwnerHasAll),
            (self.has_misplaced(world), Invariant::WhereTheMapSays),
            (world.mishap == Mishap::MetClosedGate, Invariant::NoClosedGateAfterTheMove),
            (self.has_two_maps_of_one_epoch(world), Invariant::OneEpochOneMap),
            (world.mishap == Mishap::EpochFell, Invariant::EpochNeverFalls),
            (world.mishap == Mishap::Loop, Invariant::NoLoop),
            (world.mishap == Mishap::WentRound, Invariant::NoRound),
            (world.writes.iter().any(waits_in_flight), Invariant::NoWaitingInFlight),
        ];
        is_broken.into_iter().find(|(is_broken, _)| *is_broken).map(|(_, invariant)| invariant)
    }

    fn has_two_open(&self, world: &World) -> bool {
        self.protocol.has_gate && world.gates == [Gate::Open, Gate::Open]
    }

    fn lacks_a_write(&self, world: &World) -> bool {
        let is_open = if self.protocol.has_gate {
            world.gates[TARGET] == Gate::Open
        } else {
            self.book.is_committed(world.store)
        };
        is_open && world.writes.iter().any(is_only_at_source)
    }

    fn has_misplaced(&self, world: &World) -> bool {
        let is_elsewhere = |write: &Write| match self.book.owner(world.store) {
            TARGET => is_only_at_source(write),
            _ => matches!(write, Write::Acknowledged { owner: TARGET, .. }),
        };
        world.writes.iter().any(is_elsewhere)
    }

    fn has_two_maps_of_one_epoch(&self, world: &World) -> bool {
        let stored = (0..self.book.count()).filter(|version| world.stored & 1 << version != 0);
        // As many epochs as versions, if each has its own.
        let epochs = stored.fold(0, |epochs: u32, version| epochs | 1 << self.book.epoch(version));
        epochs.count_ones() != world.stored.count_ones()
    }

    /// Whether the move has ended for everybody.
    pub fn is_settled(&self, world: &World) -> bool {
        let follows = |pod: &Pod| pod.map == PodMap::Follows(world.store);
        self.book.is_at_rest(world.store)
            && world.pods.iter().all(follows)
            && !world.writes.iter().any(|write| write.is_under_way())
            && (!self.protocol.has_gate || self.is_open_where_the_map_says(world))
    }

    fn is_open_where_the_map_says(&self, world: &World) -> bool {
        let owner = self.book.owner(world.store);
        world.gates[owner] == Gate::Open && world.gates[1 - owner] != Gate::Open
    }

    /// Whether an abort must be possible yet.
    pub fn may_turn_back(&self, world: &World) -> bool {
        let moving = self.book.object(world.store).moving.as_ref();
        moving.is_some_and(|moving| !moving.no_return)
    }
}

fn is_only_at_source(write: &Write) -> bool {
    matches!(write, Write::Acknowledged { owner: SOURCE, is_copied: false })
}

fn waits_in_flight(write: &Write) -> bool {
    (0..2).any(|pod| matches!(write, Write::Held(_)) && write.is_in_flight_at(pod))
}
