//! From a request to its shard keys, and from the keys to the shard.

use super::key::{ShardKey, ShardKeys};
use super::map::{OwnedRange, ShardMap};
use super::range::RangeState;
use crate::document::{KeySource, KeyType, ShardRule};
use crate::head::{Head, cookie, first, text_of};
use crate::path::{self, PathParameter};
use crate::problem::Problem;
use std::sync::Arc;

/// Where a request's data lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The request's keys.
    pub keys: ShardKeys,
    /// The range of the first key.
    pub range: Arc<OwnedRange>,
    /// The further ranges of a list. The same shard owns them.
    more: Vec<Arc<OwnedRange>>,
}

impl Resolved {
    /// Finds the owner of all the keys in this version of the map.
    ///
    /// # Errors
    /// `key-unmapped`, `map-unknown`; `cross-shard` when the keys lie on several shards.
    pub fn find(map: &ShardMap, keys: ShardKeys) -> Result<Self, Problem> {
        let (first, rest) = keys.as_slice().split_first().ok_or(Problem::KeyMissing)?;
        let range = Arc::clone(map.lookup(first)?);
        let mut more = Vec::new();
        for key in rest {
            let other = map.lookup(key)?;
            if other.shard != range.shard {
                return Err(Problem::CrossShard);
            }
            if !Arc::ptr_eq(other, &range) && !more.iter().any(|own| Arc::ptr_eq(own, other)) {
                more.push(Arc::clone(other));
            }
        }
        Ok(Self { keys, range, more })
    }

    /// Keys that all lie in one range.
    pub(super) fn in_one(keys: ShardKeys, range: Arc<OwnedRange>) -> Self {
        Self { keys, range, more: Vec::new() }
    }

    /// Name of the shard map.
    pub fn map(&self) -> &Arc<str> {
        &self.range.map
    }

    /// Name of the shard that owns the keys.
    pub fn shard(&self) -> &Arc<str> {
        &self.range.shard
    }

    /// Epoch of the map that said so.
    pub fn epoch(&self) -> u64 {
        self.range.epoch
    }

    /// All ranges that hold a key of the request.
    pub fn ranges(&self) -> impl Iterator<Item = &Arc<OwnedRange>> {
        std::iter::once(&self.range).chain(&self.more)
    }

    /// Whether a request has to wait until a move has ended: it writes in a range that is fenced.
    pub fn must_wait(&self, is_write: bool) -> bool {
        is_write && self.ranges().any(|range| range.state == RangeState::Fenced)
    }

    /// Whether a newer map has its say before the request is sent. What a newer marker says ([`Self::as_sent`])
    /// outdates the map here, and not the other way round.
    pub fn is_outdated_by(&self, newest: &Self) -> bool {
        newest.epoch() > self.epoch()
    }

    /// Whether a job may start: none of its ranges is about to move. A job may run for hours.
    pub fn may_start_job(&self) -> bool {
        self.ranges().all(|range| range.state == RangeState::Active)
    }
}

/// What could be said of a request's shard from its head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The route has no shard rule, or it is off.
    None,
    /// The shard is known.
    Resolved(Box<Resolved>),
    /// The key lies in the body: read up to `limit` bytes and ask [`crate::Rules::shard_in_body`].
    NeedsBody {
        /// The route's `body_limit` in bytes.
        limit: u64,
    },
}

impl Step {
    /// The shard, where it is known.
    pub fn resolved(&self) -> Option<&Resolved> {
        match self {
            Self::Resolved(resolved) => Some(resolved),
            Self::None | Self::NeedsBody { .. } => None,
        }
    }
}

/// Looks for the keys in path, query, headers and cookies; the first source that the request has counts.
/// None where the next source is the body.
///
/// # Errors
/// `key-missing`, `key-invalid`.
pub(crate) fn keys_in_head(
    rule: &ShardRule,
    key_type: KeyType,
    head: &Head<'_>,
    query: Option<&str>,
    parameters: &[PathParameter<'_>],
) -> Result<Option<ShardKeys>, Problem> {
    for source in &rule.from {
        let found = match source {
            KeySource::Path(name) => {
                let own = parameters.iter().filter(|(own, _)| own == name);
                parsed(key_type, own.map(|(_, value)| value), false)
            }
            KeySource::Query(name) => {
                let values = path::query_values(query.unwrap_or_default(), name);
                parsed(key_type, values, key_type != KeyType::Text)
            }
            KeySource::Header(name) => {
                parsed(key_type, first(head.fields, name).into_iter(), false)
            }
            KeySource::Cookie(name) => {
                let value = cookie(head.fields, name);
                let value = value.map(|value| text_of(&value).trim_matches('"').to_owned());
                parsed(key_type, value.into_iter(), false)
            }
            KeySource::Body(_) => return Ok(None),
        };
        if let Some(keys) = found {
            return keys.map(Some);
        }
    }
    Err(Problem::KeyMissing)
}

/// The keys of one source; none where the request does not have it. Nearly always it is one, for which nothing
/// is allocated.
fn parsed(
    key_type: KeyType,
    mut values: impl Iterator<Item = impl AsRef<str>>,
    is_list: bool,
) -> Option<Result<ShardKeys, Problem>> {
    let parse = |text: &str| ShardKey::parse(key_type, text).ok_or(Problem::KeyInvalid);
    let (first, second) = (values.next()?, values.next());
    if second.is_none() && !(is_list && first.as_ref().contains(',')) {
        return Some(parse(first.as_ref()).map(ShardKeys::One));
    }
    let mut keys = Vec::new();
    for value in [Some(first), second].into_iter().flatten().chain(values) {
        let value = value.as_ref();
        // The whole list is the key: two lists of one shard are two cache entries.
        let mut texts: Vec<&str> = if is_list { value.split(',').collect() } else { vec![value] };
        texts.dedup();
        for text in texts {
            match parse(text) {
                Ok(key) => keys.push(key),
                Err(problem) => return Some(Err(problem)),
            }
        }
    }
    Some(Ok(ShardKeys::Many(keys)))
}

/// Looks for the shard of a request in its head.
///
/// # Errors
/// As [`keys_in_head`] and [`Resolved::find`].
pub(crate) fn in_head(
    rule: &ShardRule,
    map: &ShardMap,
    head: &Head<'_>,
    query: Option<&str>,
    parameters: &[PathParameter<'_>],
) -> Result<Step, Problem> {
    match keys_in_head(rule, map.key_type(), head, query, parameters)? {
        None => Ok(Step::NeedsBody { limit: rule.body_limit }),
        Some(keys) => Ok(Step::Resolved(Box::new(Resolved::find(map, keys)?))),
    }
}

/// Looks for the key at the rule's JSON pointers.
///
/// # Errors
/// `key-missing` without a key, `key-invalid` for one that is not of the map's type, that a body has twice,
/// or a body that is not JSON; and as [`Resolved::find`].
pub(crate) fn in_body(rule: &ShardRule, map: &ShardMap, body: &[u8]) -> Result<Resolved, Problem> {
    let json: super::json::Unique =
        serde_json::from_slice(body).map_err(|_| Problem::KeyInvalid)?;
    let pointers = rule.from.iter().filter_map(|source| match source {
        KeySource::Body(pointer) => Some(pointer),
        _ => None,
    });
    for pointer in pointers {
        let text = match json.0.pointer(pointer) {
            None => continue,
            Some(serde_json::Value::String(text)) => text.clone(),
            Some(serde_json::Value::Number(number)) => number.to_string(),
            Some(_) => return Err(Problem::KeyInvalid),
        };
        let key = ShardKey::parse(map.key_type(), &text).ok_or(Problem::KeyInvalid)?;
        return Resolved::find(map, ShardKeys::One(key));
    }
    Err(Problem::KeyMissing)
}
