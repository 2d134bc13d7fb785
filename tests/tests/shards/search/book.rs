//! Every version that the map can have in one move, and what the functions of `rules` decide about each pair of
//! them. Made once: the states of the search name versions by their position here.

use rules::shard::change::{BY_HAND, MoveDriver, MovePlan, first};
use rules::shard::object::{Changed, MapObject};
use rules::shard::protocol::{
    Ack, Adoption, Arrival, Arrived, Hindrance, Marker, adoption, hindrance, on_arrival,
};
use rules::shard::{Resolved, ShardKey, ShardKeys, ShardMap};
use rules::{Rules, UnixMillis};
use std::sync::Arc;

/// Position of a version.
pub type Version = u8;
/// The map before the move, which pods follow at first.
pub const BEFORE: Version = 0;
/// The version that announces the move.
pub const ANNOUNCED: Version = 1;
/// More versions than one move has.
const VERSIONS_MAX: usize = 12;

/// The shards, of which each has one pod beside it: the owner before the move, the one after it.
pub const SHARDS: [&str; 2] = ["a", "b"];
/// The pod, and shard, that owns the range before the move.
pub const SOURCE: usize = 0;
/// The one that owns it after a commit.
pub const TARGET: usize = 1;

const FILE: &str = r#"
[[route]]
name = "orders"
match = { path = "/orders/{id}" }
shard = { map = "m", from = ["path:id"] }
[shard_map.m]
key_type = "int"
live = true
ranges = [{ from = 1, shard = "a" }, { from = 100, shard = "b" }]
until = 300
shards = { a = { upstream = "app-a" }, b = { upstream = "app-b" } }
"#;
const MAP: &str = "m";
/// Of the move.
const ID: &str = "1";
/// A key of the range that moves.
const KEY: i64 = 42;

/// What a coordinator makes of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Fence,
    PassReturn,
    Commit,
    Abort,
    /// What no version of the program does: the object from before the move is put back.
    PutBack,
    /// The same: what an abort makes, under the epoch that it ends.
    AbortInSameEpoch,
    /// The same: an abort past the point of no return.
    AbortForced,
}

impl Change {
    const ALL: [Self; 7] = [
        Self::Fence,
        Self::PassReturn,
        Self::Commit,
        Self::Abort,
        Self::PutBack,
        Self::AbortInSameEpoch,
        Self::AbortForced,
    ];
}

/// What a member answers to the coordinator that shows it a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// The version in force there; none: it knows no map.
    pub follows: Option<Version>,
    pub has_writes: bool,
}

/// A version, and what is decided about it. Decisions are looked up: a search asks for each of them a million times.
struct Entry {
    object: MapObject,
    hash: String,
    resolved: Resolved,
    owner: usize,
    nexts: [Option<Version>; Change::ALL.len()],
    /// By the version in force.
    adoptions: Vec<Adoption>,
    /// By what the member follows and whether it has writes.
    hindrances: Vec<[Option<Hindrance>; 2]>,
    /// By the receiver's version and what it knows.
    arrivals: Vec<[Arrival; Receiving::COUNT]>,
}

/// What a pod knows that decides about a write which another one sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receiving {
    pub pod: usize,
    pub is_refreshed: bool,
    pub is_write: bool,
}

impl Receiving {
    const COUNT: usize = 8;

    fn number(self) -> usize {
        self.pod << 2 | usize::from(self.is_refreshed) << 1 | usize::from(self.is_write)
    }

    fn of(number: usize) -> Self {
        let (is_refreshed, is_write) = (number & 2 != 0, number & 1 != 0);
        Self { pod: number >> 2, is_refreshed, is_write }
    }
}

pub struct Book {
    rules: Rules,
    entries: Vec<Entry>,
}

fn changed() -> Changed {
    Changed { by: "model".to_owned(), at: UnixMillis(7), why: String::new() }
}

fn rules() -> Rules {
    Rules::from_toml(FILE).expect("good rules")
}

fn before() -> MapObject {
    first(MAP, &rules().document.shard_maps[MAP], changed())
}

fn keys() -> ShardKeys {
    ShardKeys::One(ShardKey::Int(KEY))
}

impl Book {
    pub fn new() -> Self {
        let mut book = Self { rules: rules(), entries: Vec::new() };
        let seed = before();
        let bound = |key: i64| Some(key.to_string());
        let plan = MovePlan {
            id: ID.to_owned(),
            from: bound(10),
            until: bound(60),
            target: SHARDS[TARGET].to_owned(),
            driver: BY_HAND.to_owned(),
        };
        let announced = seed.announce(plan, changed()).expect("announced");
        book.keep(seed);
        book.keep(announced);
        let mut next = usize::from(ANNOUNCED);
        while next < book.entries.len() {
            for change in Change::ALL {
                if let Some(object) = changed_by(&book.entries[next].object, change) {
                    book.keep(object);
                }
            }
            next += 1;
        }
        for version in 0..book.count() {
            book.decide(version);
        }
        book
    }

    fn keep(&mut self, object: MapObject) {
        object.check().expect("consistent");
        if self.entries.iter().any(|own| own.object == object) {
            return;
        }
        let document = &self.rules.document.shard_maps[MAP];
        let map = ShardMap::live(&MAP.into(), document, &Arc::new(object.clone()));
        let resolved = Resolved::find(&map.expect("a map"), keys()).expect("an owner");
        let owner = SHARDS.iter().position(|shard| **shard == **resolved.shard());
        self.entries.push(Entry {
            hash: object.hash(),
            object,
            resolved,
            owner: owner.expect("one of the shards"),
            nexts: Default::default(),
            adoptions: Vec::new(),
            hindrances: Vec::new(),
            arrivals: Vec::new(),
        });
        assert!(self.entries.len() <= VERSIONS_MAX, "one move has more versions than expected");
    }

    /// Asks `rules` for everything that is decided about a version.
    fn decide(&mut self, version: Version) {
        let all = 0..self.count();
        let nexts = Change::ALL.map(|change| self.made_by(version, change));
        let adoptions = all.clone().map(|own| adoption(Some(self.told(own)), self.told(version)));
        let adoptions = adoptions.collect();
        let answered =
            |follows| [false, true].map(|has_writes| self.judged(version, follows, has_writes));
        let hindrances = all.clone().map(Some).chain([None]).map(answered).collect();
        let arrived =
            |own| std::array::from_fn(|number| self.arrived(version, own, Receiving::of(number)));
        let arrivals = all.map(arrived).collect();
        let entry = &mut self.entries[usize::from(version)];
        (entry.nexts, entry.adoptions) = (nexts, adoptions);
        (entry.hindrances, entry.arrivals) = (hindrances, arrivals);
    }

    /// As `adoption` compares versions.
    fn told(&self, version: Version) -> (u64, &str) {
        (self.epoch(version), self.entry(version).hash.as_str())
    }

    fn entry(&self, version: Version) -> &Entry {
        &self.entries[usize::from(version)]
    }

    pub fn count(&self) -> Version {
        u8::try_from(self.entries.len()).expect("few versions")
    }

    pub fn object(&self, version: Version) -> &MapObject {
        &self.entry(version).object
    }

    /// A version in words.
    pub fn words(&self, version: Version) -> String {
        let range = &self.resolved(version).range;
        let (epoch, shard, state) = (range.epoch, &range.shard, range.state.as_str());
        let is_past = self.object(version).moving.as_ref().is_some_and(|moving| moving.no_return);
        let past = if is_past { ", no way back" } else { "" };
        format!("epoch {epoch} ({shard} owns the range, {state}{past})")
    }

    /// How the key of a write is resolved under a version.
    pub fn resolved(&self, version: Version) -> &Resolved {
        &self.entry(version).resolved
    }

    pub fn epoch(&self, version: Version) -> u64 {
        self.object(version).epoch
    }

    /// Which pod's shard owns the key.
    pub fn owner(&self, version: Version) -> usize {
        self.entry(version).owner
    }

    /// Whether nothing moves in this version.
    pub fn is_at_rest(&self, version: Version) -> bool {
        self.object(version).moving.is_none()
    }

    pub fn is_committed(&self, version: Version) -> bool {
        self.is_at_rest(version) && self.owner(version) == TARGET
    }

    pub fn is_aborted(&self, version: Version) -> bool {
        self.is_at_rest(version) && self.owner(version) == SOURCE
    }

    /// The version that a change makes of another; none where the change is refused.
    pub fn next(&self, version: Version, change: Change) -> Option<Version> {
        self.entry(version).nexts[change as usize]
    }

    fn made_by(&self, version: Version, change: Change) -> Option<Version> {
        let object = changed_by(self.object(version), change)?;
        let position = self.entries.iter().position(|own| own.object == object);
        Some(u8::try_from(position.expect("made before")).expect("few versions"))
    }

    /// What a process that follows one version, or none, does with another.
    pub fn adoption(&self, in_force: Option<Version>, shown: Version) -> Adoption {
        match in_force {
            Some(own) => self.entry(shown).adoptions[usize::from(own)],
            None => adoption(None, self.told(shown)),
        }
    }

    /// What keeps a member that answers so from the stage of an object.
    pub fn hindrance(&self, shown: Version, answer: Option<Answer>) -> Option<Hindrance> {
        let Some(Answer { follows, has_writes }) = answer else {
            return hindrance(self.object(shown), "", None);
        };
        let follows = follows.map_or(self.entries.len(), usize::from);
        self.entry(shown).hindrances[follows][usize::from(has_writes)].clone()
    }

    fn judged(
        &self,
        shown: Version,
        follows: Option<Version>,
        has_writes: bool,
    ) -> Option<Hindrance> {
        let map_rules = self.rules.document.map_rules(MAP);
        let (epoch, hash) = follows.map_or((0, ""), |version| self.told(version));
        let ack = Ack {
            pod: "a pod".to_owned(),
            version: "0.1.0".to_owned(),
            map: MAP.to_owned(),
            is_live: true,
            epoch,
            hash: hash.to_owned(),
            map_rules: map_rules.clone(),
            seed: String::new(),
            config_hash: self.rules.hash.clone(),
            in_flight: has_writes.into(),
            unsettled: 0,
            adopted: Vec::new(),
            jobs: Vec::new(),
            writes: Vec::new(),
            held: 0,
            unknown_shards: Vec::new(),
            unbound: Vec::new(),
        };
        hindrance(self.object(shown), &map_rules, Some(&ack))
    }

    /// What a pod that follows `own` does with a write that a pod sent it under `sent`.
    pub fn arrival(&self, sent: Version, own: Version, receiving: Receiving) -> Arrival {
        self.entry(sent).arrivals[usize::from(own)][receiving.number()]
    }

    fn arrived(&self, sent: Version, own: Version, receiving: Receiving) -> Arrival {
        let sender = self.resolved(sent);
        let marker = Marker {
            knows_stale: true,
            map: MAP.to_owned(),
            shard: sender.shard().to_string(),
            epoch: sender.epoch(),
            is_recent: true,
        };
        let Receiving { pod, is_refreshed, is_write } = receiving;
        let arrived = Arrived {
            is_here: self.owner(own) == pod,
            own_shard: Some(SHARDS[pod]),
            is_refreshed,
            is_write,
        };
        let arrival = on_arrival(&marker, self.resolved(own), arrived);
        if arrival == Arrival::ServeAsSent {
            // The search goes on with the sender's version in place of this. A fenced write is not sent.
            let as_sent = self.resolved(own).as_sent(&marker);
            assert_eq!((as_sent.shard(), as_sent.epoch()), (sender.shard(), sender.epoch()));
            assert!(!as_sent.must_wait(true));
        }
        arrival
    }
}

fn changed_by(object: &MapObject, change: Change) -> Option<MapObject> {
    let driver = MoveDriver::Named(BY_HAND);
    match change {
        Change::Fence => object.fence(ID, driver, changed()).ok(),
        // It may be said twice; once is enough here.
        Change::PassReturn if object.moving.as_ref().is_some_and(|own| own.no_return) => None,
        Change::PassReturn => object.pass_return(ID, driver, changed()).ok(),
        Change::Commit => object.commit(ID, driver, changed()).ok(),
        Change::Abort => object.abort(ID, driver, changed()).ok(),
        Change::PutBack => {
            object.abort(ID, driver, changed()).ok()?;
            Some(before())
        }
        Change::AbortInSameEpoch => {
            let aborted = object.abort(ID, driver, changed()).ok()?;
            Some(MapObject { epoch: object.epoch, ..aborted })
        }
        Change::AbortForced => {
            let mut forced = object.clone();
            forced.moving.as_mut()?.no_return = false;
            forced.abort(ID, driver, changed()).ok()
        }
    }
}
