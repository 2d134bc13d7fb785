//! `[route.offload]`.

use super::routes::{MODES, key_source, lower};
use super::tree::Table;
use crate::document::{Auth, Fallback, KeySource, Mode, Offload, Retry, When};
use crate::trust::needs_named_proxy;

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
        auth: auth(table),
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

fn auth(offload: &Table<'_>) -> Auth {
    let Some(value) = offload.value("auth") else {
        let reason = "nobody is named who may start and read these jobs".to_owned();
        offload.fault("offload-without-auth", reason, "Add auth = { check = \"/path\", identity = \"cookie:session\" }, or auth = \"none\" if anyone may.");
        return Auth::Open;
    };
    if !value.is_table() {
        value.choice(&[("none", ())]);
        return Auth::Open;
    }
    let Some(table) = value.table() else { return Auth::Open };
    let identity = table.value("identity").as_ref().and_then(key_source);
    match &identity {
        None if !table.has("identity") => {
            table.missing("identity", "who the caller is, e.g. \"cookie:session\"")
        }
        Some(KeySource::Body(_) | KeySource::Path(_) | KeySource::Query(_)) => {
            let reason = "a caller can't be known by what he writes himself".to_owned();
            table.fault("bad-identity", reason, "Use header:NAME or cookie:NAME.");
        }
        Some(KeySource::Header(name)) if needs_named_proxy(name) => {
            let reason = format!(
                "only a proxy that --trusted-proxy names can say `{name}`; of all others it is removed, and the caller is unknown"
            );
            let remedy = "Name the proxy by its addresses (`private` is not enough), or use a cookie or a header of the client's own.";
            table.warn("identity-of-a-proxy", reason, remedy);
        }
        _ => {}
    }
    let auth = Auth::Caller {
        check: table.text("check"),
        identity: identity.unwrap_or_else(|| KeySource::Header(String::new())),
        keep: lower(table.texts("keep").unwrap_or_default()),
    };
    table.finish();
    auth
}
