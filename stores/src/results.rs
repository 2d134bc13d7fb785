//! The store of results, outcomes, leases and accept records: keys, bytes and conditions. The vocabulary is
//! that of Amazon S3; the directory follows it.

pub mod dir;
pub mod file_body;
mod key;
#[cfg(feature = "aws")]
pub mod s3;

use bytes::Bytes;
use net::boxed::{Boxed, ObjectBody};
use rules::UnixMillis;
use std::fmt;
use std::path::Path;
use std::time::Duration;

/// The condition under which a write happens: the only means of coordination between processes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    Always,
    /// Only if there is no object (`If-None-Match: *`).
    IfAbsent,
    /// Only if the object still has this etag (`If-Match`).
    IfMatch(String),
}

/// Why a write did not happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PutError {
    /// The condition was not met: somebody else was first.
    Precondition,
    Failed(StoreError),
}

/// Why the store did not carry out a call. `name` is the metric label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreError {
    pub name: &'static str,
    pub detail: String,
}

impl fmt::Display for StoreError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.name, self.detail)
    }
}

impl std::error::Error for StoreError {}

/// A stored object, or a part of it.
pub struct Object {
    /// The entity tag with its quotes, as in HTTP.
    pub etag: String,
    /// The length of the whole object in bytes, even when a part was asked for.
    pub length: u64,
    pub body: ObjectBody,
}

/// A key with the time it was written last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub key: String,
    pub written: UnixMillis,
}

/// Keys are `/`-separated segments of `[A-Za-z0-9._-]`.
pub trait Results: Send + Sync {
    /// Resolves to the new etag when the object is durable.
    fn put<'a>(
        &'a self,
        key: &'a str,
        body: Bytes,
        condition: Condition,
    ) -> Boxed<'a, Result<String, PutError>>;

    /// Puts an object from a file, which the store may move away.
    fn put_file<'a>(
        &'a self,
        key: &'a str,
        path: &'a Path,
        condition: Condition,
    ) -> Boxed<'a, Result<String, PutError>>;

    /// Gets an object, or a part of it: `range` is its first and last byte, both within the object.
    fn get<'a>(
        &'a self,
        key: &'a str,
        range: Option<(u64, u64)>,
    ) -> Boxed<'a, Result<Option<Object>, StoreError>>;

    /// The etag and the length of an object.
    fn head<'a>(&'a self, key: &'a str) -> Boxed<'a, Result<Option<(String, u64)>, StoreError>>;

    fn delete<'a>(&'a self, key: &'a str) -> Boxed<'a, Result<(), StoreError>>;

    /// Lists up to `max` (1-1000) keys that begin with `prefix` and come after `after` (empty: from the
    /// first), in ascending order. A prefix is a key, or one with a slash at its end.
    fn list<'a>(
        &'a self,
        prefix: &'a str,
        after: &'a str,
        max: usize,
    ) -> Boxed<'a, Result<Vec<Listed>, StoreError>>;

    /// A URL from which anybody can fetch the object for so long, with the given header fields; `None` where
    /// the store has no URLs.
    fn signed_url<'a>(
        &'a self,
        key: &'a str,
        life: Duration,
        headers: &'a [(String, String)],
    ) -> Boxed<'a, Result<Option<String>, StoreError>>;

    /// Whether objects stay until somebody deletes them. A bucket has lifecycle rules.
    fn keeps_for_good(&self) -> bool {
        false
    }

    /// Whether each call costs money, so that none is made without need.
    fn is_billed(&self) -> bool {
        false
    }

    /// Whether the files of the store, if it has any, are where they were when it was opened.
    fn stands(&self) -> bool {
        true
    }

    /// The name of the bucket in a claim-check pointer.
    fn bucket(&self) -> &str;

    /// The prefix of our keys in the bucket; empty, or with a slash at its end.
    fn prefix(&self) -> &str {
        ""
    }
}
