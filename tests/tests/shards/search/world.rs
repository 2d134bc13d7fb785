//! One state of everything: store, owners, pods, coordinators, writes. Small, and equal states have equal codes.

use super::book::{ANNOUNCED, BEFORE, SOURCE, TARGET, Version};

/// Position of a pod, and of the shard beside it.
pub type PodIndex = usize;

/// A process beside the application that holds a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pod {
    pub map: PodMap,
    pub has_crashed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PodMap {
    /// The process does not run.
    Down,
    /// It knows no map, and refuses what needs one.
    Unknown,
    Follows(Version),
}

impl Pod {
    pub fn is_up(self) -> bool {
        self.map != PodMap::Down
    }

    pub fn follows(self) -> Option<Version> {
        match self.map {
            PodMap::Follows(version) => Some(version),
            PodMap::Down | PodMap::Unknown => None,
        }
    }
}

/// The owner's own gate (`spillway.gate_N` of reshard): whether it takes writes of the range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Gate {
    Open = 0,
    Closed = 1,
    /// Closed for good: the range lies elsewhere.
    Moved = 2,
}

/// Where a coordinator stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Post {
    /// It does not run, has ended, or was overtaken.
    Idle,
    /// At this stage of the protocol's order.
    At(u8),
    /// It aborts, and opens the source's gate first.
    Reopens,
    /// It aborts, and puts the map next.
    Aborts,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Coordinator {
    pub post: Post,
    /// The version that it read or put last: the condition of its next put.
    pub seen: Version,
    /// What it has heard from the members, while it asks them.
    pub round: Heard,
}

/// A round of questions to the members.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Heard {
    /// Bits of the pods that are listed and have not followed in this round.
    pub missing: u8,
    /// Bits of the processes that have: see [`World::process`].
    pub followed: u8,
    /// Bits of those that had in the round before.
    pub before: u8,
}

impl Coordinator {
    pub const IDLE: Self = Self {
        post: Post::Idle,
        seen: BEFORE,
        round: Heard { missing: 0, followed: 0, before: 0 },
    };
}

/// Through which pods a write goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way {
    /// Where it came from its client.
    pub origin: PodIndex,
    /// By which version that pod sent it to the other one, if it did: what its marker says.
    pub marker: Option<Version>,
}

impl Way {
    /// The pod that has it now.
    pub fn at(self) -> PodIndex {
        if self.marker.is_some() { 1 - self.origin } else { self.origin }
    }

    pub fn passes(self, pod: PodIndex) -> bool {
        self.origin == pod || self.at() == pod
    }
}

/// A client's write of a key in the range that moves. A version is the one under which it was resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Write {
    New,
    /// The map was looked at, and it is not entered yet: only in a broken protocol.
    Looked(Way, Version),
    /// It is counted as in flight, and the map was not looked at again.
    Entered(Way, Version),
    /// It waits in a pod for the end of the move.
    Held(Way),
    /// On its way from one pod to another.
    Away(PodIndex, Version),
    /// On its way to the owner.
    Sent(Way, Version),
    /// The owner has let it in, and has not committed it.
    Open(Way, usize),
    /// The client was told that it is written, at this owner.
    Acknowledged {
        owner: usize,
        /// Whether it was copied to the target since.
        is_copied: bool,
    },
    /// It was refused, or a process ended before it could answer: the client knows that it may be lost.
    Ended,
}

impl Write {
    const CODE_BITS: u32 = 13;

    pub fn is_under_way(self) -> bool {
        !matches!(self, Self::New | Self::Acknowledged { .. } | Self::Ended)
    }

    /// Whether a pod counts it among its writes in flight.
    pub fn is_in_flight_at(self, pod: PodIndex) -> bool {
        match self {
            Self::Entered(way, _) | Self::Sent(way, _) | Self::Open(way, _) => way.passes(pod),
            // The pod that has it has not entered it; the one that sent it has.
            Self::Looked(way, _) | Self::Held(way) => way.marker.is_some() && way.origin == pod,
            Self::Away(origin, _) => origin == pod,
            Self::New | Self::Acknowledged { .. } | Self::Ended => false,
        }
    }

    /// Whether it ends with a pod.
    pub fn needs(self, pod: PodIndex) -> bool {
        match self {
            Self::Looked(way, _)
            | Self::Entered(way, _)
            | Self::Held(way)
            | Self::Sent(way, _)
            | Self::Open(way, _) => way.passes(pod),
            Self::Away(origin, _) => origin == pod,
            Self::New | Self::Acknowledged { .. } | Self::Ended => false,
        }
    }

    fn code(self) -> u32 {
        // No version has this number.
        let way = |way: Way| u32::from(way.marker.unwrap_or(15)) << 1 | way.origin as u32;
        let (kind, way, rest) = match self {
            Self::New => (0, 0, 0),
            Self::Looked(own, version) => (1, way(own), version),
            Self::Entered(own, version) => (2, way(own), version),
            Self::Held(own) => (3, way(own), 0),
            Self::Away(origin, version) => (4, origin as u32, version),
            Self::Sent(own, version) => (5, way(own), version),
            Self::Open(own, owner) => (6, way(own), owner as u8),
            Self::Acknowledged { owner, is_copied } => (7, owner as u32, is_copied.into()),
            Self::Ended => (8, 0, 0),
        };
        kind << 9 | way << 4 | u32::from(rest)
    }
}

/// What must never happen and is seen in a step, not in a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mishap {
    None,
    /// A write that followed the map after the move met the new owner's closed gate.
    MetClosedGate,
    /// A pod put a lower epoch in force than it had.
    EpochFell,
    /// Two pods disagreed about a write for good: 508.
    Loop,
    /// A pod decided about a write, and was to decide the same again.
    WentRound,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct World {
    pub store: Version,
    /// Bits of all versions that the store ever had.
    pub stored: u16,
    pub gates: [Gate; 2],
    /// The coordinator that may change the owners (a session lock at the source).
    pub leader: Option<usize>,
    pub pods: [Pod; 2],
    pub coordinators: [Coordinator; 2],
    pub writes: [Write; 2],
    pub mishap: Mishap,
}

impl World {
    /// A move was announced, and nobody has heard of it.
    pub fn new() -> Self {
        let pod = Pod { map: PodMap::Follows(BEFORE), has_crashed: false };
        let first = Coordinator { post: Post::At(0), seen: ANNOUNCED, ..Coordinator::IDLE };
        Self {
            store: ANNOUNCED,
            stored: 1 << BEFORE | 1 << ANNOUNCED,
            gates: [Gate::Open, Gate::Closed],
            leader: Some(0),
            pods: [pod; 2],
            coordinators: [first, Coordinator::IDLE],
            writes: [Write::New; 2],
            mishap: Mishap::None,
        }
    }

    /// Number of the process that a pod is now: a pod crashes once.
    pub fn process(&self, pod: PodIndex) -> usize {
        pod << 1 | usize::from(self.pods[pod].has_crashed)
    }

    /// Names the state: other states have other codes. Writes are all alike: their order means nothing.
    pub fn code(&self) -> u128 {
        let mut upper = Code(0);
        upper.push(self.store, 4);
        upper.push(self.stored, 12);
        upper.push(self.gates[SOURCE] as u8, 2);
        upper.push(self.gates[TARGET] as u8, 2);
        upper.push(self.leader.map_or(2, |leader| leader as u8), 2);
        for pod in &self.pods {
            let map = match pod.map {
                PodMap::Follows(version) => version,
                PodMap::Unknown => 14,
                PodMap::Down => 15,
            };
            upper.push(map, 4);
            upper.push(pod.has_crashed, 1);
        }
        upper.push(self.mishap as u8, 3);
        let mut lower = Code(0);
        for Coordinator { post, seen, round } in &self.coordinators {
            let post = match post {
                Post::At(stage) => *stage,
                Post::Idle => 13,
                Post::Reopens => 14,
                Post::Aborts => 15,
            };
            lower.push(post, 4);
            lower.push(*seen, 4);
            lower.push(round.missing, 2);
            lower.push(round.followed, 4);
            lower.push(round.before, 4);
        }
        let (one, other) = (self.writes[0].code(), self.writes[1].code());
        lower.push(one.min(other), Write::CODE_BITS);
        lower.push(one.max(other), Write::CODE_BITS);
        u128::from(upper.0) << 64 | u128::from(lower.0)
    }
}

/// Numbers side by side.
struct Code(u64);

impl Code {
    fn push(&mut self, value: impl Into<u64>, bits: u32) {
        self.0 = self.0 << bits | value.into();
    }
}
