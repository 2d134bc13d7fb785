//! Messages of plain producers: a body, and perhaps an id of their own. `[queue.NAME]` says to
//! which path they are sent, for which user, and who owns the job.

use super::caller::{CALLER_BYTES_MAX, Caller};
use super::id;
use super::job::{DEADLINE, FIRST_ID, Job, SEALED, TOKEN, is_claim_check};
use super::lines::Lines;
use super::malformed::Malformed;
use super::record::Bare;
use crate::secrets::Secrets;
use bytes::Bytes;
use http::HeaderValue;
use rules::document::{Queue, QueueUser};
use stores::queue::Received;

/// Attributes of our own messages besides the id. A message with any of them is one of ours.
const OURS: [&str; 9] =
    ["method", "path", "host", "route", "headers", "body", DEADLINE, SEALED, TOKEN];
/// The attributes without which a message can't be executed.
const NEEDED: [&str; 4] = ["job-id", "method", "path", "headers"];
/// The field that tells the application the producer's id.
const OWN_ID: &str = "x-job-own-id";

/// The queue, its name, and the secret from which ids are made.
#[derive(Clone, Copy)]
pub struct Of<'a> {
    pub name: &'a str,
    pub queue: &'a Queue,
    pub secrets: Option<&'a Secrets>,
}

/// Whether the message is a plain producer's.
///
/// # Errors
/// It has some of our attributes, but lacks others.
pub fn is_bare(received: &Received) -> Result<bool, Malformed> {
    let has = |name: &&str| received.attributes.contains_key(*name);
    let Some(ours) = OURS.iter().find(|name| has(name)) else { return Ok(true) };
    let lacks: Vec<&str> = NEEDED.into_iter().filter(|name| !has(name)).collect();
    if lacks.is_empty() { Ok(false) } else { Err(Malformed::Incomplete { has: ours, lacks }) }
}

/// The id of a bare message's job, and the producer's own id where it differs.
///
/// # Errors
/// Why it has none.
pub fn job_id(received: &Received, of: Of<'_>) -> Result<(String, Option<String>), Malformed> {
    let attribute = |name: &str| received.attributes.get(name).cloned();
    let (kind, own) = match attribute("job-id") {
        Some(own) => ("own", own),
        None => ("sent", attribute(FIRST_ID).unwrap_or_else(|| received.id.clone())),
    };
    // The owner uses this id to request status and result: it must be recognisable as ours.
    if kind == "sent" && of.queue.owner.is_none() {
        is_a_messages(&own, of)?;
        return Ok((own, None));
    }
    let secrets = of.secrets.ok_or(Malformed::NoSecret)?;
    Ok((id::of_message(secrets, of.name, kind, &own), Some(own)))
}

/// Checks the id that a redriven message states: it must be SQS's id, or one of ours for a message,
/// and never that of a client's job.
///
/// # Errors
/// When it is another.
fn is_a_messages(id: &str, of: Of<'_>) -> Result<(), Malformed> {
    let of_queue = std::iter::once(of.name);
    let is_ours = of.secrets.is_some_and(|secrets| id::queue_of(secrets, id, of_queue).is_some());
    if is_ours || !id.contains('.') {
        return Ok(());
    }
    Err(Malformed::FirstIdOfJob)
}

/// The job of a bare message. Nothing but the id of a claim check is known until its body is
/// loaded.
///
/// # Errors
/// Why it can't be one.
pub fn unpack(received: &Received, of: Of<'_>) -> Result<Job, Malformed> {
    let target = of.queue.path.clone().ok_or(Malformed::NoPath)?;
    let (id, own_id) = job_id(received, of)?;
    let mut headers = vec![("content-type".to_owned(), "application/json".into())];
    if let Some(own) = own_id.as_ref().filter(|own| HeaderValue::from_str(own).is_ok()) {
        headers.push((OWN_ID.to_owned(), own.as_str().into()));
    }
    let mut job = Job {
        id,
        route: None,
        bare: Some(Bare { own_id, user: None }),
        method: of.queue.method.clone(),
        target,
        host: "localhost".to_owned(),
        headers: Lines(headers),
        body: Bytes::new().into(),
        group: received.group.clone(),
        deadline: None,
        sealed: None,
        token: None,
    };
    if !is_claim_check(&received.attributes) {
        name_user(&mut job, of.queue.user.as_ref(), received.body.as_bytes());
    }
    Ok(job)
}

/// Finds the user of the message, and adds the rule's field for the application.
pub fn name_user(job: &mut Job, rule: Option<&QueueUser>, body: &[u8]) {
    let (Some(bare), Some(rule)) = (&mut job.bare, rule) else { return };
    if bare.user.is_some() {
        return;
    }
    let Some(name) = named(rule, body) else { return };
    job.headers.0.push((rule.header.clone(), name.as_str().into()));
    bare.user = Some(name);
}

/// The user as text, in the form in which the application would name it in a field.
fn named(rule: &QueueUser, body: &[u8]) -> Option<String> {
    let json: serde_json::Value = serde_json::from_slice(body).ok()?;
    let name = match json.pointer(&rule.from)? {
        serde_json::Value::String(text) => text.trim().to_owned(),
        serde_json::Value::Number(number) => number.to_string(),
        _ => return None,
    };
    let is_legal = (1..=CALLER_BYTES_MAX).contains(&name.len())
        && HeaderValue::from_bytes(name.as_bytes()).is_ok();
    is_legal.then_some(name)
}

/// The owner of the job.
pub fn owner(bare: &Bare, queue: &Queue) -> Option<Caller> {
    let (source, name) = (queue.owner.as_ref()?.to_string(), bare.user.clone()?);
    Some(Caller::Known { source, name })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rules::UnixMillis;

    fn received(attributes: &[(&str, &str)]) -> Received {
        let attributes = attributes.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        Received {
            id: "4d86a1c2".to_owned(),
            receipt: "r".to_owned(),
            body: r#"{"user_id": " 7 ", "id": 8, "none": [], "line": "a\nb"}"#.to_owned(),
            attributes: attributes.collect(),
            group: None,
            receives: 1,
            sent: UnixMillis(0),
        }
    }

    fn queue(keys: &str) -> Queue {
        let text = format!(
            "[[route]]\nname = 'r'\nmatch = {{ path = '/r' }}\noffload = {{ queue = 'q', when = 'always', \
             auth = {{ check = '/me', identity = 'check:X-User' }} }}\n[queue.q]\npath = '/r'\n{keys}"
        );
        let document = rules::file::check(&text).expect("good rules").document;
        document.queues["q"].clone()
    }

    fn job(attributes: &[(&str, &str)], keys: &str) -> Result<Job, Malformed> {
        let secrets = Secrets::parse(&"s".repeat(32)).expect("long enough");
        let queue = queue(keys);
        let of = Of { name: "q", queue: &queue, secrets: Some(&secrets) };
        unpack(&received(attributes), of)
    }

    #[test]
    fn a_message_with_some_of_our_attributes_says_which_are_missing() {
        assert!(is_bare(&received(&[])).is_ok_and(|is_bare| is_bare));
        let own = received(&[("job-id", "order-17"), ("trace", "x")]);
        assert!(is_bare(&own).is_ok_and(|is_bare| is_bare));
        let ours = [("job-id", "v1.a"), ("method", "GET"), ("path", "/"), ("headers", "{}")];
        assert!(is_bare(&received(&ours)).is_ok_and(|is_bare| !is_bare));
        let why = is_bare(&received(&ours[1..3])).expect_err("two are missing");
        let why = why.to_string();
        assert_eq!(why, "the message has the attribute method of a job, but not job-id, headers");
    }

    #[test]
    fn a_message_keeps_its_id_unless_it_names_its_own_or_somebody_owns_the_job() {
        let id = |attributes: &[(&str, &str)], keys: &str| {
            let job = job(attributes, keys).expect("a job");
            (job.id, job.bare.and_then(|bare| bare.own_id))
        };
        assert_eq!(id(&[], ""), ("4d86a1c2".to_owned(), None));
        assert_eq!(id(&[("first-id", "5e")], ""), ("5e".to_owned(), None));
        let (own, shown) = id(&[("job-id", "order-17")], "");
        assert!(own.starts_with("x1.") && shown.as_deref() == Some("order-17"), "{own}");
        let ours = "v1.1a20b63694b.41f1";
        assert!(id(&[("job-id", ours)], "").0.starts_with("x1."), "never one of ours");
        let owned = "owner = 'check:X-User'\nuser = '/user_id'";
        let (first, shown) = id(&[], owned);
        assert!(first.starts_with("x1.") && shown.as_deref() == Some("4d86a1c2"), "{first}");
        assert_eq!(id(&[("first-id", "4d86a1c2")], owned).0, first, "brought back by hand");
    }

    #[test]
    fn the_user_is_one_whom_the_application_could_name() {
        let user = |from: &str| {
            let keys = format!("owner = 'check:X-User'\nuser = '{from}'");
            job(&[], &keys).expect("a job").bare.and_then(|bare| bare.user)
        };
        assert_eq!(user("/user_id").as_deref(), Some("7"));
        assert_eq!(user("/id").as_deref(), Some("8"));
        for nobody in ["/none", "/line", "/missing"] {
            assert_eq!(user(nobody), None, "{nobody}");
        }
        let other = "user = { header = 'X-For', from = 'body:/user_id' }";
        let job = job(&[], other).expect("a job");
        assert_eq!(rules::head::first(&job.headers, "x-for").as_deref(), Some("7"));
        let bare = job.bare.expect("bare");
        assert_eq!((owner(&bare, &queue(other)), bare.user.as_deref()), (None, Some("7")));
    }
}
