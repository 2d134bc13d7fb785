//! The application: it works for milliseconds or minutes, answers or fails, and every execution
//! is noted.

use super::check;
use super::faults::Rng;
use super::log::{Event, What};
use super::world::{Execution, Link};
use crate::message::body::{Body, Collected, collect};
use crate::upstream::network::Local;
use crate::upstream::outgoing::Failure;
use http::{Request, Response, StatusCode};
use net::boxed::Boxed;
use rules::Problem;
use std::sync::Arc;
use std::time::Duration;

/// Larger than any body of a schedule.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// What one execution will come to.
struct Plan {
    latency: u64,
    end: End,
}

#[derive(Clone, Copy)]
enum End {
    Code(u16),
    /// 429, and when to come back.
    Later(u64),
    /// 503, and when to come back: nothing was done.
    Busy(u64),
    /// The connection is lost under way.
    Breaks,
    /// No answer ever.
    Stalls,
}

pub(super) fn application(link: Link) -> Local {
    Arc::new(move |request| -> Boxed<'static, Result<Response<Body>, Failure>> {
        let link = link.clone();
        Box::pin(async move {
            link.living().await;
            let answered = answer(&link, request).await;
            link.living().await;
            answered
        })
    })
}

async fn answer(link: &Link, request: Request<Body>) -> Result<Response<Body>, Failure> {
    let now = link.world.now();
    let out_until = link.world.state().app_out_until;
    if now < out_until {
        link.world.state().troubled(link.process, out_until);
        return Err(failure(true));
    }
    match request.uri().path() {
        // A look whether anybody is there.
        "/" => Ok(Response::new(Body::empty())),
        "/session" => session(link).await,
        "/hook" => told(link, request).await,
        _ => execute(link, request).await,
    }
}

fn failure(is_unsent: bool) -> Failure {
    let problem = Problem::UpstreamUnreachable;
    Failure { problem, detail: "connection lost".to_owned(), is_unsent }
}

async fn pause(ms: u64) {
    if ms > 0 {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }
}

/// A small answer, and a failing one at times.
async fn small(link: &Link) -> Result<Response<Body>, Failure> {
    let (latency, fails) = {
        let mut state = link.world.state();
        let weather = state.weather;
        let is_slow = state.rng.chance(weather.app_stalls / 2);
        let latency = if is_slow { 4_000 } else { state.rng.below(30) };
        (latency, state.rng.chance(weather.app_refuses / 4))
    };
    if latency > 50 || fails {
        let until = link.world.now() + latency;
        link.world.state().troubled(link.process, until);
    }
    pause(latency).await;
    if fails {
        return Err(failure(true));
    }
    Ok(Response::new(Body::full("ok")))
}

/// `auth.check`
async fn session(link: &Link) -> Result<Response<Body>, Failure> {
    let mut response = small(link).await?;
    response.headers_mut().insert("x-user-id", http::HeaderValue::from_static("7"));
    Ok(response)
}

/// `notify.app`
async fn told(link: &Link, request: Request<Body>) -> Result<Response<Body>, Failure> {
    let (parts, body) = request.into_parts();
    let id = parts.headers.get("webhook-id").and_then(|id| id.to_str().ok()).unwrap_or_default();
    let Ok(Collected::Whole(event)) = collect(body, BODY_BYTES_MAX).await else {
        return Err(failure(false));
    };
    let answered = small(link).await?;
    let at = link.world.now();
    let mut state = link.world.state();
    let job = state.job(id);
    let what = What::Told { job, code: answered.status().as_u16() };
    state.log.push(Event { at, process: link.process, what });
    check::told(&mut state, job, &event);
    Ok(answered)
}

impl Plan {
    fn drawn(link: &Link) -> Option<Self> {
        let mut state = link.world.state();
        let weather = state.weather;
        let rng = &mut state.rng;
        if rng.chance(weather.app_refuses) {
            return None;
        }
        let latency = match rng.below(20) {
            0..9 => rng.between(1, 800),
            9..15 => rng.between(1_000, 6_000),
            15..18 => rng.between(6_000, 30_000),
            _ => rng.between(30_000, 100_000),
        };
        Some(Self { latency, end: Self::end(rng, &weather) })
    }

    fn end(rng: &mut Rng, weather: &super::faults::Weather) -> End {
        if rng.chance(weather.app_breaks) {
            return End::Breaks;
        }
        if rng.chance(weather.app_stalls) {
            return End::Stalls;
        }
        if rng.chance(weather.app_fails) {
            // Never as long as a visibility: that is how a heartbeat is known.
            let busy = End::Busy(rng.pick(&[0, 1, 5, 20]));
            let later = End::Later(rng.pick(&[0, 1, 2, 5, 10, 20, 31]));
            return rng.pick(&[
                End::Code(500),
                End::Code(503),
                busy,
                later,
                End::Code(404),
                End::Code(302),
            ]);
        }
        End::Code(rng.pick(&[200, 200, 201, 204]))
    }
}

/// An execution somebody waits for, until it is dropped.
struct Open<'a> {
    link: &'a Link,
    execution: usize,
    is_done: bool,
}

impl Open<'_> {
    fn done(mut self, code: u16, text: String) {
        self.is_done = true;
        let at = self.link.world.now();
        let mut state = self.link.world.state();
        let what = What::Done { execution: self.execution, code };
        state.log.push(Event { at, process: self.link.process, what });
        let execution = &mut state.executions[self.execution];
        (execution.is_open, execution.answer) = (false, Some((code, text)));
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        if self.is_done {
            return;
        }
        let at = self.link.world.now();
        let mut state = self.link.world.state();
        state.executions[self.execution].is_open = false;
        let what = What::Dropped { execution: self.execution };
        state.log.push(Event { at, process: self.link.process, what });
    }
}

/// Notes that an execution begins.
fn begin<'a>(link: &'a Link, parts: &http::request::Parts, body: &str) -> Open<'a> {
    let field = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
    let request = body.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
    let request = request.parse().unwrap_or(usize::MAX);
    let number = field("user-agent").and_then(|text| text.strip_prefix("try-"));
    let number = number.and_then(|text| text.parse().ok()).unwrap_or(0);
    let attempt = field("x-job-attempt").and_then(|text| text.parse().ok()).unwrap_or(0);
    let began = link.world.now();
    let mut state = link.world.state();
    let job = field("x-job-id").map(|id| state.job(id));
    let execution = state.executions.len();
    let what = What::Began { execution, job, request, attempt };
    state.log.push(Event { at: began, process: link.process, what });
    let process = link.process;
    let taking = job.and_then(|job| check::began(&mut state, process, job));
    let (is_open, answer) = (true, None);
    let is_once =
        job.is_none() && parts.uri.path() == "/slow" && field("idempotency-key").is_some();
    let of = Execution { process, job, request, number, is_once, taking, is_open, answer };
    state.executions.push(of);
    Open { link, execution, is_done: false }
}

async fn execute(link: &Link, request: Request<Body>) -> Result<Response<Body>, Failure> {
    let (parts, body) = request.into_parts();
    let Some(Plan { latency, end }) = Plan::drawn(link) else {
        pause(1).await;
        return Err(failure(true));
    };
    let Ok(Collected::Whole(body)) = collect(body, BODY_BYTES_MAX).await else {
        return Err(failure(false));
    };
    let open = begin(link, &parts, &String::from_utf8_lossy(&body));
    pause(latency).await;
    link.living().await;
    let (code, later) = match end {
        End::Code(code) => (code, None),
        End::Later(later) => (429, Some(later)),
        End::Busy(later) => (503, Some(later)),
        End::Breaks => return Err(failure(false)),
        End::Stalls => std::future::pending().await,
    };
    let text = if code == 204 { String::new() } else { format!("execution {}", open.execution) };
    let mut response = Response::new(Body::empty());
    if !text.is_empty() {
        *response.body_mut() = Body::full(text.clone());
    }
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or_default();
    if let Some(later) = later {
        response.headers_mut().insert("retry-after", http::HeaderValue::from(later));
    }
    open.done(code, text);
    Ok(response)
}
