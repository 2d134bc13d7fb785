//! What must always hold, whatever happens. The first thing that does not ends the schedule.

use super::client::Plan;
use super::world::{Execution, Job, State, Taking};
use crate::jobs::record::Terminal;
use std::collections::BTreeMap;

/// Between what a promise says and what a scheduler of milliseconds does.
const SLACK_MS: u64 = 300;
/// The bound of one call to the store.
const STORE_MS: u64 = 5_000;
const AUTH_MS: u64 = 2_000;
const ENQUEUE_MS: u64 = 3_000;
const WITHDRAW_MS: u64 = 1_000;
/// Between two tries of an adoption, and the last of them.
const LEASE_AGAIN_MS: u64 = 8_000;
/// `after` of the route `slow`.
pub(super) const SLOW_AFTER_MS: u64 = 1_500;

/// An id that was answered 202.
#[derive(Debug, Clone)]
pub(super) struct Promise {
    pub job: usize,
    pub request: usize,
    pub number: u64,
    pub is_adopted: bool,
    pub key: Option<usize>,
    /// The end that a client was told of, and when.
    pub told: Option<(String, u64)>,
}

/// 202 only with something durable behind it.
pub(super) fn promised(state: &mut State, promise: Promise) {
    let Job { is_sent, is_adopted, outcome, .. } = &state.jobs[promise.job];
    let is_durable = *is_adopted || *is_sent || outcome.is_some();
    let job = promise.job;
    if !is_durable {
        state.violated(|| format!("durable: j{job} was promised, and nothing is durable"));
    }
    let other =
        state.promises.iter().find(|other| promise.key.is_some() && other.key == promise.key);
    if let Some(other) = other.map(|other| other.job).filter(|other| *other != job) {
        state.violated(|| format!("one key: j{job} and j{other} have the same key"));
    }
    state.promises.push(promise);
}

/// Every answer has its bound of time; a refusal of ours has no code. `troubled` is for how long the
/// process was, from the request on.
pub(super) fn in_time(
    state: &mut State,
    plan: &Plan,
    code: Option<u16>,
    took: u64,
    troubled: Option<u64>,
) {
    let wait = plan.wait.unwrap_or(0) * 1_000;
    let bound = match (plan.is_adopting(), code, troubled) {
        // The application's own time.
        (true, ..) if code != Some(202) => return,
        (true, _, None) if plan.wait.is_some() => wait + SLACK_MS,
        (true, _, None) => SLOW_AFTER_MS + SLACK_MS,
        // Without a lease there is no 202; it is tried again until the trouble ends.
        (true, _, Some(troubled)) => {
            AUTH_MS + wait.max(SLOW_AFTER_MS).max(troubled) + LEASE_AGAIN_MS + SLACK_MS
        }
        // Inline, as a fallback.
        (false, ..) if plan.route == "safe" && code.is_some_and(|code| code != 202) => return,
        (false, _, None) => wait + SLACK_MS,
        (false, _, Some(_)) => {
            let reads = if plan.wait.is_some() { 5 * STORE_MS } else { 0 };
            AUTH_MS + ENQUEUE_MS + WITHDRAW_MS + wait + reads + SLACK_MS
        }
    };
    if took > bound {
        let Plan { request, route, .. } = plan;
        state.violated(|| format!("in time: r{request} ({route}) took {took} ms of {bound}"));
    }
}

pub(super) fn looked(
    state: &mut State,
    job: usize,
    code: u16,
    took: u64,
    wait: u64,
    troubled: bool,
) {
    let bound = wait * 1_000 + if troubled { 7 * STORE_MS } else { 0 } + SLACK_MS;
    if took > bound {
        state.violated(|| format!("in time: a look at j{job} took {took} ms of {bound}"));
    }
    if ![503, 200, 201, 204].contains(&code) && code < 300 || code == 404 && !knows_404(state, job)
    {
        state.violated(|| format!("known: a look at j{job} was answered {code}"));
    }
}

/// The application's own 404 may be a result, also of an end that was taken back.
fn knows_404(state: &State, job: usize) -> bool {
    let answer = state.jobs[job].outcome.as_ref().and_then(|end| end.outcome.answer.as_ref());
    let said_so = |of: &Execution| {
        of.job == Some(job) && of.answer.as_ref().is_some_and(|(code, _)| *code == 404)
    };
    answer.is_some_and(|answer| answer.code == 404) || state.executions.iter().any(said_so)
}

/// Whether the status is an end; an end never becomes another for those who look later.
pub(super) fn status(
    state: &mut State,
    job: usize,
    status: &serde_json::Value,
    (asked, now): (u64, u64),
) -> bool {
    let said = status["status"].as_str().unwrap_or_default().to_owned();
    if !["succeeded", "failed", "cancelled"].contains(&said.as_str()) {
        let told = state.promises.iter().find(|of| of.job == job).and_then(|of| of.told.clone());
        let is_requeued = state.jobs[job].is_requeued;
        if let Some((was, _)) = told.filter(|(_, at)| *at < asked && !is_requeued) {
            state.violated(|| format!("final: j{job} was {was}, and is {said} now"));
        }
        return false;
    }
    let stored = state.jobs[job].outcome.as_ref().map(|end| end.outcome.status.as_str());
    if stored != Some(said.as_str()) {
        // Of a job that was taken back, the end before.
        if state.jobs[job].is_requeued {
            return false;
        }
        state.violated(|| format!("final: j{job} is told {said}, and is {stored:?}"));
    }
    for promise in state.promises.iter_mut().filter(|promise| promise.job == job) {
        promise.told.get_or_insert_with(|| (said.clone(), now));
    }
    true
}

/// A result is what one execution answered.
pub(super) fn result(state: &mut State, job: usize, code: u16, text: &str) {
    // Taken back between the look at the status and this one.
    if state.jobs[job].is_requeued && code == 409 {
        return;
    }
    let is_same = |of: &Execution| {
        of.answer.as_ref().is_some_and(|(own, answer)| *own == code && answer == text)
    };
    let requests: Vec<usize> =
        state.promises.iter().filter(|of| of.job == job).map(|of| of.request).collect();
    let mut own = state
        .executions
        .iter()
        .filter(|of| of.job.map_or(requests.contains(&of.request), |of| of == job));
    if !own.any(is_same) {
        state.violated(|| format!("result: of j{job} {code} {text:?} is no execution's answer"));
    }
}

/// Called when the application begins to execute a job; the lease it is executed under.
pub(super) fn began(state: &mut State, process: usize, job: usize) -> Option<Taking> {
    let taking = state.jobs[job].leases.iter().rfind(|taking| taking.process == process).copied();
    let Some(taking) = taking else {
        state.violated(|| format!("leased: j{job} is executed without a lease"));
        return None;
    };
    let ended = state.jobs[job].outcome.as_ref().map(|end| end.order);
    if ended.is_some_and(|ended| ended < taking.order) {
        state.violated(|| format!("once ended: j{job} is executed after its end"));
    }
    let is_other =
        |of: &&Execution| of.job == Some(job) && of.is_open && state.processes[of.process].is_alive;
    let other = state.executions.iter().find(is_other).and_then(|of| of.taking);
    if let Some(other) = other {
        overlap(state, job, taking, other);
    }
    Some(taking)
}

/// Two executions of one job: the earlier lease must have run out, and for a reason. Whoever took
/// it first may have given it up since.
fn overlap(state: &mut State, job: usize, one: Taking, other: Taking) {
    let (first, last) = if one.order < other.order { (one, other) } else { (other, one) };
    let next = state.jobs[job].leases.iter().find(|taking| taking.order > first.order);
    let second = next.copied().unwrap_or(last);
    let (holder, taker) = (state.processes[first.process], state.processes[second.process]);
    // A clock that was set while the lease was being taken may have said anything.
    let has_run_out = |before: super::world::Before| before.until <= second.now || taker.has_jumped;
    let had_run_out = second.before.is_some_and(has_run_out);
    let written = second.before.map_or(0, |before| before.written);
    let why = holder.troubled >= written || holder.has_jumped || taker.has_jumped;
    if !had_run_out {
        let (first, second) = (first.process, last.process);
        state.violated(|| format!("one at a time: j{job} runs in p{first} and p{second}"));
    } else if !why {
        state.violated(|| format!("one at a time: the lease of j{job} ran out for no reason"));
    }
}

/// A message that somebody has in hand, and is well, does not become visible; one of a job that has
/// ended may be let go.
pub(super) fn received(
    state: &mut State,
    came: u64,
    (message, job): (u64, usize),
    (holder, ms): (usize, u64),
) {
    let vitals = state.processes[holder];
    let is_well = vitals.is_alive
        && !vitals.is_draining
        && vitals.troubled + 3 * ms < came
        // Whose clock is set may take the lease; the holder then lets the message go.
        && !state.processes.iter().any(|vitals| vitals.has_jumped);
    if is_well && state.jobs[job].outcome.is_none() {
        state.violated(|| format!("in hand: m{message} came again, and p{holder} has it"));
    }
}

/// A notification tells what is stored, under the job's own id.
pub(super) fn told(state: &mut State, job: usize, event: &[u8]) {
    let event: serde_json::Value = serde_json::from_slice(event).unwrap_or_default();
    let said = event["data"]["status"].as_str().unwrap_or_default().to_owned();
    let stored = state.jobs[job].outcome.as_ref().map(|end| end.outcome.status.as_str());
    let is_id = event["id"].as_str() == Some(state.jobs[job].id.as_str());
    let is_stored = stored == Some(said.as_str()) || state.jobs[job].is_requeued;
    if !is_stored || !is_id {
        state.violated(|| format!("told: j{job} was told as {said}, and is {stored:?}"));
    }
}

/// What must hold when everything has come to rest.
pub(super) fn finally(state: &mut State) {
    for promise in state.promises.clone() {
        ended(state, &promise);
    }
    let requests: Vec<(usize, u64)> = state
        .promises
        .iter()
        .filter(|of| of.is_adopted)
        .map(|of| (of.request, of.number))
        .collect();
    let mut runs: BTreeMap<(usize, u64), u64> = BTreeMap::new();
    for of in &state.executions {
        *runs.entry((of.request, of.number)).or_default() += 1;
    }
    for of in requests {
        let count = runs.get(&of).copied().unwrap_or(0);
        if count > 1 {
            state.violated(|| format!("adopted once: r{} ran {count} times", of.0));
        }
    }
    executed_once(state);
    for job in state.mailbox.dead.clone() {
        let ended = state.jobs[job].outcome.as_ref().map(|end| end.outcome.status);
        if ended != Some(Terminal::Failed) {
            state.violated(|| format!("dead letters: j{job} lies there, and is {ended:?}"));
        }
    }
    withdrawn(state);
}

/// Of all tries of a request with a key, no two are executed at once by the proxies, unless the
/// application said of the earlier that nothing was done.
fn executed_once(state: &mut State) {
    let is_undone = |of: &Execution| {
        of.answer.as_ref().is_some_and(|(code, _)| matches!(code, 408 | 425 | 429 | 503))
    };
    let mut runs: BTreeMap<usize, u64> = BTreeMap::new();
    for of in state.executions.iter().filter(|of| of.is_once && !is_undone(of)) {
        *runs.entry(of.request).or_default() += 1;
    }
    if let Some((request, count)) = runs.into_iter().find(|(_, count)| *count > 1) {
        state.violated(|| format!("executed once: r{request} with a key was, {count} times"));
    }
}

fn ended(state: &mut State, promise: &Promise) {
    let job = promise.job;
    let Some(end) = state.jobs[job].outcome.clone() else {
        return state.violated(|| format!("every promise ends: j{job} has no outcome"));
    };
    if promise.told.is_none() {
        state.violated(|| format!("every promise ends: the end of j{job} can't be seen"));
    }
    let Some(answer) = end.outcome.answer else {
        if end.outcome.status == Terminal::Succeeded {
            state.violated(|| format!("result: j{job} succeeded without an answer"));
        }
        return;
    };
    let Some(bytes) = state.objects.read(&answer.object).cloned() else {
        return state.violated(|| format!("result: that of j{job} is not in the store"));
    };
    if bytes.len() as u64 != answer.length {
        state.violated(|| format!("result: that of j{job} has another length"));
    }
    result(state, job, answer.code, &String::from_utf8_lossy(&bytes));
}

/// A request that was withdrawn from the queue is not run as a job: it was executed inline, or its
/// client was told that nothing is started.
fn withdrawn(state: &mut State) {
    // A clock that is set may say of a lease just taken that it has run out.
    if state.processes.iter().any(|vitals| vitals.has_jumped) {
        return;
    }
    let ran = |job: &usize| state.executions.iter().any(|of| of.job == Some(*job));
    let found = (0..state.jobs.len()).filter(|job| state.jobs[*job].is_withdrawn).find(ran);
    if let Some(job) = found {
        state.violated(|| format!("withdrawn: j{job} ran all the same"));
    }
}
