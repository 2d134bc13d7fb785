//! How a live map changes: each change makes the next object out of the last one.
//!
//! All of it is pure. The caller puts the new object into the store under the condition that the old one is
//! still there; nothing else makes a change happen.

use super::key::ShardKey;
use super::object::{
    Changed, EPOCH_MAX, FORMAT, GROWN_BYTES_MAX, MapObject, Move, MoveStage, OutsideOwner,
    RANGES_MAX, StoredRange,
};
use super::range::{FILE_EPOCH, RangeState, interval};
use crate::document::ShardMapSection;
use std::fmt;

/// The epoch of the first object of a live map; the map of a rules file has epoch 1.
pub const FIRST_EPOCH: u64 = 2;
/// The driver of a move whose data a person moves.
pub const BY_HAND: &str = "hand";

/// Why a map can't be changed so. The name is what commands print, for scripts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangeRefusal {
    /// Another move is under way.
    MoveUnderWay(String),
    /// No move is under way, or another one than was named.
    NoSuchMove,
    /// The move is not at the stage from which this goes on.
    WrongStage(&'static str),
    /// Another tool leads the move.
    OtherDriver(String),
    /// The move can only go forwards.
    PastReturn,
    /// The bounds are no interval of the map's ranges.
    BadRange(String),
    /// More than one shard owns the range.
    SeveralOwners,
    /// The target owns the range already.
    SameOwner,
    /// The map would have more than [`RANGES_MAX`] ranges.
    TooManyRanges,
    /// The object would have more than [`GROWN_BYTES_MAX`].
    TooLarge,
    /// Epochs are used up.
    EpochsUsedUp,
}

impl ChangeRefusal {
    /// The name as scripts read it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::MoveUnderWay(_) => "move-under-way",
            Self::NoSuchMove => "no-such-move",
            Self::WrongStage(_) => "wrong-stage",
            Self::OtherDriver(_) => "other-driver",
            Self::PastReturn => "move-past-return",
            Self::BadRange(_) => "bad-range",
            Self::SeveralOwners => "several-owners",
            Self::SameOwner => "same-owner",
            Self::TooManyRanges => "too-many-ranges",
            Self::TooLarge => "too-large",
            Self::EpochsUsedUp => "epochs-used-up",
        }
    }
}

impl fmt::Display for ChangeRefusal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MoveUnderWay(id) => write!(
                out,
                "move {id} is under way: commit or abort it first (one move of a map at a time)"
            ),
            Self::NoSuchMove => out.write_str("no such move is under way: `spillway shards show` says what is"),
            Self::WrongStage(stage) => write!(out, "the move is {stage}"),
            Self::OtherDriver(driver) => write!(
                out,
                "`{driver}` leads this move and knows where the data is: let it go on, or say --i-know WHY"
            ),
            Self::PastReturn => out.write_str(
                "the move is past its point of no return: the old owner takes no writes any more; commit it",
            ),
            Self::BadRange(why) => out.write_str(why),
            Self::SeveralOwners => out.write_str("several shards own parts of the range: move the parts one by one"),
            Self::SameOwner => out.write_str("the shard owns this range already"),
            Self::TooManyRanges => write!(out, "the map would have more than {RANGES_MAX} ranges: merge some first"),
            Self::TooLarge => write!(out, "the object would have more than {GROWN_BYTES_MAX} bytes: merge ranges first"),
            Self::EpochsUsedUp => out.write_str("the map has had 2^53 changes"),
        }
    }
}

impl std::error::Error for ChangeRefusal {}

/// What a new move is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MovePlan {
    /// The id, which no other move has.
    pub id: String,
    /// The lowest key that moves; none: from the open lower end.
    pub from: Option<String>,
    /// The first key above the range that stays; none: up to the open upper end.
    pub until: Option<String>,
    /// The new owner.
    pub target: String,
    /// Who leads the move: [`BY_HAND`], or the name of a tool.
    pub driver: String,
}

/// Who may end a move that another tool leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MoveDriver<'a> {
    /// Only a move that has this driver.
    Named(&'a str),
    /// Any move, because a person said why.
    Any,
}

/// The first object of a map: the ranges of its rules file.
pub fn first(name: &str, document: &ShardMapSection, changed: Changed) -> MapObject {
    let outside = document.outside.clone();
    MapObject {
        format: FORMAT,
        map: name.to_owned(),
        key_type: document.key_type,
        epoch: FIRST_EPOCH,
        ranges: document.ranges.iter().map(StoredRange::seed).collect(),
        until: document.until.clone(),
        outside: outside.map(|shard| OutsideOwner { shard, since: FILE_EPOCH }),
        moving: None,
        changed,
        mac: String::new(),
    }
}

impl MapObject {
    /// Begins a move: the range is cut out of its neighbours, which keep their owner and its epoch.
    ///
    /// # Errors
    /// When another move is under way, or the range can't move so.
    pub fn announce(&self, plan: MovePlan, changed: Changed) -> Result<Self, ChangeRefusal> {
        self.check_idle()?;
        let mut next = self.next(changed)?;
        let cut_from = match &plan.from {
            Some(from) => next.cut(from)?,
            None => false,
        };
        let cut_until = match &plan.until {
            Some(until) => next.cut(until)?,
            None => false,
        };
        let covered = next.covered(plan.from.as_deref(), plan.until.as_deref());
        let covered = covered.map_err(ChangeRefusal::BadRange)?;
        let source = next.owner_of(covered.clone())?;
        if source == plan.target {
            return Err(ChangeRefusal::SameOwner);
        }
        if next.ranges.len() > RANGES_MAX {
            return Err(ChangeRefusal::TooManyRanges);
        }
        next.set_state(covered, RangeState::Announced);
        let MovePlan { id, from, until, target, driver } = plan;
        let (stage, no_return, at) = (MoveStage::Announced, false, next.changed.at);
        next.moving = Some(Move {
            id,
            from,
            until,
            source,
            target,
            stage,
            driver,
            no_return,
            cut_from,
            cut_until,
            at,
        });
        next.checked()
    }

    /// Whether just this move is announced.
    pub fn has_announced(&self, plan: &MovePlan) -> bool {
        self.moving.as_ref().is_some_and(|own| {
            own.stage == MoveStage::Announced
                && (&own.from, &own.until) == (&plan.from, &plan.until)
                && (&own.target, &own.driver) == (&plan.target, &plan.driver)
        })
    }

    /// Lets the writes of the range wait.
    ///
    /// # Errors
    /// When the move is not announced, or another one leads it.
    pub fn fence(
        &self,
        id: &str,
        driver: MoveDriver<'_>,
        changed: Changed,
    ) -> Result<Self, ChangeRefusal> {
        let moving = self.led(id, driver)?;
        if moving.stage != MoveStage::Announced {
            return Err(ChangeRefusal::WrongStage("fenced already"));
        }
        let mut next = self.next(changed)?;
        next.set_state(self.moved()?, RangeState::Fenced);
        next.moving = Some(Move { stage: MoveStage::Fenced, ..moving.clone() });
        Ok(next)
    }

    /// Marks that there is no way back: from here on the move can only be committed.
    ///
    /// # Errors
    /// When the move is not fenced, or another one leads it.
    pub fn pass_return(
        &self,
        id: &str,
        driver: MoveDriver<'_>,
        changed: Changed,
    ) -> Result<Self, ChangeRefusal> {
        let moving = self.led(id, driver)?;
        if moving.stage != MoveStage::Fenced {
            return Err(ChangeRefusal::WrongStage("only announced: fence it first"));
        }
        let mut next = self.next(changed)?;
        next.moving = Some(Move { no_return: true, ..moving.clone() });
        Ok(next)
    }

    /// Gives the range to the target.
    ///
    /// # Errors
    /// When the move is not fenced, or another one leads it.
    pub fn commit(
        &self,
        id: &str,
        driver: MoveDriver<'_>,
        changed: Changed,
    ) -> Result<Self, ChangeRefusal> {
        let moving = self.led(id, driver)?;
        if moving.stage != MoveStage::Fenced {
            return Err(ChangeRefusal::WrongStage("only announced: fence it first"));
        }
        let covered = self.moved()?;
        let mut next = self.next(changed)?;
        let owned = StoredRange {
            from: moving.from.clone(),
            shard: moving.target.clone(),
            since: next.epoch,
            state: RangeState::Active,
        };
        next.ranges.splice(covered, [owned]);
        next.moving = None;
        Ok(next)
    }

    /// Whether this object is what the commit of that move made. The new owner's epoch tells it from an abort.
    pub fn has_committed(&self, last: &Move) -> bool {
        self.moving.is_none()
            && self.ranges.iter().any(|own| {
                (&own.from, &own.shard) == (&last.from, &last.target) && own.since == self.epoch
            })
    }

    /// Leaves the range with its owner, as it was before the announce.
    ///
    /// # Errors
    /// `move-past-return` when the owner no longer takes writes; when another one leads the move.
    pub fn abort(
        &self,
        id: &str,
        driver: MoveDriver<'_>,
        changed: Changed,
    ) -> Result<Self, ChangeRefusal> {
        let moving = self.led(id, driver)?;
        if moving.no_return {
            return Err(ChangeRefusal::PastReturn);
        }
        let covered = self.moved()?;
        let mut next = self.next(changed)?;
        next.set_state(covered.clone(), RangeState::Active);
        // The upper end is joined first, so that the lower position stays valid.
        if moving.cut_until {
            next.join(covered.end);
        }
        if moving.cut_from {
            next.join(covered.start);
        }
        next.moving = None;
        Ok(next)
    }

    pub(super) fn next(&self, changed: Changed) -> Result<Self, ChangeRefusal> {
        if self.epoch >= EPOCH_MAX {
            return Err(ChangeRefusal::EpochsUsedUp);
        }
        Ok(Self { epoch: self.epoch + 1, changed, mac: String::new(), ..self.clone() })
    }

    /// Refuses what no process would take, or what would leave no room to end what begins.
    ///
    /// # Errors
    /// `bad-range`, `too-large`.
    pub fn checked(self) -> Result<Self, ChangeRefusal> {
        self.check().map_err(ChangeRefusal::BadRange)?;
        if self.json().len() > GROWN_BYTES_MAX { Err(ChangeRefusal::TooLarge) } else { Ok(self) }
    }

    pub(super) fn check_idle(&self) -> Result<(), ChangeRefusal> {
        match &self.moving {
            Some(moving) => Err(ChangeRefusal::MoveUnderWay(moving.id.clone())),
            None => Ok(()),
        }
    }

    fn led(&self, id: &str, driver: MoveDriver<'_>) -> Result<&Move, ChangeRefusal> {
        let moving =
            self.moving.as_ref().filter(|own| own.id == id).ok_or(ChangeRefusal::NoSuchMove)?;
        match driver {
            MoveDriver::Named(name) if name != moving.driver => {
                Err(ChangeRefusal::OtherDriver(moving.driver.clone()))
            }
            MoveDriver::Named(_) | MoveDriver::Any => Ok(moving),
        }
    }

    fn moved(&self) -> Result<std::ops::Range<usize>, ChangeRefusal> {
        let moving = self.moving.as_ref().ok_or(ChangeRefusal::NoSuchMove)?;
        self.covered(moving.from.as_deref(), moving.until.as_deref())
            .map_err(ChangeRefusal::BadRange)
    }

    /// Lets a range begin at this key, and returns whether one was cut for that.
    pub(super) fn cut(&mut self, at: &str) -> Result<bool, ChangeRefusal> {
        let key = self.key(at).map_err(ChangeRefusal::BadRange)?;
        if self.until.as_deref() == Some(at) {
            return Ok(false);
        }
        let lies_below = |range: &StoredRange| {
            let from = range.from.as_deref().and_then(|from| ShardKey::parse(self.key_type, from));
            from.is_none_or(|from| from <= key)
        };
        let above = self.ranges.partition_point(lies_below);
        let end = self.until.as_deref().and_then(|until| ShardKey::parse(self.key_type, until));
        let is_inside = end.is_none_or(|end| key < end);
        let holder = above.checked_sub(1).filter(|_| is_inside);
        let Some((position, range)) = holder.and_then(|it| Some((it, self.ranges.get(it)?))) else {
            return Err(ChangeRefusal::BadRange(format!("no range holds {at}")));
        };
        if range.from.as_deref() == Some(at) {
            return Ok(false);
        }
        let upper = StoredRange { from: Some(at.to_owned()), ..range.clone() };
        self.ranges.insert(position + 1, upper);
        Ok(true)
    }

    /// Makes the range at a position one with the range below, from which it was cut.
    fn join(&mut self, position: usize) {
        let lower = position.checked_sub(1).and_then(|below| self.ranges.get(below));
        let is_one = lower.zip(self.ranges.get(position)).is_some_and(|(lower, upper)| {
            (&lower.shard, lower.since, lower.state) == (&upper.shard, upper.since, upper.state)
        });
        if is_one {
            self.ranges.remove(position);
        }
    }

    fn owner_of(&self, covered: std::ops::Range<usize>) -> Result<String, ChangeRefusal> {
        let mut owners = self.ranges.get(covered).unwrap_or_default().iter().map(|own| &own.shard);
        let first = owners
            .next()
            .ok_or_else(|| ChangeRefusal::BadRange("the range is empty".to_owned()))?;
        if owners.all(|other| other == first) {
            Ok(first.clone())
        } else {
            Err(ChangeRefusal::SeveralOwners)
        }
    }

    fn set_state(&mut self, covered: std::ops::Range<usize>, state: RangeState) {
        for range in self.ranges.get_mut(covered).unwrap_or_default() {
            range.state = state;
        }
    }

    /// The move in one line, for people.
    pub fn describe_move(&self) -> Option<String> {
        let moving = self.moving.as_ref()?;
        let range = interval(moving.from.as_deref(), moving.until.as_deref());
        let past = if moving.no_return { ", past its point of no return" } else { "" };
        let (id, source, target) = (&moving.id, &moving.source, &moving.target);
        let (stage, driver) = (moving.stage.as_str(), &moving.driver);
        Some(format!(
            "move {id}: {range} from {source} to {target}, {stage}{past}, led by {driver}"
        ))
    }
}
