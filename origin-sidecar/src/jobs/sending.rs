//! Sends a request to the queue: its message, and the memory for it.

use super::context::JobWorker;
use super::intake::NO_MEMORY;
use super::job::Job;
use super::offered::{ENQUEUE_BUDGET, NotQueued, OffloadCandidate, Opened, store_failed};
use super::{envelope, replay, tenant, token, travel};
use crate::room::BytesPermit;
use rules::document::ReplayAs;
use stores::results::PutError;

/// Makes the message durable.
///
/// # Errors
/// The error of queue or store.
pub(super) async fn send(
    worker: &JobWorker,
    offered: &OffloadCandidate<'_>,
    tools: &Opened<'_>,
    id: &str,
) -> Result<(), NotQueued> {
    let now = worker.context.clock.now();
    let mut job = Job {
        id: id.to_owned(),
        route: Some(offered.route.name.clone()),
        bare: None,
        method: offered.clean.method.as_str().to_owned(),
        target: offered.target.clone(),
        host: host(&offered.clean.inbound.host),
        headers: travel::in_the_open(offered),
        body: offered.body.clone(),
        group: tenant::group(offered, tools.secrets),
        deadline: offered.rule.deadline.map(|deadline| now + deadline),
        sealed: None,
        token: token::of(offered, tools.secrets, id, now),
    };
    if offered.rule.replay_as == ReplayAs::Caller {
        let expiry = job.deadline.unwrap_or_else(|| now + offered.rule.replay_ttl);
        let (queue, fields) = (&offered.rule.queue, travel::sealed(offered));
        let credentials = (&offered.allowed.caller, &fields);
        let sealed = replay::seal(tools.secrets, queue, &job, credentials, expiry).await;
        let failed =
            |error: std::io::Error| NotQueued::Unavailable("seal-failed", error.to_string());
        job.sealed = Some(sealed.map_err(failed)?);
    }
    // A message is a copy of its body, and a call to SQS is another.
    let _copies = copies(worker, offered, tools).await?;
    let message =
        envelope::pack(&job, tools.results.as_ref(), tools.queue.message_bytes_max()).await;
    let message = message.map_err(|error| match error {
        PutError::Failed(error) => store_failed(error),
        PutError::Precondition => NotQueued::Unavailable("store-race", "try again".to_owned()),
    })?;
    let sent = tools.queue.send(message).await;
    sent.map(|_| ()).map_err(|error| NotQueued::Unavailable(error.name, error.detail))
}

/// An HTTP/1.0 client may name no host, and SQS accepts no empty attribute.
fn host(named: &str) -> String {
    if named.is_empty() { "localhost".to_owned() } else { named.to_owned() }
}

/// Reserves memory for copies of the body until its message is sent.
async fn copies(
    worker: &JobWorker,
    offered: &OffloadCandidate<'_>,
    tools: &Opened<'_>,
) -> Result<Option<BytesPermit>, NotQueued> {
    const COPIES: u64 = 2;
    let length = offered.body.length();
    if length > tools.queue.message_bytes_max() as u64 {
        return Ok(None);
    }
    let held = worker.context.intake.copying(length * COPIES, ENQUEUE_BUDGET).await;
    let no_memory = || NotQueued::Unavailable(NO_MEMORY, "no room for its message".to_owned());
    held.ok_or_else(no_memory).map(Some)
}
