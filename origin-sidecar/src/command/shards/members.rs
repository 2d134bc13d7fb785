//! The members of a move: every process that an address leads to, and every one that registered itself.

use super::super::pods::{addresses, send};
use super::super::stop::Stop;
use super::coordinator::Coordinator;
use crate::operate::admin;
use crate::shards::keys;
use crate::shards::store::read;
use http::Request;
use rules::shard::coordinate::{
    AfterRound, Excuses, Laggard, MoveMember, Round, after_round, judge,
};
use rules::shard::object::MapObject;
use rules::shard::protocol::Ack;
use std::collections::BTreeSet;
use std::time::Duration;
use stores::results::StoreError;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// How long a push may take beyond the wait that it asks for.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// Between two rounds.
const PAUSE: Duration = Duration::from_millis(200);
/// Members of one move.
const MEMBERS_MAX: usize = 1_000;

impl Coordinator<'_> {
    /// Shows the object to all members and gathers what they say.
    ///
    /// # Errors
    /// When a name of `--sidecars` leads nowhere.
    pub(super) async fn heard(
        &self,
        object: &MapObject,
        wait: Duration,
    ) -> Result<Vec<MoveMember>, Stop> {
        let mut asked = BTreeSet::new();
        for name in &self.settings.sidecars {
            let found = addresses(name).await;
            asked.extend(found.map_err(|why| Stop::run(format!("--sidecars {name}: {why}")))?);
        }
        let (json, millis) = (object.json(), wait.as_millis());
        let mut pushes = JoinSet::new();
        for address in asked {
            let (client, token) = (self.client.clone(), self.settings.admin_token.clone());
            let (json, timeout) = (json.clone(), wait + ANSWER_TIMEOUT);
            pushes.spawn(async move {
                let url = format!("http://{address}/shards/map?wait={millis}ms");
                let request = Request::post(url).header(&admin::FIELD, admin::FIELD_VALUE);
                let said = send(&client, request, token.as_deref(), (json, timeout)).await;
                let ack = said.and_then(|text| {
                    serde_json::from_str::<Ack>(&text)
                        .map_err(|_| "it runs an older version that knows no live maps".to_owned())
                });
                match ack {
                    Ok(ack) => {
                        MoveMember { who: ack.pod.clone(), ack: Some(ack), detail: String::new() }
                    }
                    Err(detail) => MoveMember { who: address.to_string(), ack: None, detail },
                }
            });
        }
        let mut heard = pushes.join_all().await;
        for member in self.registered(object).await? {
            if heard.iter().all(|own| own.who != member.who) {
                heard.push(member);
            }
        }
        heard.sort_by(|left, right| left.who.cmp(&right.who));
        Ok(heard)
    }

    /// What members wrote to the store. One whose text can't be read is a member that has not answered.
    ///
    /// # Errors
    /// When the store does not answer: a member that nobody has heard must not be taken for one that is not there.
    async fn registered(&self, object: &MapObject) -> Result<Vec<MoveMember>, Stop> {
        let Some(moving) = &object.moving else { return Ok(Vec::new()) };
        let prefix = keys::members(&object.map, &moving.id);
        let failed = |error: StoreError| {
            Stop::run(format!("the members of the move could not be listed: {error}"))
        };
        let listed = self.results.list(&prefix, "", MEMBERS_MAX).await.map_err(failed)?;
        if listed.len() >= MEMBERS_MAX {
            return Err(Stop::run(format!("more than {MEMBERS_MAX} members have registered")));
        }
        let mut found = Vec::new();
        for entry in listed {
            // One that has left meanwhile has no entry any more.
            let Some((bytes, _)) = read(self.results.as_ref(), &entry.key).await.map_err(failed)?
            else {
                continue;
            };
            let ack: Option<Ack> = serde_json::from_slice(&bytes).ok();
            let (who, detail) = match &ack {
                Some(ack) => (ack.pod.clone(), String::new()),
                None => (entry.key, "what it wrote to the store can't be read".to_owned()),
            };
            found.push(MoveMember { who, ack, detail });
        }
        Ok(found)
    }

    /// Which members have followed to the object's stage.
    pub(super) fn judged(&self, object: &MapObject, heard: &[MoveMember]) -> Round {
        judge(object, &self.rules.document.map_rules(&object.map), heard)
    }

    /// Asks until all members have followed that are needed, one can't, or the time is over; those that have not.
    ///
    /// # Errors
    /// As [`Coordinator::heard`].
    pub(super) async fn follow(
        &self,
        object: &MapObject,
        end: Instant,
        excuses: Excuses<'_>,
    ) -> Result<Vec<Laggard>, Stop> {
        let mut before = Vec::new();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let heard = self.heard(object, left.min(Duration::from_secs(2))).await?;
            let round = self.judged(object, &heard);
            let followed = round.followed.clone();
            match after_round(round, &before, excuses, Instant::now() >= end) {
                AfterRound::Followed => return Ok(Vec::new()),
                AfterRound::Confirm => {}
                AfterRound::AskAgain => tokio::time::sleep(PAUSE).await,
                AfterRound::Over(laggards) => return Ok(laggards),
            }
            before = followed;
        }
    }
}
