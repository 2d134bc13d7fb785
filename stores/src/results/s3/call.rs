//! One call to S3, and its body.

use crate::results::file_body::file_body;
use bytes::Bytes;
use http::Method;
use http_body_util::{BodyExt, Full};
use net::boxed::ObjectBody;
use std::path::Path;
use tokio::fs::File;

/// One call, whose body can be made again for a retry.
pub(super) struct Call<'a> {
    pub(super) method: Method,
    pub(super) key: &'a str,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) payload: Payload<'a>,
    /// Lists keys: `key` is the prefix, and the fields say after which key and how many.
    pub(super) listing: Option<(&'a str, usize)>,
    /// Whether the call is idempotent.
    pub(super) idempotent: bool,
}

pub(super) enum Payload<'a> {
    None,
    Bytes(Bytes),
    File(&'a Path, u64),
}

impl<'a> Call<'a> {
    /// An idempotent call without a body.
    pub(super) fn of(method: Method, key: &'a str, headers: Vec<(&'static str, String)>) -> Self {
        Self { method, key, headers, payload: Payload::None, listing: None, idempotent: true }
    }
}

impl Payload<'_> {
    pub(super) fn length(&self) -> u64 {
        match self {
            Self::None => 0,
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File(_, length) => *length,
        }
    }

    pub(super) async fn body(&self) -> std::io::Result<ObjectBody> {
        let whole = |bytes| Full::new(bytes).map_err(|never| match never {}).boxed_unsync();
        Ok(match self {
            Self::None => whole(Bytes::new()),
            Self::Bytes(bytes) => whole(bytes.clone()),
            Self::File(path, length) => file_body(File::open(path).await?, *length),
        })
    }
}
