//! What every store of results does, one step per line:
//!
//! ```text
//! put KEY CONTENT [CONDITION] -> @ETAG | ERROR      CONDITION: if-absent, if-match @ETAG
//! put-file KEY CONTENT [CONDITION] -> @ETAG | ERROR
//! get KEY [FIRST-LAST] -> CONTENT @ETAG | nothing | ERROR
//! head KEY -> LENGTH @ETAG | nothing | ERROR
//! delete KEY [-> ERROR]
//! list PREFIX MAX [AFTER] -> KEY … | nothing | ERROR
//! race KEY NUMBER                                   that many creates at once, one of which wins
//! ```
//!
//! `@1` after a put names the new etag, which differs from all others; elsewhere it is compared.

use bytes::Bytes;
use http_body_util::BodyExt;
use rules::UnixMillis;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use stores::results::{Condition, PutError, Results};

pub(super) const CASES: &[(&str, &str)] = &[
    (
        "what was put is got",
        "put a/b.c-d_e one -> @1
         get a/b.c-d_e -> one @1
         head a/b.c-d_e -> 3 @1",
    ),
    (
        "an unknown key is nothing",
        "get a -> nothing
         get a 0-1 -> nothing
         head a -> nothing
         delete a",
    ),
    (
        "a key is replaced",
        "put a one -> @1
         put a second -> @2
         get a -> second @2",
    ),
    (
        "a deleted key is gone",
        "put a one -> @1
         delete a
         get a -> nothing
         put a two if-absent -> @2
         get a -> two @2",
    ),
    (
        "a create happens once",
        "put a one if-absent -> @1
         put a two if-absent -> precondition
         get a -> one @1",
    ),
    (
        "a replacement needs the newest etag",
        "put a one -> @1
         put a two if-match @1 -> @2
         put a three if-match @1 -> precondition
         put a three if-match @2 -> @3
         get a -> three @3",
    ),
    (
        "nothing cannot be replaced",
        "put a one -> @1
         delete a
         put a two if-match @1 -> precondition
         get a -> nothing",
    ),
    ("exactly one of twelve racing creates wins", "race a 12"),
    (
        "a part is got",
        "put a one -> @1
         get a 0-0 -> o @1
         get a 1-2 -> ne @1
         get a 0-2 -> one @1
         get a 3-4 -> range",
    ),
    (
        "an empty object is an object",
        "put a empty -> @1
         head a -> 0 @1
         get a -> empty @1",
    ),
    (
        "a large body",
        "put a big -> @1
         head a -> 3145729 @1
         get a -> big @1
         get a 1048575-2097152 -> big[1048575-2097152] @1
         get a 3145728-3145728 -> big[3145728-3145728] @1",
    ),
    (
        "a body from a file",
        "put-file a big if-absent -> @1
         get a -> big @1
         put-file a one if-absent -> precondition
         put-file a one if-match @1 -> @2
         get a -> one @2
         put-file a empty -> @3
         get a -> empty @3",
    ),
    (
        "large bodies replace small ones and the other way round",
        "put a one -> @1
         put a big -> @2
         put a second if-match @2 -> @3
         get a -> second @3
         head a -> 6 @3",
    ),
    (
        "keys are listed in order, from a prefix on",
        "put b/2 one -> @1
         put b/1 two -> @2
         put b/3 three -> @3
         put bb four -> @4
         put a/1 five -> @5
         list b/ 10 -> b/1 b/2 b/3
         list b/ 2 -> b/1 b/2
         list b/ 2 b/2 -> b/3
         list b/ 2 b/3 -> nothing
         list c/ 2 -> nothing
         list ../ 2 -> key-illegal",
    ),
    (
        "a bad key is refused",
        "put ../a one -> key-illegal
         put-file a//b one -> key-illegal
         get . -> key-illegal
         head a?b -> key-illegal
         delete /a -> key-illegal",
    ),
];

/// Runs the case; the error names the step.
pub(super) async fn run(
    results: &Arc<dyn Results>,
    spool: &Path,
    script: &str,
) -> Result<(), String> {
    let mut run = Run { results, spool, etags: HashMap::new() };
    for line in script.lines().map(str::trim) {
        run.step(line).await.map_err(|fault| format!("{line}\n      {fault}"))?;
    }
    Ok(())
}

/// How many of the creates win. One whose answer did not come in time (SeaweedFS lets the losers of a
/// lock wait for seconds) has won when the object is its own.
pub(super) async fn race(stores: &[Arc<dyn Results>], key: &str, number: usize) -> usize {
    let mut racers = tokio::task::JoinSet::new();
    for at in 0..number {
        let (results, key) = (stores[at % stores.len()].clone(), key.to_owned());
        racers.spawn(async move {
            let body = Bytes::from(format!("racer {at}"));
            (at, results.put(&key, body, Condition::IfAbsent).await)
        });
    }
    let outcomes = racers.join_all().await;
    let object = stores[0].get(key, None).await.expect("a read").expect("somebody won");
    let stored = object.body.collect().await.expect("a body").to_bytes();
    let has_won = |(at, outcome): &(usize, Result<String, PutError>)| match outcome {
        Ok(_) => true,
        Err(PutError::Precondition) => false,
        Err(PutError::Failed(error)) if error.name == "timeout" => stored == format!("racer {at}"),
        Err(PutError::Failed(error)) => panic!("racer {at}: {error}"),
    };
    outcomes.iter().filter(|racer| has_won(racer)).count()
}

struct Run<'a> {
    results: &'a Arc<dyn Results>,
    spool: &'a Path,
    /// By `@NAME`.
    etags: HashMap<String, String>,
}

impl Run<'_> {
    async fn step(&mut self, line: &str) -> Result<(), String> {
        let (call, expected) = line.split_once(" -> ").unwrap_or((line, "ok"));
        let words: Vec<&str> = call.split_whitespace().collect();
        let outcome = match words[..] {
            ["put" | "put-file", key, name, ..] => {
                let result = self.put(words[0], key, name, &words[3..]).await;
                return self.written(result, expected);
            }
            ["get", key] => self.get(key, None).await,
            ["get", key, range] => {
                let (first, last) = range.split_once('-').expect("FIRST-LAST");
                let bounds = (first.parse().expect("first"), last.parse().expect("last"));
                self.get(key, Some(bounds)).await
            }
            ["head", key] => match self.results.head(key).await {
                Ok(Some((etag, length))) => format!("{length} {}", self.named(&etag)),
                Ok(None) => "nothing".to_owned(),
                Err(error) => error.name.to_owned(),
            },
            ["delete", key] => {
                let done = self.results.delete(key).await;
                done.map_or_else(|error| error.name, |()| "ok").to_owned()
            }
            ["list", prefix, max, ..] => {
                let max = max.parse().expect("a number");
                self.list(prefix, words.get(3).copied().unwrap_or_default(), max).await
            }
            ["race", key, number] => {
                let number = number.parse().expect("a number");
                let winners = race(std::slice::from_ref(self.results), key, number).await;
                if winners == 1 { "ok".to_owned() } else { format!("{winners} winners") }
            }
            _ => panic!("not a step: {line}"),
        };
        if outcome == expected { Ok(()) } else { Err(format!("outcome: {outcome}")) }
    }

    async fn put(
        &self,
        verb: &str,
        key: &str,
        name: &str,
        condition: &[&str],
    ) -> Result<String, PutError> {
        let condition = match condition {
            [] => Condition::Always,
            ["if-absent"] => Condition::IfAbsent,
            ["if-match", etag] => Condition::IfMatch(self.etags[*etag].clone()),
            other => panic!("not a condition: {other:?}"),
        };
        if verb == "put" {
            return self.results.put(key, Bytes::from(content(name)), condition).await;
        }
        let path = self.spool.join("spooled");
        std::fs::write(&path, content(name)).expect("a spooled file");
        self.results.put_file(key, &path, condition).await
    }

    fn written(&mut self, result: Result<String, PutError>, expected: &str) -> Result<(), String> {
        let outcome = match result {
            Ok(etag) if expected.starts_with('@') => {
                if !(etag.starts_with('"') && etag.ends_with('"')) {
                    return Err(format!("the etag {etag} has no quotes"));
                }
                if self.etags.values().any(|known| *known == etag) {
                    return Err(format!("the etag {etag} is not new"));
                }
                self.etags.insert(expected.to_owned(), etag);
                return Ok(());
            }
            Ok(etag) => format!("written as {etag}"),
            Err(PutError::Precondition) => "precondition".to_owned(),
            Err(PutError::Failed(error)) if error.name == expected => return Ok(()),
            Err(PutError::Failed(error)) => error.to_string(),
        };
        if outcome == expected { Ok(()) } else { Err(format!("outcome: {outcome}")) }
    }

    async fn get(&self, key: &str, range: Option<(u64, u64)>) -> String {
        let object = match self.results.get(key, range).await {
            Ok(Some(object)) => object,
            Ok(None) => return "nothing".to_owned(),
            Err(error) => return error.name.to_owned(),
        };
        let etag = self.named(&object.etag);
        let body = match object.body.collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) => return error.to_string(),
        };
        // The whole object's, even when a part was asked for.
        let length = match range {
            None => Some(body.len() as u64),
            Some(_) => self.results.head(key).await.ok().flatten().map(|(_, length)| length),
        };
        if length != Some(object.length) {
            return format!("the length is {}, not {length:?}", object.length);
        }
        format!("{} {etag}", described(&body, range))
    }

    async fn list(&self, prefix: &str, after: &str, max: usize) -> String {
        let listed = match self.results.list(prefix, after, max).await {
            Ok(listed) => listed,
            Err(error) => return error.name.to_owned(),
        };
        assert!(listed.iter().all(|it| it.written > UnixMillis(1_600_000_000_000)), "{listed:?}");
        let keys: Vec<String> = listed.into_iter().map(|it| it.key).collect();
        if keys.is_empty() { "nothing".to_owned() } else { keys.join(" ") }
    }

    fn named(&self, etag: &str) -> String {
        let known = self.etags.iter().find(|(_, known)| *known == etag);
        known.map_or_else(|| format!("unknown etag {etag}"), |(name, _)| name.clone())
    }
}

/// Bytes as the scripts write them.
fn described(body: &[u8], range: Option<(u64, u64)>) -> String {
    let big = content("big");
    match range {
        None if body.is_empty() => "empty".to_owned(),
        None if body == big => "big".to_owned(),
        Some((first, last)) if last > 9 => {
            let wanted = big.get(
                usize::try_from(first).expect("small")..=usize::try_from(last).expect("small"),
            );
            let what = if wanted == Some(body) { "big" } else { "other bytes than big" };
            format!("{what}[{first}-{last}]")
        }
        _ => String::from_utf8_lossy(body).into_owned(),
    }
}

fn content(name: &str) -> Vec<u8> {
    match name {
        "empty" => Vec::new(),
        // 3 MiB and one byte, no two neighbouring chunks of which are equal; not legal UTF-8.
        "big" => (0..(3u32 << 20) + 1).map(|at| (at ^ (at >> 8) ^ (at >> 16)) as u8).collect(),
        name => name.as_bytes().to_vec(),
    }
}
