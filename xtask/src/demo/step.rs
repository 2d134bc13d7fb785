//! A step of the story: a request of the walk-through, its answer, and its line in the table.

use crate::setup::Result;
use std::time::{Duration, Instant};

/// Nothing in the story takes longer than a report.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: ureq::http::HeaderMap,
    pub(super) body: String,
    pub(super) took: Duration,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> String {
        let lines = self.headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        lines.collect::<Vec<_>>().join(", ")
    }

    /// What the named cache did, without its name.
    pub(super) fn cache(&self, tier: &str) -> String {
        let status = self.header("cache-status");
        let member = status.split(", ").filter(|member| member.starts_with(tier)).last();
        member
            .and_then(|member| member.split_once("; "))
            .map_or(String::new(), |(_, what)| what.to_owned())
    }

    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }
}

pub(super) struct Client {
    agent: ureq::Agent,
    pub(super) base: String,
}

impl Client {
    pub(super) fn new(base: String) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_global(Some(ANSWER_TIMEOUT));
        Self { agent: config.build().into(), base }
    }

    pub(super) fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Result<Answer> {
        let mut request =
            ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.base));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body.to_owned()).map_err(|error| error.to_string())?;
        let started = Instant::now();
        let failed = |error: ureq::Error| format!("{method} {path}: {error}");
        let mut response = self.agent.run(request).map_err(failed)?;
        let body = response.body_mut().read_to_string().map_err(failed)?;
        let took = started.elapsed();
        let headers = response.headers().clone();
        Ok(Answer { status: response.status().as_u16(), headers, body, took })
    }

    pub(super) fn get(&self, path: &str) -> Result<Answer> {
        self.send("GET", path, &[], "")
    }
}

/// The table, a line a step, printed as it happens.
pub(super) struct Table {
    pub(super) all_good: bool,
}

impl Table {
    pub(super) fn head() -> Self {
        println!("\n{:<44} {:>6} {:>9}  what happened", "step", "status", "time");
        println!("{}", "-".repeat(118));
        Self { all_good: true }
    }

    pub(super) fn line(&mut self, is_good: bool, step: &str, answer: &Answer, what: &str) {
        self.all_good &= is_good;
        let mark = if is_good { "\x1b[32m✓\x1b[0m" } else { "\x1b[31m✗\x1b[0m" };
        let took = format!("{:.1} ms", answer.took.as_secs_f64() * 1000.0);
        println!("{mark} {step:<42} {:>6} {took:>9}  {what}", answer.status);
    }
}
