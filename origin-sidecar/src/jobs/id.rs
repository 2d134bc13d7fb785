//! Job ids, which can't be guessed, and which identify their route and verify their owner without a
//! record.

use super::caller::Caller;
use crate::secrets::{Purpose, Secrets, random_hex};
use rules::UnixMillis;

/// Random bytes of an id: 128 bits.
const RANDOM_BYTES: usize = 16;

/// How the job is executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobKind {
    /// Its message is in a queue: `v1.…`
    Queued,
    /// Its execution continues in the proxy that received it: `a1.…`
    Adopted,
}

impl JobKind {
    fn name(self) -> &'static str {
        match self {
            Self::Queued => "v1",
            Self::Adopted => "a1",
        }
    }

    /// The kind of any id.
    pub fn of(id: &str) -> Self {
        if id.starts_with("a1.") { Self::Adopted } else { Self::Queued }
    }
}

/// Makes an id: `<kind>.<milliseconds, hex>.<random>.<route's mark>.<mac over kind, time, random,
/// route and caller>`.
///
/// # Errors
/// The system gives no random bytes.
pub fn fresh(
    secrets: &Secrets,
    kind: JobKind,
    route: &str,
    caller: &Caller,
    now: UnixMillis,
) -> std::io::Result<String> {
    let begin = format!("{}.{:x}.{}", kind.name(), now.0, random_hex(RANDOM_BYTES)?);
    let mark = mark(secrets, &begin, route);
    let mac = secrets.sign(Purpose::JobId, &parts(&begin, route, caller));
    Ok(format!("{begin}.{mark}.{mac}"))
}

/// The route's mark. It has a key of its own, because the route is determined before the owner is
/// checked.
fn mark(secrets: &Secrets, begin: &str, route: &str) -> String {
    secrets.sign(Purpose::JobRoute, &[begin.as_bytes(), route.as_bytes()])
}

fn parts<'a>(begin: &'a str, route: &'a str, caller: &'a Caller) -> [&'a [u8]; 5] {
    let [kind, source, name] = caller.parts();
    [begin.as_bytes(), route.as_bytes(), kind, source, name]
}

/// The route of an id; `None` for an id that was not made here.
pub fn route_of<'r>(
    secrets: &Secrets,
    id: &str,
    mut routes: impl Iterator<Item = &'r str>,
) -> Option<&'r str> {
    let marked = if is_keyed(id) { id } else { id.rsplit_once('.')?.0 };
    let (begin, mark) = marked.rsplit_once('.')?;
    routes.find(|route| {
        secrets.verify(Purpose::JobRoute, &[begin.as_bytes(), route.as_bytes()], mark)
    })
}

/// When the job was accepted, if it is this caller's on this route.
pub fn verify(secrets: &Secrets, id: &str, route: &str, caller: &Caller) -> Option<UnixMillis> {
    let (marked, mac) = id.rsplit_once('.')?;
    let (begin, _) = marked.rsplit_once('.')?;
    if !secrets.verify(Purpose::JobId, &parts(begin, route, caller), mac) {
        return None;
    }
    u64::from_str_radix(begin.split('.').nth(1)?, 16).ok().map(UnixMillis)
}

/// The id of a request with an `Idempotency-Key`: the same request gets the same job.
pub fn keyed(secrets: &Secrets, route: &str, caller: &Caller, key: &str) -> String {
    let [kind, source, name] = caller.parts();
    let parts = [route.as_bytes(), kind, source, name, key.as_bytes()];
    let begin = format!("k1.{}", secrets.sign(Purpose::JobId, &parts));
    let mark = mark(secrets, &begin, route);
    format!("{begin}.{mark}")
}

/// The id of a plain producer's message: the same message gets the same job, and no id that a
/// producer invents equals one of ours. `kind` says how the message is identified.
pub fn of_message(secrets: &Secrets, queue: &str, kind: &str, own: &str) -> String {
    let parts = [queue.as_bytes(), kind.as_bytes(), own.as_bytes()];
    let begin = format!("{MESSAGE}{}", secrets.sign(Purpose::Message, &parts));
    let mark = secrets.sign(Purpose::Message, &[begin.as_bytes(), queue.as_bytes()]);
    format!("{begin}.{mark}")
}

const MESSAGE: &str = "x1.";

/// The queue of a message's id; `None` for an id that was not made here.
pub fn queue_of<'r>(
    secrets: &Secrets,
    id: &str,
    mut queues: impl Iterator<Item = &'r str>,
) -> Option<&'r str> {
    let (begin, mark) = id.rsplit_once('.').filter(|_| id.starts_with(MESSAGE))?;
    queues
        .find(|queue| secrets.verify(Purpose::Message, &[begin.as_bytes(), queue.as_bytes()], mark))
}

/// Whether the id belongs to a request with an `Idempotency-Key`; its record contains the owner.
pub fn is_keyed(id: &str) -> bool {
    id.starts_with("k1.")
}

/// Whether the id looks like one that [`fresh`] made for a queue. Only the secret can verify it.
pub fn has_the_form_of_a_queued(id: &str) -> bool {
    let is_hex = |part: &str| part.bytes().all(|it| matches!(it, b'0'..=b'9' | b'a'..=b'f'));
    let mut parts = id.split('.');
    let (kind, time) = (parts.next(), parts.next().unwrap_or_default());
    let rest: Vec<&str> = parts.collect();
    kind == Some(JobKind::Queued.name())
        && u64::from_str_radix(time, 16).is_ok()
        && rest.len() == 3
        && rest.iter().all(|part| part.len() == 2 * RANDOM_BYTES && is_hex(part))
}

/// Whether the text is a possible key of the store.
pub fn is_plausible(id: &str) -> bool {
    const CHARS_MAX: usize = 128;
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    !id.is_empty() && id.len() <= CHARS_MAX && id.bytes().all(legal) && !id.starts_with('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(name: &str) -> Caller {
        Caller::Known { source: "cookie:session".into(), name: name.into() }
    }

    #[test]
    fn an_id_is_known_only_for_its_caller_and_route() {
        let secrets = Secrets::parse(&"s".repeat(32)).expect("long enough");
        let alice = caller("alice");
        let id = fresh(&secrets, JobKind::Queued, "reports", &alice, UnixMillis(1234))
            .expect("random bytes");
        assert_eq!(verify(&secrets, &id, "reports", &alice), Some(UnixMillis(1234)));
        assert_eq!(verify(&secrets, &id, "reports", &caller("bob")), None);
        assert_eq!(verify(&secrets, &id, "reports", &Caller::Anyone), None);
        assert_eq!(verify(&secrets, &id, "other", &alice), None);
        assert_eq!(verify(&secrets, &id.replace("v1.4d2", "v1.4d3"), "reports", &alice), None);
        assert_eq!(verify(&secrets, &id.replace("v1.", "a1."), "reports", &alice), None);
        assert!(is_plausible(&id) && has_the_form_of_a_queued(&id));
        for other in [&id[..id.len() - 1], &id[1..], &id.replace("v1", "a1"), "v1.4d2"] {
            assert!(!has_the_form_of_a_queued(other), "{other}");
        }
    }

    #[test]
    fn a_message_of_another_producer_has_the_same_id_each_time_and_none_that_it_could_choose() {
        let secrets = Secrets::parse(&"s".repeat(32)).expect("long enough");
        let id = of_message(&secrets, "work", "own", "order-17");
        assert_eq!(id, of_message(&secrets, "work", "own", "order-17"));
        for (queue, kind, own) in
            [("other", "own", "order-17"), ("work", "sent", "order-17"), ("work", "own", "v1.a")]
        {
            assert_ne!(id, of_message(&secrets, queue, kind, own));
        }
        let of = |id: &str| queue_of(&secrets, id, ["other", "work"].into_iter());
        assert!(is_plausible(&id));
        assert_eq!(of(&id), Some("work"));
        for made_up in [&id.replace("x1.", "x1.0"), &id.replace("x1.", "v1."), "x1", "x1.a.b"] {
            assert_eq!(of(made_up), None, "{made_up}");
        }
    }

    #[test]
    fn an_id_names_its_route_to_who_has_the_secret() {
        let secrets = Secrets::parse(&"s".repeat(32)).expect("long enough");
        let fresh = fresh(&secrets, JobKind::Adopted, "b", &caller("alice"), UnixMillis(1))
            .expect("random bytes");
        let keyed = keyed(&secrets, "b", &caller("alice"), "key");
        let of = |id: &str| route_of(&secrets, id, ["a", "b"].into_iter());
        for id in [&fresh, &keyed] {
            assert_eq!(of(id), Some("b"));
            assert!(is_plausible(id));
            let made_up = id.replace("1.", "1.0");
            assert_eq!(of(&made_up), None, "{made_up}");
        }
        assert_eq!(of("v1"), None);
        assert_eq!(of(&fresh.replace("a1.", "k1.")), None);
    }
}
