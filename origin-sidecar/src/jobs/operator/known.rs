//! Finds jobs by their records and the form of their ids, and cancels them.

use super::opened::{CommandResult, Stores, line, text};
use crate::jobs::record::{
    self, Accepted, Adopted, Lease, Outcome, accepted_key, adopted_key, failed_key, lease_key,
    outcome_key,
};
use crate::jobs::{id, ownership, terminate};
use std::io::Write;

/// What is known of a job.
#[derive(Default)]
pub(super) struct KnownJob {
    pub queue: Option<String>,
    pub route: Option<String>,
    /// Nothing is stored of it, and it could not be checked whether its id was ever issued.
    pub is_unchecked: bool,
}

impl KnownJob {
    /// The reservation with which the operator is told the result.
    pub(super) fn doubt(&self) -> &'static str {
        if self.is_unchecked {
            "; nothing was stored of it, and without --secret-file nobody could say whether its id was ever given out"
        } else {
            ""
        }
    }
}

impl Stores {
    /// Looks a job up in its records. A job that waits for its first attempt has none, but usually
    /// an id that was made here.
    ///
    /// # Errors
    /// There is no such job, or the store fails.
    pub(super) async fn about(&self, id: &str) -> Result<KnownJob, String> {
        if !id::is_plausible(id) {
            return Err(nobody_knows(id));
        }
        if let Some(about) = self.recorded(id).await? {
            return Ok(about);
        }
        if !id::has_the_form_of_a_queued(id) {
            return Err(nobody_knows(id));
        }
        let Some(secrets) = &self.secrets else {
            return Ok(KnownJob { is_unchecked: true, ..KnownJob::default() });
        };
        let route = ownership::route_of(&self.rules, secrets, id).ok_or_else(|| {
            format!("{}: its mark is of no route that offloads", nobody_knows(id))
        })?;
        let queue = route.offload.as_ref().map(|offload| offload.queue.clone());
        Ok(KnownJob { queue, route: Some(route.name.clone()), is_unchecked: false })
    }

    async fn recorded(&self, id: &str) -> Result<Option<KnownJob>, String> {
        let results = self.results.as_ref();
        let about = |queue, route| Some(KnownJob { queue, route, is_unchecked: false });
        let found = record::read::<Outcome>(results, &outcome_key(id)).await.map_err(text)?;
        if let Some((outcome, _)) = found {
            return Ok(about(outcome.queue, outcome.route));
        }
        let found = record::read::<Adopted>(results, &adopted_key(id)).await.map_err(text)?;
        if let Some((adopted, _)) = found {
            return Ok(about(Some(adopted.queue), Some(adopted.route)));
        }
        let found = record::read::<Lease>(results, &lease_key(id)).await.map_err(text)?;
        let accepted = record::read::<Accepted>(results, &accepted_key(id)).await.map_err(text)?;
        let is_known = found.is_some() || accepted.is_some();
        let route = found.and_then(|(lease, _)| lease.route);
        let route = route.or(accepted.map(|(accepted, _)| accepted.route));
        let route = route.filter(|route| !route.is_empty());
        if is_known {
            return Ok(about(self.queue_of(id, route.as_deref()), route));
        }
        let has_failed = results.head(&failed_key(id)).await.map_err(text)?.is_some();
        Ok(has_failed.then(KnownJob::default))
    }

    fn queue_of(&self, id: &str, route: Option<&str>) -> Option<String> {
        let Some(route) = route else {
            let queues = self.rules.document.queues.keys().map(String::as_str);
            return id::queue_of(self.secrets.as_deref()?, id, queues).map(str::to_owned);
        };
        let route = self.rules.route_by_name(route)?;
        Some(route.offload.as_ref()?.queue.clone())
    }

    /// Cancels a job.
    ///
    /// # Errors
    /// There is no such job, or the store fails.
    pub async fn cancel(&self, out: &mut dyn Write, id: &str) -> CommandResult {
        let about = self.about(id).await?;
        let of = (about.queue.as_deref(), about.route.as_deref());
        let status = terminate::cancel(self.results.as_ref(), id, of, self.now).await;
        let status = status.map_err(text)?.as_str();
        line(out, &format!("{id} {status}{}", about.doubt()))
    }
}

fn nobody_knows(id: &str) -> String {
    format!("{id}: there is no such job, or it has expired; nothing was done")
}
