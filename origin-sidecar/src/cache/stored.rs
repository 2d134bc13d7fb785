//! A stored answer. It has all of its memory for itself, exactly as much as it needs, and knows how
//! much that is.

use super::weight;
use crate::body::{self, Body, Collected};
use bytes::Bytes;
use http_body::Body as _;
use http_body_util::BodyExt;
use http1::block::Block;
use memmap2::{MmapMut, MmapOptions};
use rules::cache::Entry;
use std::io;
use std::mem::size_of;

/// Shared, never copied: a hit clones the `Arc` and the body's handle.
#[derive(Clone)]
pub struct Stored {
    pub status: u16,
    /// But for those that each serving adds.
    pub fields: Block,
    pub body: Bytes,
    pub entry: Entry,
    /// Of the URL it answers, as [`super::store::Store::url`] hashes it.
    pub url: u64,
    /// By which it is purged.
    pub tags: Vec<Box<str>>,
    blocks: usize,
    mapped: usize,
}

impl Stored {
    /// The body must be one that [`collect`] read.
    pub fn new(
        status: u16,
        fields: Block,
        body: Bytes,
        entry: Entry,
        url: u64,
        tags: Vec<Box<str>>,
    ) -> Self {
        let (of_body, mapped) = weight::body(&body);
        let blocks = weight::shared(size_of::<Self>())
            + weight::text(fields.lines())
            + of_body
            + weight::entry(&entry)
            + weight::tags(&tags);
        Self { status, fields, body, entry, url, tags, blocks, mapped }
    }

    /// Bytes of the blocks that the allocator gave for it.
    pub fn blocks(&self) -> usize {
        self.blocks
    }

    /// Bytes of the pages that it has for itself.
    pub fn mapped(&self) -> usize {
        self.mapped
    }
}

/// Reads a body of up to `limit` bytes into memory that is as long as it: what is read may be part of
/// a larger buffer.
///
/// A large one gets pages of its own from the system and gives them back when it goes. The allocator
/// would put it among others of its class into a page of 4 MiB, of which the last one keeps the whole.
///
/// # Errors
/// When the stream breaks off.
pub async fn collect(body: Body, limit: usize) -> io::Result<Collected> {
    let length = body.size_hint().exact().and_then(|length| usize::try_from(length).ok());
    let is_mapped = |length: &usize| (weight::MAPPED_MIN..=limit).contains(length);
    if let Some(pages) = length.filter(is_mapped).and_then(mapped) {
        return Ok(Collected::Whole(fill(pages, body).await?));
    }
    Ok(match body::collect(body, limit).await? {
        Collected::Whole(read) => Collected::Whole(own(&read)),
        too_large => too_large,
    })
}

/// With its pages in place: faulted in one by one they cost an answer of 1 MiB 1.3 ms of CPU, so 0.9.
/// None beyond 65,530 mappings, of which Linux allows no more: then the allocator does.
fn mapped(length: usize) -> Option<MmapMut> {
    MmapOptions::new().len(length).populate().map_anon().ok()
}

async fn fill(mut pages: MmapMut, mut body: Body) -> io::Result<Bytes> {
    let mut left = &mut pages[..];
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        let Some((now, later)) = left.split_at_mut_checked(data.len()) else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        now.copy_from_slice(&data);
        left = later;
    }
    if left.is_empty() {
        Ok(Bytes::from_owner(pages))
    } else {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}

fn own(read: &[u8]) -> Bytes {
    let pages = if read.len() < weight::MAPPED_MIN { None } else { mapped(read.len()) };
    match pages {
        Some(mut pages) => {
            pages.copy_from_slice(read);
            Bytes::from_owner(pages)
        }
        None => Bytes::copy_from_slice(read),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::Full;

    async fn read(body: Body) -> Option<Bytes> {
        match collect(body, 200_000).await.expect("a whole body") {
            Collected::Whole(read) => Some(read),
            Collected::TooLarge(_) => None,
        }
    }

    #[tokio::test]
    async fn a_body_is_read_as_it_is_whether_or_not_its_length_is_known() {
        for length in [0, 10, 65_535, 65_536, 100_001, 200_000] {
            let sent: Vec<u8> = (0..length).map(|at| at as u8).collect();
            let known = Body::full(sent.clone());
            let unknown = Full::new(Bytes::from(sent.clone())).map_err(|never| match never {});
            for body in [known, Body::boxed(unknown.boxed_unsync())] {
                assert_eq!(read(body).await.as_deref(), Some(&sent[..]));
            }
        }
        assert!(read(Body::full(vec![0; 200_001])).await.is_none(), "too large");
    }
}
