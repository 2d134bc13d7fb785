//! Reads `[queue.NAME]`.

use super::auth;
use super::tree::{Table, Value};
use crate::document::{
    Delivery, Identity, MAX_ATTEMPTS_DEFAULT, Queue, QueueUser, WAIT_FOR_APP_DEFAULT,
};
use crate::time::Millis;

/// The longest run of a job, in milliseconds: SQS keeps a message invisible for 12 hours at most.
const JOB_TIMEOUT_MAX: Millis = Millis(11 * 3_600_000);
/// The longest visibility timeout, in milliseconds: SQS refuses receives with a longer one.
const VISIBILITY_MAX: Millis = Millis(12 * 3_600_000);
/// The longest wait for an application, in milliseconds: the message is received four times an hour
/// meanwhile, and SQS counts to 1,000.
const WAIT_FOR_APP_MAX: Millis = Millis(7 * 86_400_000);
const VISIBILITY_DEFAULT: Millis = Millis(120_000);
const JOB_TIMEOUT_DEFAULT: Millis = Millis(1_800_000);
const RESULT_TTL_DEFAULT: Millis = Millis(7 * 86_400_000);
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
    let owner = table.value("owner").and_then(|value| owner(&value));
    let queue = Queue {
        method: table.text("method").unwrap_or_else(|| "POST".to_owned()),
        path: table.text("path"),
        visibility: table.duration("visibility").unwrap_or(VISIBILITY_DEFAULT),
        job_timeout: table.duration("job_timeout").unwrap_or(JOB_TIMEOUT_DEFAULT),
        result_ttl: table.duration("result_ttl").unwrap_or(RESULT_TTL_DEFAULT),
        message: table.text("message").unwrap_or_else(|| "accepted".to_owned()),
        notify_app,
        notify_urls,
        notify_private,
        max_attempts: table.number("max_attempts", 1, 1000).unwrap_or(MAX_ATTEMPTS_DEFAULT),
        wait_for_app: table.duration("wait_for_app").unwrap_or(WAIT_FOR_APP_DEFAULT),
        user: user(table, owner.as_ref()),
        foreign_consumers: table.flag("foreign_consumers"),
        concurrency: table.number("concurrency", 1, 1000).unwrap_or(CONCURRENCY_DEFAULT),
        tenant_concurrency: table.number("tenant_concurrency", 1, 1000),
        result: table
            .choice("result", &[("proxy", Delivery::Proxy), ("redirect", Delivery::Redirect)])
            .unwrap_or(Delivery::Proxy),
        owner,
    };
    if queue.owner.is_some() && !table.has("user") {
        table.missing("user", "where a message names its owner, e.g. \"/user_id\"");
    }
    if queue.job_timeout > JOB_TIMEOUT_MAX {
        let reason = "SQS keeps a message in flight for 12 hours at most".to_owned();
        table.fault("job-timeout-too-long", reason, "Write job_timeout = \"11h\" or less.");
    }
    if queue.visibility > VISIBILITY_MAX {
        let reason = "SQS keeps a message invisible for 12 hours at most".to_owned();
        let remedy = "Write visibility = \"12h\" or less: it is renewed while the job runs.";
        table.fault("visibility-too-long", reason, remedy);
    }
    if queue.visibility < Millis(1_000) {
        table.fault(
            "visibility-too-short",
            "a heartbeat needs a second or more".into(),
            "Write visibility = \"30s\" or more.",
        );
    }
    if queue.wait_for_app > WAIT_FOR_APP_MAX {
        let reason = "a message that waits is received four times an hour, and SQS counts no more than 1,000 receives";
        let remedy = "Write wait_for_app = \"7d\" or less, or give the route a deadline.";
        table.fault("wait-for-app-too-long", reason.to_owned(), remedy);
    }
    table.finish();
    queue
}

/// Reads the source of owners. Only the application can confirm that somebody is the one whom a
/// message names.
fn owner(value: &Value<'_>) -> Option<Identity> {
    let owner = auth::identity(value)?;
    if !matches!(owner, Identity::Check(_)) {
        let reason = format!("`{owner}` is nothing that a message could be compared with");
        let remedy = "Write check:NAME, as auth.identity of a route has it: the application says who asks for a job.";
        value.fault("owner-without-check", reason, remedy);
    }
    Some(owner)
}

/// Reads `user = { header = "X-User-Id", from = "body:/user_id" }`, or `"/user_id"`, which uses the
/// field with which the application itself names owners.
fn user(table: &Table<'_>, owner: Option<&Identity>) -> Option<QueueUser> {
    let value = table.value("user")?;
    if !value.is_text() {
        let table = value.table()?;
        let header = table.required_text("header").to_ascii_lowercase();
        let from = table.value("from");
        if from.is_none() {
            table.missing("from", "where the message names its user, e.g. \"body:/user_id\"");
        }
        table.finish();
        return Some(QueueUser { header, from: pointer(&from?)? });
    }
    let from = pointer(&value);
    if !table.has("owner") {
        table.missing("owner", "whose field names the user, e.g. \"check:X-User-Id\"");
    }
    match owner? {
        Identity::Check(header) => Some(QueueUser { header: header.clone(), from: from? }),
        _ => None,
    }
}

/// A JSON pointer into the body, with or without `body:` before it.
fn pointer(value: &Value<'_>) -> Option<String> {
    let text = value.text()?;
    let pointer = text.strip_prefix("body:").unwrap_or(text);
    if !pointer.starts_with('/') {
        value.fault(
            "bad-source",
            "a message has nothing but its body".to_owned(),
            "Write body:/json/pointer.",
        );
        return None;
    }
    Some(pointer.to_owned())
}

#[cfg(test)]
mod tests {
    use crate::document::{Identity, QueueUser};
    use crate::file::check;

    fn rules(keys: &str) -> String {
        let route = |name: &str, queue: &str, check: &str| {
            format!(
                "[[route]]\nname = '{name}'\nmatch = {{ path = '/{name}', methods = ['GET'] }}\n\
                 offload = {{ queue = '{queue}', when = 'always', auth = {{ check = '{check}', \
                 identity = ['cookie:s', 'check:X-User'] }} }}\n"
            )
        };
        let (a, b, c) = (route("a", "p", "/a"), route("b", "q", "/b"), route("c", "q", "/c"));
        format!("{a}{b}{c}[queue.p]\n[queue.q]\npath = '/r'\n{keys}\n")
    }

    #[test]
    fn a_message_names_its_owner_and_the_application_is_told_by_the_same_field() {
        let owned = rules("owner = 'check:X-User'\nuser = '/user_id'");
        let document = check(&owned).expect("good rules").document;
        let queue = &document.queues["q"];
        let user = QueueUser { header: "x-user".to_owned(), from: "/user_id".to_owned() };
        assert_eq!(queue.user, Some(user));
        let owner = Identity::Check("x-user".to_owned());
        assert_eq!(document.check_of_owner("q", &owner), Some("/b"), "the first of its own");
        assert_eq!(document.check_of_owner("other", &owner), Some("/a"), "the first of all");
        let header = rules("user = { header = 'X-For', from = 'body:/u' }\nowner = 'check:X-User'");
        assert!(check(&header).is_ok());
    }

    #[test]
    fn an_owner_is_whom_the_application_can_name() {
        let fault = |keys: &str| {
            let faults = check(&rules(keys)).err()?;
            faults.iter().find(|fault| !fault.is_warning).map(|fault| fault.name)
        };
        for (keys, wanted) in [
            ("user = { header = 'X-For', from = 'body:/u' }", None),
            ("user = '/u'", Some("missing-key")),
            ("owner = 'check:X-User'", Some("missing-key")),
            ("owner = 'cookie:s'\nuser = '/u'", Some("owner-without-check")),
            ("owner = 'check:X-Other'\nuser = '/u'", Some("owner-unknown")),
            ("owner = 'X-User'\nuser = '/u'", Some("bad-identity")),
            ("owner = 'check:X-User'\nuser = 'u'", Some("bad-source")),
            ("user = { header = 'X-For', from = 'header:X-U' }", Some("bad-source")),
        ] {
            assert_eq!(fault(keys), wanted, "{keys}");
        }
    }
}
