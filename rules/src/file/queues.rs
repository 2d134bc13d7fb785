//! `[queue.NAME]`.

use super::tree::Table;
use crate::document::{Delivery, MAX_ATTEMPTS_DEFAULT, Queue, QueueUser, WAIT_FOR_APP_DEFAULT_MS};

/// SQS allows 12 hours in flight; a job that runs longer could not be kept invisible.
const JOB_TIMEOUT_MAX_MS: u64 = 11 * 3_600_000;
/// SQS refuses a longer one, and with it every receive.
const VISIBILITY_MAX_MS: u64 = 12 * 3_600_000;
/// A message is received four times an hour meanwhile, and SQS counts to 1,000.
const WAIT_FOR_APP_MAX_MS: u64 = 7 * 86_400_000;
const VISIBILITY_DEFAULT_MS: u64 = 120_000;
const JOB_TIMEOUT_DEFAULT_MS: u64 = 1_800_000;
const RESULT_TTL_DEFAULT_MS: u64 = 7 * 86_400_000;
const CONCURRENCY_DEFAULT: u64 = 4;

pub(super) fn queue(table: &Table<'_>) -> Queue {
    let notify = table.table("notify");
    let (notify_app, notify_urls, notify_private) =
        notify.map_or((None, Vec::new(), false), |notify| {
            let urls = notify.texts("urls").unwrap_or_default();
            let read = (notify.text("app"), urls, notify.flag("private"));
            notify.finish();
            read
        });
    for url in &notify_urls {
        if !url.starts_with("https://") && !url.starts_with("http://") {
            table.fault("bad-url", format!("`{url}` is not a URL"), "Write https://….");
        }
    }
    let queue = Queue {
        method: table.text("method").unwrap_or_else(|| "POST".to_owned()),
        path: table.text("path"),
        visibility: table.duration("visibility").unwrap_or(VISIBILITY_DEFAULT_MS),
        job_timeout: table.duration("job_timeout").unwrap_or(JOB_TIMEOUT_DEFAULT_MS),
        result_ttl: table.duration("result_ttl").unwrap_or(RESULT_TTL_DEFAULT_MS),
        message: table.text("message").unwrap_or_else(|| "accepted".to_owned()),
        notify_app,
        notify_urls,
        notify_private,
        max_attempts: table.number("max_attempts", 1, 1000).unwrap_or(MAX_ATTEMPTS_DEFAULT),
        wait_for_app: table.duration("wait_for_app").unwrap_or(WAIT_FOR_APP_DEFAULT_MS),
        user: table.table("user").and_then(|user| read_user(&user)),
        concurrency: table.number("concurrency", 1, 1000).unwrap_or(CONCURRENCY_DEFAULT),
        tenant_concurrency: table.number("tenant_concurrency", 1, 1000),
        result: table
            .choice("result", &[("proxy", Delivery::Proxy), ("redirect", Delivery::Redirect)])
            .unwrap_or(Delivery::Proxy),
    };
    if queue.job_timeout > JOB_TIMEOUT_MAX_MS {
        let reason = "SQS keeps a message in flight for 12 hours at most".to_owned();
        table.fault("job-timeout-too-long", reason, "Write job_timeout = \"11h\" or less.");
    }
    if queue.visibility > VISIBILITY_MAX_MS {
        let reason = "SQS keeps a message invisible for 12 hours at most".to_owned();
        let remedy = "Write visibility = \"12h\" or less: it is renewed while the job runs.";
        table.fault("visibility-too-long", reason, remedy);
    }
    if queue.visibility < 1_000 {
        table.fault(
            "visibility-too-short",
            "a heartbeat needs a second or more".into(),
            "Write visibility = \"30s\" or more.",
        );
    }
    if queue.wait_for_app > WAIT_FOR_APP_MAX_MS {
        let reason = "a message is received four times an hour meanwhile, and SQS counts to 1,000";
        let remedy = "Write wait_for_app = \"7d\" or less, or give the route a deadline.";
        table.fault("wait-for-app-too-long", reason.to_owned(), remedy);
    }
    table.finish();
    queue
}

/// `user = { header = "X-User-Id", from = "body:/user_id" }`
fn read_user(table: &Table<'_>) -> Option<QueueUser> {
    let header = table.required_text("header").to_ascii_lowercase();
    let value = table.value("from");
    if value.is_none() {
        table.missing("from", "where the message names its user, e.g. \"body:/user_id\"");
    }
    table.finish();
    let value = value?;
    let pointer = value.text()?.strip_prefix("body:").filter(|pointer| pointer.starts_with('/'));
    if pointer.is_none() {
        value.fault(
            "bad-source",
            "a message has nothing but its body".to_owned(),
            "Write body:/json/pointer.",
        );
    }
    Some(QueueUser { header, from: pointer?.to_owned() })
}
