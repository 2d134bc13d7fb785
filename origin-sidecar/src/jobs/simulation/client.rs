//! Clients: they ask, repeat themselves, wait, look, cancel, and leave.

use super::check::{self, Promise};
use super::faults::Rng;
use super::log::{NOBODY, What};
use super::process::Process;
use super::schedule::Stage;
use crate::message::body::{Body, Collected, collect};
use crate::message::refused::Refused;
use http::{Request, Response};
use std::sync::Arc;
use std::time::Duration;

/// How often a client looks before it leaves the job alone.
const LOOKS_MAX: u64 = 8;

/// What one client is going to do.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub request: usize,
    /// Of its first try; a twin with the same key counts from elsewhere.
    pub number: u64,
    pub begins: u64,
    pub tries: u64,
    pub route: &'static str,
    pub key: Option<usize>,
    pub wait: Option<u64>,
    pub body: u64,
    pub patience: u64,
    pub looks: u64,
    pub cancels_at: u64,
}

impl Plan {
    pub(super) fn drawn(rng: &mut Rng, request: usize, active: u64) -> Self {
        let route = rng.pick(&["always", "keyed", "keyed", "safe", "prefer", "slow", "slow"]);
        let has_key = route == "keyed" || rng.chance(if route == "slow" { 500 } else { 100 });
        let waits = rng.chance(if route == "slow" { 150 } else { 250 });
        Self {
            request,
            number: 1,
            begins: rng.below(active * 2 / 3),
            tries: rng.between(1, 4),
            route,
            key: has_key.then_some(request),
            wait: waits.then(|| rng.between(0, 4)),
            body: rng.below(8),
            patience: if rng.chance(150) { rng.between(1, 6_000) } else { 600_000 },
            looks: rng.below(LOOKS_MAX),
            cancels_at: if rng.chance(150) { rng.below(4) } else { u64::MAX },
        }
    }

    /// The same request with the same key, at about the same time.
    pub(super) fn twin(&self, rng: &mut Rng) -> Self {
        let begins = self.begins + rng.below(4_000);
        Self { number: 10, begins, cancels_at: u64::MAX, ..self.clone() }
    }

    fn body(&self) -> Body {
        let number = self.request;
        Body::full(match self.body {
            0 => format!("{number} {}", "x".repeat(2_000)).into_bytes(),
            1 => format!("{number}\0").into_bytes(),
            _ => number.to_string().into_bytes(),
        })
    }

    fn prefers(&self) -> Option<String> {
        match (self.route, self.wait) {
            ("prefer" | "slow", Some(wait)) => Some(format!("respond-async, wait={wait}")),
            ("prefer", None) => Some("respond-async".to_owned()),
            (_, Some(wait)) => Some(format!("wait={wait}")),
            (_, None) => None,
        }
    }

    fn request(&self, number: u64) -> Request<Body> {
        let method = if self.route == "safe" { "PUT" } else { "POST" };
        let mut request = Request::builder()
            .method(method)
            .uri(format!("/{}", self.route))
            .header("host", "app")
            .header("x-user", "alice")
            .header("user-agent", format!("try-{number}"));
        if let Some(key) = self.key {
            request = request.header("idempotency-key", format!("key-{key}"));
        }
        if let Some(prefer) = self.prefers() {
            request = request.header("prefer", prefer);
        }
        request.body(self.body()).expect("a good request")
    }

    /// A form post would get 303; these are programs.
    pub(super) fn is_adopting(&self) -> bool {
        self.route == "slow" || self.route == "prefer" && self.wait.is_some()
    }
}

/// How a call to a process ended.
pub(super) enum Got {
    Answer(Response<Body>),
    Refused(u16),
    /// The process died.
    Reset,
    /// The client did not wait for it.
    Left,
}

async fn ask(process: &Process, request: Request<Body>, patience: u64) -> Got {
    tokio::select! {
        biased;
        () = process.fallen() => Got::Reset,
        answered = process.serve(request) => match answered {
            Ok(response) => Got::Answer(response),
            Err(Refused { problem, .. }) => Got::Refused(problem.status()),
        },
        () = tokio::time::sleep(Duration::from_millis(patience)) => Got::Left,
    }
}

async fn sleep(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

pub(super) async fn run(stage: Arc<Stage>, plan: Plan) {
    sleep(plan.begins).await;
    for number in plan.number..plan.number + plan.tries {
        let process = stage.producer().await;
        match submit(&stage, &process, &plan, number).await {
            Some(Some(job)) => return follow(&stage, &plan, job).await,
            Some(None) => return,
            None => sleep(stage.world.draw(|rng| rng.between(200, 6_000))).await,
        }
    }
}

/// The job that came of it; `Some(None)` when it was answered at once, `None` to try again.
async fn submit(
    stage: &Arc<Stage>,
    process: &Process,
    plan: &Plan,
    number: u64,
) -> Option<Option<usize>> {
    let (world, request) = (&stage.world, plan.request);
    let asked = world.now();
    world.note(NOBODY, What::Asked { request, number, route: plan.route });
    world.asked.notify_waiters();
    let got = ask(process, plan.request(number), plan.patience).await;
    let took = world.now() - asked;
    let troubled = world.state().processes[process.link.process].troubled;
    let troubled = troubled.checked_sub(asked);
    match got {
        Got::Reset => {
            world.note(NOBODY, What::Reset { request });
            None
        }
        Got::Left => {
            world.note(NOBODY, What::Left { request });
            None
        }
        Got::Refused(code) => {
            world.note(NOBODY, What::Answered { request, code, job: None, took });
            // 502 and 504 are of an application that was asked inline.
            let own = Some(code).filter(|code| *code != 503);
            check::in_time(&mut world.state(), plan, own, took, troubled);
            (code < 500).then_some(None)
        }
        Got::Answer(response) => {
            let code = response.status().as_u16();
            let id = response.headers().get("location").and_then(|at| at.to_str().ok());
            let id = id.and_then(|at| at.rsplit('/').next()).map(str::to_owned);
            let id = id.filter(|_| code == 202);
            let key = plan.key.filter(|_| id.as_ref().is_some_and(|id| id.starts_with("k1.")));
            let job = id.map(|id| world.state().job(&id));
            let is_running = text(response).await.contains("\"running\"");
            world.note(NOBODY, What::Answered { request, code, job, took });
            let mut state = world.state();
            check::in_time(&mut state, plan, Some(code), took, troubled);
            let Some(job) = job else { return Some(None) };
            // Of a queued one, a retry with its key may be told that it runs.
            let is_adopted = is_running && state.jobs[job].is_adopted;
            let promise = Promise { job, request, number, is_adopted, key, told: None };
            check::promised(&mut state, promise);
            Some(Some(job))
        }
    }
}

async fn follow(stage: &Arc<Stage>, plan: &Plan, job: usize) {
    for look in 0..plan.looks {
        let pause = stage.world.draw(|rng| rng.below(3_000) << look.min(3));
        sleep(pause).await;
        if look == plan.cancels_at {
            cancel(stage, job).await;
        }
        let wait = stage.world.draw(|rng| rng.chance(200).then(|| rng.between(1, 4)));
        if self::look(stage, job, wait).await == Some(true) {
            return;
        }
    }
}

fn get(method: &str, id: &str, part: &str, wait: Option<u64>) -> Request<Body> {
    let mut request = Request::builder()
        .method(method)
        .uri(format!("/_spillway/jobs/{id}{part}"))
        .header("host", "app")
        .header("x-user", "alice");
    if let Some(wait) = wait {
        request = request.header("prefer", format!("wait={wait}"));
    }
    request.body(Body::empty()).expect("a good request")
}

async fn text(response: Response<Body>) -> String {
    match collect(response.into_body(), usize::MAX).await {
        Ok(Collected::Whole(bytes)) => String::from_utf8_lossy(&bytes).into_owned(),
        _ => String::new(),
    }
}

/// What the job's address says; `None` when nothing was learnt.
async fn ask_about(
    stage: &Stage,
    job: usize,
    method: &str,
    part: &str,
    wait: Option<u64>,
) -> Option<(u16, String, u64)> {
    let process = stage.producer().await;
    let world = &stage.world;
    let id = world.state().jobs[job].id.clone();
    let asked = world.now();
    let got = ask(&process, get(method, &id, part, wait), u64::MAX / 2).await;
    let took = world.now() - asked;
    let (code, text) = match got {
        Got::Answer(response) => (response.status().as_u16(), text(response).await),
        Got::Refused(code) => (code, String::new()),
        Got::Reset | Got::Left => return None,
    };
    world.note(NOBODY, What::Looked { job, code, took });
    let mut state = world.state();
    let troubled = state.processes[process.link.process].troubled >= asked;
    check::looked(&mut state, job, code, took, wait.unwrap_or(0), troubled);
    Some((code, text, asked))
}

/// Whether the job has ended.
pub(super) async fn look(stage: &Stage, job: usize, wait: Option<u64>) -> Option<bool> {
    let (code, text, asked) = ask_about(stage, job, "GET", "", wait).await?;
    if code != 200 {
        return None;
    }
    let status: serde_json::Value = serde_json::from_str(&text).ok()?;
    let times = (asked, stage.world.now());
    let has_ended = check::status(&mut stage.world.state(), job, &status, times);
    if has_ended && status.get("result").is_some() {
        let answer = ask_about(stage, job, "GET", "/result", None).await;
        if let Some((code, text, _)) = answer.filter(|(code, ..)| *code != 503) {
            check::result(&mut stage.world.state(), job, code, &text);
        }
    }
    Some(has_ended)
}

async fn cancel(stage: &Stage, job: usize) {
    let Some((200, text, asked)) = ask_about(stage, job, "DELETE", "", None).await else { return };
    let said: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    if said["status"] == "cancelled" {
        let times = (asked, stage.world.now());
        check::status(&mut stage.world.state(), job, &said, times);
    }
}
