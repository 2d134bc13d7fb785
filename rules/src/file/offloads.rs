//! Reads `[route.offload]`.

use super::auth;
use super::tree::Table;
use super::values::{MODES, key_source, lower};
use crate::document::{
    Auth, Identity, Mode, Offload, QueueFallback, ReplayAs, Retry, WaitEnds, When,
};
use crate::time::Millis;

/// The largest body of a job in bytes, unless the route says otherwise.
const JOB_BODY_DEFAULT: u64 = 8 * 1024 * 1024;

/// How long sealed credentials are valid unless the route says otherwise, in milliseconds: a
/// queue's usual backlog.
const REPLAY_TTL_DEFAULT: Millis = Millis(3_600_000);
/// The longest validity of sealed credentials, in milliseconds: after it nobody waits for the
/// request any more.
const REPLAY_TTL_MAX: Millis = Millis(86_400_000);

/// The longest time that a client may wait for an outcome, in milliseconds: the edge gives up on a
/// head after 60 s.
const WAIT_MAX: Millis = Millis(60_000);

/// SQS drops a message after this many milliseconds, whether or not it was received.
const RETENTION_MAX: Millis = Millis(14 * 86_400_000);

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
        replay_as: table
            .choice("replay_as", &[("nobody", ReplayAs::Nobody), ("caller", ReplayAs::Caller)])
            .unwrap_or(ReplayAs::Nobody),
        replay_ttl: table.duration("replay_ttl").unwrap_or(REPLAY_TTL_DEFAULT),
        flash: table.texts("flash").unwrap_or_default(),
        wait: table.duration("wait"),
        wait_ends: table
            .choice("wait_ends", &[("202", WaitEnds::Accepted), ("504", WaitEnds::GatewayTimeout)])
            .unwrap_or(WaitEnds::Accepted),
        forward_headers: lower(table.texts("forward_headers").unwrap_or_default()),
        max_body: table.size("max_body").unwrap_or(JOB_BODY_DEFAULT),
        retry: table
            .choice("retry", &[("never", Retry::Never), ("safe", Retry::Safe)])
            .unwrap_or(Retry::Never),
        fallback: table
            .choice(
                "fallback",
                &[("refuse", QueueFallback::Refuse), ("inline", QueueFallback::Inline)],
            )
            .unwrap_or(QueueFallback::Refuse),
        class: table.value("class").as_ref().and_then(key_source),
        spill_over: table.number("spill_over", 1, 100_000),
        concurrency: table.number("concurrency", 1, 1000),
        tenant: table.value("tenant").as_ref().and_then(key_source),
        deadline: table.duration("deadline"),
    };
    if offload.deadline.is_some_and(|deadline| deadline > RETENTION_MAX) {
        let reason = "SQS keeps a message for 14 days at most".to_owned();
        table.fault("deadline-too-long", reason, "Write deadline = \"14d\" or less.");
    }
    if offload.when == When::Slow && offload.after.is_none() {
        table.missing("after", "for when = \"slow\": how long an answer may take, e.g. \"2s\"");
    }
    let needs_slow = [("after", offload.after.is_some()), ("class", offload.class.is_some())];
    for (key, is_set) in needs_slow {
        if is_set && offload.when != When::Slow {
            let reason = format!("`{key}` has no effect without when = \"slow\"");
            table.fault("only-for-slow", reason, "Write when = \"slow\", or remove the key.");
        }
    }
    if offload.spill_over.is_some() && offload.when == When::Always {
        let reason =
            "this route queues every request, so there is no execution that a client waits for"
                .to_owned();
        table.fault("spill-over-always", reason, "Remove spill_over.");
    }
    replay_is_possible(table, &offload);
    if table.has("wait_ends") && offload.wait.is_none() {
        let reason = "`wait_ends` has no effect without `wait`".to_owned();
        table.fault("only-with-wait", reason, "Write wait = \"30s\", or remove wait_ends.");
    }
    table.finish();
    offload
}

/// Checks that a waiting client gets an answer before a proxy in between gives up.
pub(super) fn wait_is_possible(table: &Table<'_>, offload: &Offload, timeout: Option<Millis>) {
    let longest = timeout.unwrap_or(WAIT_MAX).min(WAIT_MAX);
    if offload.wait.is_some_and(|wait| wait > longest) {
        let seconds = longest.as_secs();
        let reason = format!("the edge, or the route's `timeout`, gives up after {seconds} s");
        table.fault("wait-too-long", reason, &format!("Write wait = \"{seconds}s\" or less."));
    }
}

/// Checks that replayed credentials reach only an application that is asked again whether they are
/// still valid.
fn replay_is_possible(table: &Table<'_>, offload: &Offload) {
    if offload.replay_as == ReplayAs::Nobody {
        if table.has("replay_ttl") {
            let reason = "`replay_ttl` has no effect without replay_as = \"caller\"".to_owned();
            table.fault("only-for-caller", reason, "Write replay_as, or remove replay_ttl.");
        }
        if !offload.flash.is_empty() {
            let reason = "without the caller's own cookies in the job nothing tells whether the browser still has the one that the job was given";
            table.fault(
                "flash-without-caller",
                reason.to_owned(),
                "Write replay_as = \"caller\", or remove flash.",
            );
        }
        return caller_travels(table, offload);
    }
    let is_identity = |name: &&String| {
        offload
            .auth
            .identities()
            .iter()
            .any(|it| matches!(it, Identity::Cookie(own) if own == *name))
    };
    if let Some(name) = offload.flash.iter().find(is_identity) {
        let reason =
            format!("`{name}` identifies the caller: to give it back would log the user in again");
        table.fault("flash-of-identity", reason, "Name only cookies that hold a message.");
    }
    let has_check = matches!(&offload.auth, Auth::Caller { check: Some(_), .. });
    if !has_check {
        let reason =
            "credentials would be used later, and nothing checks whether they are still valid";
        let remedy = "Add auth.check: the application is asked once more before each run.";
        table.fault("replay-without-check", reason.to_owned(), remedy);
    }
    let longest = offload.deadline.unwrap_or(offload.replay_ttl);
    if longest > REPLAY_TTL_MAX {
        let reason = "credentials may wait in a queue for 24 hours at most".to_owned();
        let remedy = "Write a replay_ttl, and a deadline if there is one, of \"24h\" or less.";
        table.fault("replay-ttl-too-long", reason, remedy);
    }
    if !offload.forward_headers.is_empty() {
        let reason = "every field travels sealed; `forward_headers` adds nothing".to_owned();
        table.warn("forward-headers-sealed", reason, "Remove forward_headers.");
    }
}

/// Checks callers that are identified by a cookie, which the job does not carry.
fn caller_travels(table: &Table<'_>, offload: &Offload) {
    let is_forwarded = offload.forward_headers.iter().any(|name| name == "cookie");
    let is_cookie = |it: &Identity| matches!(it, Identity::Cookie(_));
    if offload.auth.identities().iter().any(is_cookie) && !is_forwarded {
        let reason = "the caller is known by a cookie, and the application gets the job without it";
        let remedy = "Write replay_as = \"caller\" (with auth.check), so that the application gets the same request later; or let auth.keep say who it is.";
        table.warn("caller-stays-behind", reason.to_owned(), remedy);
    }
}

#[cfg(test)]
mod tests {
    use crate::file::check;

    const CHECKED: &str = "auth = { check = '/me', identity = 'check:X-User' }";

    /// The faults of a route with these keys.
    fn found(route: &str, keys: &str) -> Vec<&'static str> {
        let text = format!(
            "[[route]]\nname = 'r'\nmatch = {{ path = '/r', methods = ['GET'] }}\n{route}\n\
             [route.offload]\nqueue = 'q'\nwhen = 'always'\n{keys}\n[queue.q]\n"
        );
        let found = match check(&text) {
            Ok(checked) => checked.warnings,
            Err(faults) => faults,
        };
        found.iter().map(|fault| fault.name).collect()
    }

    #[test]
    fn credentials_travel_only_where_somebody_says_that_they_are_still_good() {
        let caller = "replay_as = 'caller'";
        let of = |keys: &str| found("", keys);
        assert!(of(&format!("{CHECKED}\n{caller}\nreplay_ttl = '24h'")).is_empty());
        assert_eq!(of(&format!("auth = 'none'\n{caller}")), ["replay-without-check"]);
        let cookie = "auth = { identity = 'cookie:s' }";
        assert_eq!(of(&format!("{cookie}\n{caller}")), ["replay-without-check"]);
        assert_eq!(of(cookie), ["caller-stays-behind"]);
        assert!(of(&format!("{cookie}\nforward_headers = ['Cookie']")).is_empty());
        for long in ["replay_ttl = '25h'", "deadline = '2d'"] {
            assert_eq!(of(&format!("{CHECKED}\n{caller}\n{long}")), ["replay-ttl-too-long"]);
        }
        assert_eq!(of(&format!("{CHECKED}\nreplay_ttl = '1h'")), ["only-for-caller"]);
        let flash = "flash = ['messages', 's']";
        assert!(of(&format!("{CHECKED}\n{caller}\n{flash}")).is_empty());
        assert_eq!(of(&format!("{CHECKED}\n{flash}")), ["flash-without-caller"]);
        let both = "auth = { check = '/me', identity = ['check:X-User', 'cookie:s'] }";
        assert_eq!(of(&format!("{both}\n{caller}\n{flash}")), ["flash-of-identity"]);
        let both = format!("{CHECKED}\n{caller}\nforward_headers = ['Cookie']");
        assert_eq!(of(&both), ["forward-headers-sealed"]);
    }

    #[test]
    fn a_client_waits_no_longer_than_those_in_between() {
        let of = |route: &str, wait: &str| found(route, &format!("auth = 'none'\n{wait}"));
        assert!(of("", "wait = '60s'\nwait_ends = '504'").is_empty());
        assert_eq!(of("", "wait = '61s'"), ["wait-too-long"]);
        assert_eq!(of("timeout = '10s'", "wait = '11s'"), ["wait-too-long"]);
        assert!(of("timeout = '90s'", "wait = '60s'").is_empty());
        assert_eq!(of("", "wait_ends = '504'"), ["only-with-wait"]);
    }
}
