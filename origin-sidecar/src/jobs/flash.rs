//! Cookies that an application sets for the next page only ("flash"), in an answer that ends a job.
//!
//! A job's answer was made from the cookies at its acceptance. If a browser got its `Set-Cookie`
//! later, that would log a user in who has logged out, or restore an old cart. So only cookies that
//! the rule names are set, once, for the owner, and only where the browser's cookie is still the
//! one that was sent.

use super::auth::question_without;
use super::caller::Caller;
use super::context::JobWorker;
use super::permission::{Denied, Freshness, ask};
use super::record::{Flash, StoredAnswer, flash_key};
use crate::message::body::Body;
use crate::message::fields::View;
use crate::secrets::{Purpose, Secrets};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, header};
use rules::document::Offload;
use stores::results::{Condition, Results};

/// The flash cookies of an answer, as an extension of it.
#[derive(Debug, Clone)]
pub(super) struct Flashes(pub Vec<Flash>);

/// Collects the flash cookies of a job's answer, whose request had these fields. A cookie by which
/// the application identifies the caller is not kept: this is tested by asking the application
/// without them.
pub(super) async fn keep(
    worker: &JobWorker,
    (rule, id): (&Offload, &str),
    sent: &HeaderMap,
    response: &mut Response<Body>,
) {
    let Some(secrets) = worker.context.secrets.as_deref().filter(|_| !rule.flash.is_empty()) else {
        return;
    };
    let lines = response.headers().get_all(header::SET_COOKIE).iter();
    let found = lines.filter_map(|line| {
        let line = line.to_str().ok()?;
        let name = line.split_once('=')?.0.trim();
        rule.flash.iter().any(|own| own == name).then(|| Flash {
            name: name.to_owned(),
            line: line.to_owned(),
            was: mac(secrets, id, name, sent),
        })
    });
    let found: Vec<Flash> = found.collect();
    if found.is_empty() {
        return;
    }
    if is_read_by_check(worker, rule, sent, &found).await {
        tracing::warn!(
            job = id,
            reason = "flash-read-by-check",
            "the application knows its callers by a cookie that `flash` names; it is not given"
        );
        return;
    }
    response.extensions_mut().insert(Flashes(found));
}

/// Whether the application identifies somebody else, nobody or nothing without the cookies.
async fn is_read_by_check(
    worker: &JobWorker,
    rule: &Offload,
    sent: &HeaderMap,
    flashes: &[Flash],
) -> bool {
    let names: Vec<&str> = flashes.iter().map(|flash| flash.name.as_str()).collect();
    // The check does not need the other cookies of a job's request.
    let ours: Vec<HeaderName> =
        sent.keys().filter(|name| name.as_str().starts_with("x-job-")).cloned().collect();
    let mut sent = sent.clone();
    ours.iter().for_each(|name| drop(sent.remove(name)));
    let (sent, bare) = (&sent, without_cookies(&sent, &names));
    let caller =
        |headers: &HeaderMap, said: &HeaderMap| Caller::of(&rule.auth, headers, Some(said));
    let Some((with, without)) =
        question_without(&rule.auth, sent).zip(question_without(&rule.auth, &bare))
    else {
        return true;
    };
    if is_enough(worker, rule, &bare, flashes).await {
        return true;
    }
    let with = ask(worker, &with, Freshness::Recent).await;
    let without = ask(worker, &without, Freshness::Now).await;
    match (with, without) {
        (Ok(with), Ok(without)) => {
            let own = caller(sent, &with);
            own.is_err() || own != caller(&bare, &without)
        }
        _ => true,
    }
}

/// Whether the application identifies somebody by the new cookies alone.
async fn is_enough(
    worker: &JobWorker,
    rule: &Offload,
    bare: &HeaderMap,
    flashes: &[Flash],
) -> bool {
    let mut alone = bare.clone();
    alone.remove(header::COOKIE);
    alone.remove(header::AUTHORIZATION);
    let pairs = flashes.iter().map(|flash| flash.line.split(';').next().unwrap_or_default().trim());
    if let Ok(line) = HeaderValue::from_str(&pairs.collect::<Vec<_>>().join("; ")) {
        alone.insert(header::COOKIE, line);
    }
    let Some(question) = question_without(&rule.auth, &alone) else { return true };
    match ask(worker, &question, Freshness::Now).await {
        Ok(said) => Caller::of(&rule.auth, &HeaderMap::new(), Some(&said)).is_ok(),
        Err(why) => !matches!(why, Denied::No(_)),
    }
}

/// The fields without these cookies; all others are unchanged.
fn without_cookies(headers: &HeaderMap, names: &[&str]) -> HeaderMap {
    let mut bare = headers.clone();
    bare.remove(header::COOKIE);
    for line in headers.get_all(header::COOKIE) {
        let kept: Vec<&[u8]> = line
            .as_bytes()
            .split(|byte| *byte == b';')
            .filter(|pair| {
                let name = pair.split(|byte| *byte == b'=').next().unwrap_or_default();
                !names.iter().any(|own| own.as_bytes() == name.trim_ascii())
            })
            .collect();
        if let Ok(line) = HeaderValue::from_bytes(kept.join(&b';').trim_ascii())
            && !line.is_empty()
        {
            bare.append(header::COOKIE, line);
        }
    }
    bare
}

fn mac(secrets: &Secrets, id: &str, name: &str, headers: &HeaderMap) -> Option<String> {
    let value = rules::head::cookie(&View::of(headers), name)?;
    Some(secrets.sign(Purpose::Flash, &[id.as_bytes(), name.as_bytes(), &value]))
}

/// Sets the cookies in the answer that ends the job's page, if nobody got them before and the
/// browser's cookies have not changed since.
pub(super) async fn give(
    worker: &JobWorker,
    results: &dyn Results,
    (id, answer): (&str, &StoredAnswer),
    asked: &HeaderMap,
    response: &mut Response<Body>,
) {
    let Some(secrets) = worker.context.secrets.as_deref() else { return };
    let is_still = |flash: &&Flash| {
        let value = rules::head::cookie(&View::of(asked), &flash.name);
        match (&flash.was, value) {
            (None, None) => true,
            (Some(was), Some(value)) => {
                let parts = [id.as_bytes(), flash.name.as_bytes(), &value];
                secrets.verify(Purpose::Flash, &parts, was)
            }
            _ => false,
        }
    };
    let given: Vec<&Flash> = answer.flash.iter().filter(is_still).collect();
    if given.is_empty() {
        return;
    }
    // They are given once: the writer of this mark gives them.
    if results.put(&flash_key(id), Bytes::new(), Condition::IfAbsent).await.is_err() {
        return;
    }
    for line in given.iter().filter_map(|flash| HeaderValue::from_str(&flash.line).ok()) {
        response.headers_mut().append(header::SET_COOKIE, line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_taken_off_and_every_other_one_stays_as_it_was() {
        let mut headers = HeaderMap::new();
        for line in ["a=1; messages=\"x y\"; b=2", "messages=2"] {
            headers.append(header::COOKIE, HeaderValue::from_static(line));
        }
        let bare = without_cookies(&headers, &["messages"]);
        assert_eq!(bare.get_all(header::COOKIE).iter().collect::<Vec<_>>(), ["a=1; b=2"]);
    }
}
