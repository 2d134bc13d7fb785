//! HTTP/1.1 from the wire: heads and chunked bodies, whole and in two pieces.

use bytes::{Bytes, BytesMut};
use http::Method;
use http1::block::Block;
use http1::chunked::{Decoder, Piece};
use http1::framing::{Framing, Stated, has_no_body};
use http1::head::{self, Progress, RequestHead};
use http1::received::Received;
use http1::{Refusal, encode};

/// The first byte says where the rest is cut.
fn cut(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let (at, rest) = data.split_first()?;
    Some(rest.split_at(rest.len() * usize::from(*at) / 256))
}

/// Where a head ended, if it was one.
type Taken<T> = Result<Option<(T, usize)>, Refusal>;

/// What comes of it when it arrives in two pieces.
fn in_two<T>(
    data: &[u8],
    take: fn(&mut BytesMut, &mut Progress) -> Result<Option<T>, Refusal>,
) -> Option<(Taken<T>, Taken<T>)> {
    let (first, second) = cut(data)?;
    let whole = [first, second].concat();
    let (mut read, mut progress) = (BytesMut::from(whole.as_slice()), Progress::default());
    let at_once = take(&mut read, &mut progress);
    let at_once = at_once.map(|head| head.map(|head| (head, whole.len() - read.len())));
    let (mut read, mut progress) = (BytesMut::from(first), Progress::default());
    let mut pieces = take(&mut read, &mut progress);
    if matches!(pieces, Ok(None)) {
        read.extend_from_slice(second);
        pieces = take(&mut read, &mut progress);
        let pieces = pieces.map(|head| head.map(|head| (head, whole.len() - read.len())));
        return Some((at_once, pieces));
    }
    let pieces = pieces.map(|head| head.map(|head| (head, first.len() - read.len())));
    Some((at_once, pieces))
}

/// What was taken has no line end but CR LF, and ends with an empty line.
fn is_strict(data: &[u8], end: usize) {
    let whole = data.get(1..=end).unwrap_or_default();
    assert!(whole.ends_with(b"\r\n\r\n"), "ends otherwise: {whole:?}");
    for (at, byte) in whole.iter().enumerate() {
        match byte {
            b'\n' => assert_eq!(whole.get(at.wrapping_sub(1)), Some(&b'\r'), "a lone LF"),
            b'\r' => assert_eq!(whole.get(at + 1), Some(&b'\n'), "a lone CR"),
            0 => panic!("NUL was taken"),
            _ => {}
        }
    }
}

/// A body has one length, or is chunked, or there is none.
fn is_framed_once(headers: &http::HeaderMap, framing: Result<Framing, Refusal>) {
    let count = |name: http::HeaderName| headers.get_all(name).iter().count();
    let (lengths, codings) =
        (count(http::header::CONTENT_LENGTH), count(http::header::TRANSFER_ENCODING));
    if framing.is_ok() {
        assert!(lengths <= 1 && (lengths == 0 || codings == 0), "{headers:?} was taken");
    }
    // Codings that are none say nothing, however many: such an answer ends with its connection.
    if matches!(framing, Ok(Framing::Length(_) | Framing::Chunked)) {
        assert_eq!(lengths + codings, 1, "{headers:?} was taken");
    }
    if framing == Ok(Framing::Chunked) {
        assert_eq!(headers.get("transfer-encoding").map(http::HeaderValue::len), Some(7));
    }
}

fn taken(read: &mut BytesMut, progress: &mut Progress) -> Result<Option<RequestHead>, Refusal> {
    let mut head = RequestHead::default();
    Ok(head::request(read, progress, &mut head)?.then_some(head))
}

pub fn request(data: &[u8]) {
    let Some((at_once, pieces)) = in_two(data, taken) else { return };
    let (Ok(Some((head, end))), pieces) = (at_once, pieces) else { return };
    let Ok(Some((again, same))) = pieces else { panic!("refused when it comes in two pieces") };
    assert_eq!((end, &head.method, &head.target), (same, &again.method, &again.target));
    assert_eq!(head.headers, again.headers);
    is_strict(data, end);
    is_framed_once(&head.headers, Stated::of(&head.headers).of_request(head.version));
    // What we would send on is read as what was meant.
    let target = &head.target.path_and_query;
    for came in [&head.came, &Received::default()] {
        let mut sent = Vec::new();
        encode::request_line(&mut sent, &head.method, target);
        came.write(&head.headers, &mut sent);
        encode::end(&mut sent);
        let sent = taken(&mut BytesMut::from(sent.as_slice()), &mut Progress::default());
        if let Ok(sent) = sent {
            let sent = sent.expect("a whole head");
            assert_eq!((&sent.method, &sent.headers), (&head.method, &head.headers));
            assert_eq!(&sent.target.path_and_query, target);
        }
    }
}

pub fn response(data: &[u8]) {
    let Some((at_once, pieces)) = in_two(data, head::response) else { return };
    let (Ok(Some((head, end))), pieces) = (at_once, pieces) else { return };
    let Ok(Some((again, same))) = pieces else { panic!("refused when it comes in two pieces") };
    let headers = head.fields.headers().expect("what was parsed is a field");
    assert_eq!((end, head.status), (same, again.status));
    assert_eq!(Ok(&headers), again.fields.headers().as_ref());
    is_strict(data, end);
    let stated = Stated::read(head.fields.iter());
    let Ok(answered) = stated.of_response(&Method::GET, head.status, head.version) else { return };
    if !answered.is_mended() {
        is_framed_once(&headers, Ok(answered.framing));
    }
    // What is passed on as it came says the same, and what was mended has one reading.
    if !has_no_body(head.status) {
        let is_coding = |name: &[u8]| name.eq_ignore_ascii_case(b"transfer-encoding");
        let passed = Block::passed(head.status, &head.fields, answered.lengths, |name| {
            answered.is_mended() && is_coding(name)
        });
        let sent = [b"HTTP/1.1 200\r\n", passed.lines(), b"\r\n"].concat();
        let sent = head::response(&mut BytesMut::from(sent.as_slice()), &mut Progress::default());
        let sent = sent.expect("what was taken is taken again").expect("a whole head");
        let again = Stated::read(sent.fields.iter());
        let again =
            again.of_response(&Method::GET, head.status, head.version).expect("one reading");
        assert!(!again.is_mended(), "{headers:?} was mended twice");
        if !answered.is_mended() {
            assert_eq!(sent.fields.headers(), Ok(headers));
        }
    }
}

/// The data and the trailers, and how many bytes were left; or why not.
fn decoded(pieces: &[&[u8]]) -> Result<Option<(Vec<u8>, usize)>, Refusal> {
    let (mut decoder, mut read, mut data) = (Decoder::default(), BytesMut::new(), Vec::new());
    for piece in pieces {
        read.extend_from_slice(piece);
        while let Some(piece) = decoder.decode(&mut read)? {
            match piece {
                Piece::Data(bytes) => data.extend_from_slice(&bytes),
                Piece::End(_) => assert!(decoder.is_done()),
            }
        }
    }
    Ok(decoder.is_done().then_some((data, read.len())))
}

pub fn chunked(data: &[u8]) {
    let Some((first, second)) = cut(data) else { return };
    let whole = [first, second].concat();
    let (at_once, pieces) = (decoded(&[&whole]), decoded(&[first, second]));
    match (&at_once, &pieces) {
        (Ok(at_once), Ok(pieces)) => assert_eq!(at_once, pieces),
        // Which of several faults is seen first depends on the pieces.
        (Err(_), Err(_)) => {}
        _ => panic!("{at_once:?} at once, {pieces:?} in two pieces"),
    }
    let Ok(Some((body, _))) = at_once else { return };
    // As we would send it.
    let mut sent = Vec::new();
    if !body.is_empty() {
        encode::chunk(&mut sent, body.len());
        sent.extend_from_slice(&body);
        sent.extend_from_slice(b"\r\n");
    }
    sent.extend_from_slice(&Bytes::from_static(encode::LAST_CHUNK));
    assert_eq!(decoded(&[&sent]), Ok(Some((body, 0))));
}
