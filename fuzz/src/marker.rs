//! Any text as the marker of a request from another sidecar: what was written is read as it was meant, and no other
//! text says the same.

use arbitrary::Unstructured;
use rules::UnixMillis;
use rules::shard::marker::{WrittenMarker, written};

const NAMES: [&str; 4] = ["m", "market_data", "a-1", "2"];

/// Stands for a signature: of all parts, with their ends.
fn signature(parts: &[&[u8]]) -> String {
    let texts = parts.iter().map(|part| format!("{}-", String::from_utf8_lossy(part)));
    texts.collect()
}

pub fn run(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data)
        && let Some(read) = WrittenMarker::read(text)
        && read.signature == signature(&read.signed())
        && let Some(said) = read.said(UnixMillis(0))
    {
        assert!(!said.map.contains('.') && !said.shard.contains('.'), "{text:?}");
    }
    let mut drawn = Unstructured::new(data);
    let Ok((map, shard, epoch, now)) = parts(&mut drawn) else { return };
    let text = written((map, shard), epoch, UnixMillis(now), signature);
    let read = WrittenMarker::read(&text).expect("it was written so");
    assert_eq!(read.signature, signature(&read.signed()));
    let said = read.said(UnixMillis(now)).expect("numbers");
    assert!(said.knows_stale && said.is_recent);
    assert_eq!((said.map.as_str(), said.shard.as_str(), said.epoch), (map, shard, epoch));
    changed(&mut drawn, &text, &read);
}

fn parts(
    drawn: &mut Unstructured<'_>,
) -> arbitrary::Result<(&'static str, &'static str, u64, u64)> {
    let (map, shard) = (*drawn.choose(&NAMES)?, *drawn.choose(&NAMES)?);
    Ok((map, shard, drawn.arbitrary()?, drawn.int_in_range(0..=u64::from(u32::MAX))?))
}

/// A text with one byte changed is no marker, or one whose signature is wrong, or says the same.
fn changed(drawn: &mut Unstructured<'_>, text: &str, read: &WrittenMarker<'_>) {
    let Ok(place) = drawn.choose_index(text.len()) else { return };
    let Ok(byte) = drawn.int_in_range(b'-'..=b'z') else { return };
    let mut bytes = text.as_bytes().to_vec();
    if let Some(place) = bytes.get_mut(place) {
        *place = byte;
    }
    let Ok(other) = String::from_utf8(bytes) else { return };
    let Some(found) = WrittenMarker::read(&other) else { return };
    let is_good = found.signature == signature(&found.signed());
    assert!(!is_good || found == *read, "{other:?} passes for {text:?}");
}
