//! The steps of a move. Each puts one object into the store; a coordinator that ends in between leaves a map
//! from which any other may go on.

use super::super::stop::Stop;
use super::arguments::{Announcing, GatedStep, MoveStep};
use super::coordinator::{Coordinator, StoredMap};
use super::events::listed;
use crate::clock::{Clock, System};
use rules::shard::change::{ChangeRefusal, MoveDriver, MovePlan};
use rules::shard::coordinate::{Excuses, Laggard, MoveMember, needs_members};
use rules::shard::object::{Changed, MapObject, Move, MoveStage};
use rules::shard::protocol::{Ack, Hindrance};
use serde_json::json;
use std::time::Duration;
use tokio::time::Instant;

/// Of the hold time of writes: left for the commit and for the processes to hear of it.
const COMMIT_SHARE: Duration = Duration::from_secs(1);
/// How long members have to hear of an announce that reaches them by a push.
const ANNOUNCE_WAIT: Duration = Duration::from_secs(5);

fn led_by(step: &MoveStep) -> MoveDriver<'_> {
    if step.i_know.is_some() { MoveDriver::Any } else { MoveDriver::Named(&step.driver) }
}

fn moving(object: &MapObject) -> Result<&Move, Stop> {
    object.moving.as_ref().ok_or_else(|| {
        Stop::run(
            "no-such-move: no move of this map is under way: `spillway shards announce` begins one",
        )
    })
}

impl Coordinator<'_> {
    pub(super) async fn announce(&self, own: &Announcing) -> Result<(), Stop> {
        let name = &own.changing.map;
        let stored = self.stored(name).await?;
        let Some((from, until)) = own.range.split_once("..") else {
            return Err(Stop::config(format!("--range {}: write FROM..UNTIL", own.range)));
        };
        let bound = |text: &str| match text {
            "" => Ok(None),
            text => self.bound(name, text).map(Some),
        };
        let plan = MovePlan {
            id: crate::secrets::random_hex(4).map_err(Stop::run)?,
            from: bound(from)?,
            until: bound(until)?,
            target: own.to.clone(),
            driver: own.driver.clone(),
        };
        let stored = if stored.object.has_announced(&plan) {
            // Another coordinator began it and has ended: this one waits for the members in its place.
            stored
        } else {
            let what = format!("announce {} to {}", own.range, own.to);
            let next = stored.object.announce(plan, self.changed(&own.changing, &what));
            match self.change(&own.changing, Some(&stored), next).await? {
                Some(stored) => stored,
                None => return Ok(()),
            }
        };
        let id = moving(&stored.object)?.id.clone();
        self.forget_members(name, &id).await;
        let wait_jobs = Duration::from_secs(own.wait_jobs);
        let followed = self.all_announced(&stored.object, wait_jobs).await;
        self.or_abort(&stored, followed, MoveDriver::Named(&own.driver)).await?;
        let sentence = format!("{name}: every member follows; now `spillway shards fence {name}`");
        self.events.say("announced", json!({ "map": name, "move": id }), &sentence)
    }

    /// Waits until every member follows the announce, and no job of the range runs; those that don't.
    async fn all_announced(
        &self,
        object: &MapObject,
        wait_jobs: Duration,
    ) -> Result<Vec<Laggard>, Stop> {
        let told = Instant::now();
        let laggards = self.follow(object, told + ANNOUNCE_WAIT, Excuses::default()).await?;
        if !laggards.is_empty() {
            return Ok(laggards);
        }
        // Those that no address leads to look for themselves, and register.
        let poll = Duration::from_secs(self.settings.map_poll).mul_f64(1.2);
        tokio::time::sleep_until(told + poll).await;
        let end = told + poll + ANNOUNCE_WAIT;
        let laggards = self.follow(object, end, Excuses::default()).await?;
        if laggards.is_empty() { self.wait_for_jobs(object, wait_jobs).await } else { Ok(laggards) }
    }

    /// Jobs and adopted requests of the range may run for long: no write waits for them yet.
    async fn wait_for_jobs(
        &self,
        object: &MapObject,
        wait: Duration,
    ) -> Result<Vec<Laggard>, Stop> {
        let end = Instant::now() + wait;
        loop {
            let heard = self.heard(object, Duration::ZERO).await?;
            let busy: Vec<Laggard> = heard.iter().filter_map(with_jobs).collect();
            if busy.is_empty() || Instant::now() >= end {
                return Ok(busy);
            }
            for own in &busy {
                let facts = json!({ "pod": own.who, "why": own.why.to_string() });
                self.events.say("waiting", facts, &format!("  {} {}", own.who, own.why))?;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    pub(super) async fn fence(&self, own: &GatedStep) -> Result<(), Stop> {
        let (changing, driver) = (&own.step.changing, led_by(&own.step));
        let stored = self.stored(&changing.map).await?;
        let Move { id, stage, .. } = moving(&stored.object)?.clone();
        // Found out before anything waits.
        let wait = self.wait(own)?;
        let stored = if stage == MoveStage::Fenced {
            // Another coordinator fenced it and has ended: this one waits for the members in its place.
            stored
        } else {
            let next = stored.object.fence(&id, driver, self.changed(changing, "fence"));
            match self.change(changing, Some(&stored), next).await? {
                Some(stored) => stored,
                None => return Ok(()),
            }
        };
        let began = Instant::now();
        let followed = self.follow(&stored.object, began + wait, excuses(own)).await;
        self.or_abort(&stored, followed, driver).await?;
        let map = &changing.map;
        let took = began.elapsed().as_millis();
        self.events.say(
            "fenced",
            json!({ "map": map, "move": id, "milliseconds": took }),
            &format!("{map}: no write of the range is in flight ({took} ms)"),
        )
    }

    pub(super) async fn pass_return(&self, own: &GatedStep) -> Result<(), Stop> {
        let (changing, driver) = (&own.step.changing, led_by(&own.step));
        let stored = self.stored(&changing.map).await?;
        let Move { id, no_return, .. } = moving(&stored.object)?.clone();
        if no_return {
            let (map, epoch) = (&stored.object.map, stored.object.epoch);
            let facts = json!({ "map": map, "epoch": epoch });
            let sentence =
                format!("{map}: epoch {epoch} has passed the point of no return already");
            return self.events.say("stored", facts, &sentence);
        }
        self.all_have_followed(&stored.object, own).await?;
        let next = stored.object.pass_return(&id, driver, self.changed(changing, "no return"));
        self.change(changing, Some(&stored), next).await.map(|_| ())
    }

    pub(super) async fn commit(&self, own: &GatedStep) -> Result<(), Stop> {
        let (changing, driver) = (&own.step.changing, led_by(&own.step));
        let stored = self.stored(&changing.map).await?;
        if let Some(epoch) = self.committed_already(&stored.object, driver).await? {
            let facts = json!({ "map": changing.map, "epoch": epoch });
            let sentence = format!("{}: committed already, epoch {epoch}", changing.map);
            return self.events.say("committed", facts, &sentence);
        }
        let id = moving(&stored.object)?.id.clone();
        self.all_have_followed(&stored.object, own).await?;
        let what = match (&own.owner_is_fenced, own.without.is_empty()) {
            (Some(why), _) => format!("commit (the owner is fenced: {why})"),
            (None, false) => format!("commit (without {})", own.without.join(", ")),
            (None, true) => "commit".to_owned(),
        };
        let next = stored.object.commit(&id, driver, self.changed(changing, &what));
        let Some(stored) = self.change(changing, Some(&stored), next).await? else { return Ok(()) };
        self.tell_end(&stored, "committed").await
    }

    /// The epoch that committed the last move of this driver. Whoever commits may not have heard that it worked,
    /// and says it again.
    async fn committed_already(
        &self,
        object: &MapObject,
        driver: MoveDriver<'_>,
    ) -> Result<Option<u64>, Stop> {
        if object.moving.is_some() {
            return Ok(None);
        }
        let mut versions = self.versions(&object.map).await?;
        versions.retain(|own| own.epoch < object.epoch);
        versions.push(object.clone());
        let last = versions.iter().zip(versions.iter().skip(1)).rev().find_map(|(old, new)| {
            let moving = old.moving.as_ref()?;
            Some((moving, new))
        });
        let Some((last, after)) = last else { return Ok(None) };
        let is_own = match driver {
            MoveDriver::Named(name) => last.driver == name,
            MoveDriver::Any => true,
        };
        Ok((is_own && after.has_committed(last)).then_some(after.epoch))
    }

    pub(super) async fn abort(&self, own: &MoveStep) -> Result<(), Stop> {
        let stored = self.stored(&own.changing.map).await?;
        let id = moving(&stored.object)?.id.clone();
        let next = stored.object.abort(&id, led_by(own), self.changed(&own.changing, "abort"));
        let Some(stored) = self.change(&own.changing, Some(&stored), next).await? else {
            return Ok(());
        };
        self.tell_end(&stored, "aborted").await
    }

    /// The map says it: processes that do not hear it now look for themselves within half a second.
    async fn tell_end(&self, stored: &StoredMap, event: &str) -> Result<(), Stop> {
        let (map, epoch) = (&stored.object.map, stored.object.epoch);
        match self.heard(&stored.object, Duration::ZERO).await {
            Ok(heard) => {
                for own in self.judged(&stored.object, &heard).laggards {
                    let why = own.why.to_string();
                    let facts = json!({ "pod": own.who, "why": why, "detail": own.detail });
                    let sentence = format!("  {} {why} {}", own.who, own.detail);
                    self.events.say("behind", facts, sentence.trim_end())?;
                }
            }
            // What was done is done, whoever could be told of it.
            Err(untold) => {
                let sentence = format!("  nobody was told: {}", untold.reason);
                self.events.say("untold", json!({ "why": untold.reason }), &sentence)?;
            }
        }
        let sentence = format!("{map}: {event}, epoch {epoch}");
        self.events.say(event, json!({ "map": map, "epoch": epoch }), &sentence)
    }

    /// Lists the members again: one may have come since the fence.
    async fn all_have_followed(&self, object: &MapObject, own: &GatedStep) -> Result<(), Stop> {
        if !needs_members(object).map_err(refused)? {
            return Ok(());
        }
        let laggards = self.follow(object, Instant::now() + self.wait(own)?, excuses(own)).await?;
        if laggards.is_empty() {
            return Ok(());
        }
        Err(Stop::run(format!("members-behind: nothing was changed:\n{}", listed(&laggards))))
    }

    fn wait(&self, own: &GatedStep) -> Result<Duration, Stop> {
        if self.settings.sidecars.is_empty() && own.owner_is_fenced.is_none() {
            return Err(Stop::config(
                "no member is named: add --sidecars HOST:PORT of all sidecars and consumers, or --owner-is-fenced WHY",
            ));
        }
        let hold = Duration::from(self.document(&own.step.changing.map)?.hold.time);
        Ok(own.wait.map_or(hold.saturating_sub(COMMIT_SHARE), Duration::from_secs))
    }

    /// A move that its members can't follow, or of which nobody knows whether they do, ends at once: writes wait
    /// for it.
    async fn or_abort(
        &self,
        stored: &StoredMap,
        followed: Result<Vec<Laggard>, Stop>,
        driver: MoveDriver<'_>,
    ) -> Result<(), Stop> {
        let (short, whole) = match followed {
            Ok(laggards) => match laggards.first() {
                None => return Ok(()),
                Some(first) => {
                    (first.who.clone(), format!("members-behind:\n{}", listed(&laggards)))
                }
            },
            Err(stop) => (stop.reason.clone(), stop.reason),
        };
        let Move { id, .. } = moving(&stored.object)?;
        let by = stored.object.changed.by.clone();
        let changed = Changed { by, why: format!("abort: {short}"), at: System.now() };
        let next = stored.object.abort(id, driver, changed).map_err(refused);
        let aborted = match next {
            Ok(next) => self.put(Some(stored), next).await,
            Err(why) => Err(why),
        };
        match aborted {
            Ok(aborted) => {
                self.tell_end(&aborted, "aborted").await?;
                Err(Stop::run(format!("the move was aborted: {whole}")))
            }
            Err(why) => Err(Stop::run(format!(
                "{whole}\nthe move could not be aborted: {}\nlook with `spillway shards show {map}`, and end it with `spillway shards abort {map}`",
                why.reason,
                map = stored.object.map
            ))),
        }
    }

    /// # Errors
    /// Code 78 when no member is named.
    pub(super) fn check_members_are_named(&self) -> Result<(), Stop> {
        if self.settings.sidecars.is_empty() {
            return Err(Stop::config(
                "no member is named: add --sidecars HOST:PORT of all sidecars and consumers",
            ));
        }
        Ok(())
    }

    pub(super) async fn members(&self, map: &str) -> Result<(), Stop> {
        self.check_members_are_named()?;
        let StoredMap { object, .. } = self.stored(map).await?;
        let heard = self.heard(&object, Duration::ZERO).await?;
        self.say_members(&object, &heard)
    }

    /// Says what each member follows.
    pub(super) fn say_members(&self, object: &MapObject, heard: &[MoveMember]) -> Result<(), Stop> {
        let laggards = self.judged(object, heard).laggards;
        for member in heard {
            let why = laggards.iter().find(|own| own.who == member.who).map(|own| &own.why);
            let standing = why.map_or_else(|| "follows".to_owned(), Hindrance::to_string);
            let facts = json!({
                "pod": member.who, "standing": standing, "detail": member.detail,
                "ack": serde_json::to_value(&member.ack).unwrap_or_default(),
            });
            let about = member.ack.as_ref().map_or_else(|| member.detail.clone(), described);
            self.events.say("member", facts, &format!("  {}  {standing}  {about}", member.who))?;
        }
        Ok(())
    }

    /// The objects that running processes follow.
    pub(super) async fn of_members(&self, map: &str) -> Vec<MapObject> {
        let mut found = Vec::new();
        for name in &self.settings.sidecars {
            for address in super::super::pods::addresses(name).await.unwrap_or_default() {
                let request = http::Request::get(format!("http://{address}/shards/map?map={map}"));
                let token = self.settings.admin_token.as_deref();
                let wait = (String::new(), Duration::from_secs(3));
                let said = super::super::pods::send(&self.client, request, token, wait).await;
                found.extend(said.ok().and_then(|text| MapObject::read(text.as_bytes()).ok()));
            }
        }
        found
    }
}

fn described(ack: &Ack) -> String {
    let Ack { version, epoch, in_flight, held, .. } = ack;
    format!("epoch {epoch}, {in_flight} writes in flight, {held} held, version {version}")
}

fn with_jobs(member: &MoveMember) -> Option<Laggard> {
    let ack = member.ack.as_ref()?;
    let count = (ack.jobs.len() + ack.adopted.len()) as u64;
    let named = ack.jobs.iter().chain(&ack.adopted).map(|id| format!("job {id}")).collect();
    let why = Hindrance::Writing { count, named };
    (count > 0).then(|| Laggard { who: member.who.clone(), why, detail: String::new() })
}

fn refused(why: ChangeRefusal) -> Stop {
    Stop::run(format!("{}: {why}", why.name()))
}

fn excuses(own: &GatedStep) -> Excuses<'_> {
    Excuses { without: &own.without, owner_is_fenced: own.owner_is_fenced.is_some() }
}
