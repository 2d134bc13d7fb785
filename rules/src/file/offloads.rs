//! `[route.offload]`.

use super::auth;
use super::routes::{MODES, key_source, lower};
use super::tree::Table;
use crate::document::{Fallback, Mode, Offload, Retry, When};

/// The largest body that is taken into a job, unless the route says otherwise.
const JOB_BODY_DEFAULT: u64 = 8 * 1024 * 1024;

/// SQS drops a message after this, whether or not it was received.
const RETENTION_MAX_MS: u64 = 14 * 86_400_000;

pub(super) fn read(table: &Table<'_>, route: Mode) -> Offload {
    let whens = [("always", When::Always), ("slow", When::Slow), ("prefer", When::Prefer)];
    let when = table.choice("when", &whens);
    if !table.has("when") {
        table.missing("when", "\"always\", \"slow\" or \"prefer\"");
    }
    let offload = Offload {
        mode: table.choice("mode", MODES).unwrap_or(route),
        queue: table.required_text("queue"),
        when: when.unwrap_or(When::Prefer),
        after: table.duration("after"),
        auth: auth::read(table),
        forward_headers: lower(table.texts("forward_headers").unwrap_or_default()),
        max_body: table.size("max_body").unwrap_or(JOB_BODY_DEFAULT),
        retry: table
            .choice("retry", &[("never", Retry::Never), ("safe", Retry::Safe)])
            .unwrap_or(Retry::Never),
        fallback: table
            .choice("fallback", &[("refuse", Fallback::Refuse), ("inline", Fallback::Inline)])
            .unwrap_or(Fallback::Refuse),
        class: table.value("class").as_ref().and_then(key_source),
        spill_over: table.number("spill_over", 1, 100_000),
        concurrency: table.number("concurrency", 1, 1000),
        tenant: table.value("tenant").as_ref().and_then(key_source),
        deadline: table.duration("deadline"),
    };
    if offload.deadline.is_some_and(|deadline| deadline > RETENTION_MAX_MS) {
        let reason = "SQS keeps a message for 14 days at most".to_owned();
        table.fault("deadline-too-long", reason, "Write deadline = \"14d\" or less.");
    }
    if offload.when == When::Slow && offload.after.is_none() {
        table.missing("after", "for when = \"slow\": how long an answer may take, e.g. \"2s\"");
    }
    let needs_slow = [("after", offload.after.is_some()), ("class", offload.class.is_some())];
    for (key, is_set) in needs_slow {
        if is_set && offload.when != When::Slow {
            let reason = format!("`{key}` says nothing without when = \"slow\"");
            table.fault("only-for-slow", reason, "Write when = \"slow\", or remove the key.");
        }
    }
    if offload.spill_over.is_some() && offload.when == When::Always {
        let reason = "no client of this route ever waits for an execution".to_owned();
        table.fault("spill-over-always", reason, "Remove spill_over.");
    }
    table.finish();
    offload
}
