//! One way of a range: from the database that gives it to the one that takes it.

use crate::journal::Step;
use crate::limits::PauseLimits;
use crate::map::{Spillway, SpillwayError};
use crate::moved::{Channel, Move, MoveId};
use crate::server::Session;
use rules::shard::ShardKey;

/// What the journal says at each point of a switch.
#[derive(Debug, Clone, Copy)]
pub struct LegSteps {
    pub before: Step,
    pub announced: Step,
    pub fencing: Step,
    pub past_return: Step,
    pub committed: Step,
}

/// One way of a range.
pub struct Leg<'l> {
    pub id: MoveId,
    pub map: &'l str,
    /// FROM..UNTIL, as `spillway shards announce` takes it.
    pub range: String,
    pub moved: &'l Move,
    pub giver: &'l Session,
    pub taker: &'l Session,
    /// Name of the taker's shard.
    pub to: &'l str,
    /// By which the taker follows the giver.
    pub channel: Channel,
    /// Who leads the move in the map.
    pub driver: String,
    pub steps: LegSteps,
}

/// Why members of the map need not be waited for.
const GATED: &str = "--owner-is-fenced=the gate of reshard refuses writes";

impl<'l> Leg<'l> {
    /// From the source to the target.
    pub fn there(moved: &'l Move, source: &'l Session, target: &'l Session) -> Self {
        let steps = LegSteps {
            before: Step::Prepared,
            announced: Step::Announced,
            fencing: Step::Fencing,
            past_return: Step::PastReturn,
            committed: Step::Committed,
        };
        let driver = format!("reshard:{}", moved.id);
        let (id, channel) = (moved.id, moved.id.forward());
        let (giver, taker, to) = (source, target, &*moved.target);
        let (map, range) = (&*moved.map, moved.range.text());
        Self { id, map, range, moved, giver, taker, to, channel, driver, steps }
    }

    /// From the target back to the source.
    pub fn back(moved: &'l Move, source: &'l Session, target: &'l Session) -> Self {
        let steps = LegSteps {
            before: Step::Switched,
            announced: Step::BackAnnounced,
            fencing: Step::BackFencing,
            past_return: Step::BackPastReturn,
            committed: Step::RolledBack,
        };
        Self {
            giver: target,
            taker: source,
            to: &moved.source,
            channel: moved.id.back(),
            driver: format!("reshard:{}:back", moved.id),
            steps,
            ..Self::there(moved, source, target)
        }
    }

    /// Tells all members of the map; one that can't serve the taker, or a job that does not end, ends the move here.
    pub(super) async fn announce(
        &self,
        spillway: &Spillway,
        limits: &PauseLimits,
    ) -> Result<(), SpillwayError> {
        self.call(spillway, &self.announcing(limits)).await
    }

    /// Lets the range's writes wait in the sidecars. The gate makes it safe, so a member that does not answer is no
    /// reason to stay.
    pub(super) async fn fence(
        &self,
        spillway: &Spillway,
        seconds: u64,
    ) -> Result<(), SpillwayError> {
        self.call(spillway, &self.fencing(seconds)).await
    }

    /// From here on the move can only be committed.
    pub(super) async fn pass_return(&self, spillway: &Spillway) -> Result<(), SpillwayError> {
        match self.call(spillway, &self.passing_return()).await {
            Ok(()) => Ok(()),
            // Its answer may have been lost.
            Err(_) if self.map_is_past_return(spillway).await? => Ok(()),
            Err(why) => Err(why),
        }
    }

    pub(super) async fn commit(&self, spillway: &Spillway) -> Result<(), SpillwayError> {
        self.call(spillway, &self.committing()).await
    }

    /// Leaves the range with its giver in the map. False: the map has passed the point of no return.
    pub(crate) async fn abort(&self, spillway: &Spillway) -> Result<bool, SpillwayError> {
        loop {
            let object = spillway.map(self.map).await?;
            match object.moving.filter(|moving| moving.driver == self.driver) {
                None => return Ok(true),
                Some(moving) if moving.no_return => return Ok(false),
                Some(_) => {}
            }
            // A command of a tool that was killed may be first; then the map is looked at again.
            let failed = self.call(spillway, &self.command("abort")).await.err();
            let before = object.epoch;
            if let Some(why) = failed
                && spillway.map(self.map).await?.epoch == before
            {
                return Err(why);
            }
        }
    }

    /// Whether this move, and no other, can only be committed, or has been.
    pub(crate) async fn map_is_past_return(
        &self,
        spillway: &Spillway,
    ) -> Result<bool, SpillwayError> {
        let object = spillway.map(self.map).await?;
        if let Some(moving) = &object.moving {
            return Ok(moving.driver == self.driver && moving.no_return);
        }
        let key = self.moved.range.from().map(ShardKey::to_string);
        let owner = object.ranges.iter().find(|own| own.from == key);
        Ok(owner.is_some_and(|own| own.shard == self.to))
    }

    /// What `spillway shards` is given to announce the move.
    pub fn announcing(&self, limits: &PauseLimits) -> Vec<String> {
        let jobs = format!("--wait-jobs={}", limits.wait_jobs.as_secs());
        self.command("announce")
            .into_iter()
            .chain([format!("--range={}", self.range), format!("--to={}", self.to), jobs])
            .collect()
    }

    /// The same to fence it.
    pub fn fencing(&self, seconds: u64) -> Vec<String> {
        self.gated("fence", seconds)
    }

    /// The same to pass the point of no return.
    pub fn passing_return(&self) -> Vec<String> {
        self.gated("no-return", 1)
    }

    /// The same to commit it.
    pub fn committing(&self) -> Vec<String> {
        self.gated("commit", 1)
    }

    fn command(&self, name: &str) -> Vec<String> {
        vec![name.to_owned(), self.map.to_owned(), self.by(), "--yes".to_owned()]
    }

    fn gated(&self, name: &str, seconds: u64) -> Vec<String> {
        let own = [GATED.to_owned(), format!("--wait={seconds}")];
        self.command(name).into_iter().chain(own).collect()
    }

    async fn call(&self, spillway: &Spillway, command: &[String]) -> Result<(), SpillwayError> {
        let own: Vec<&str> = command.iter().map(String::as_str).collect();
        spillway.shards(&own).await.map(|_| ())
    }

    fn by(&self) -> String {
        format!("--driver={}", self.driver)
    }
}
