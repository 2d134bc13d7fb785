//! A file, or a part of it, as a body.

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use net::boxed::ObjectBody;
use std::io::{Error, ErrorKind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::fs::File;
use tokio::io::{AsyncRead, ReadBuf};

/// How many bytes are read at once: each piece is one call of the blocking pool, and all that a slow reader
/// keeps in memory.
const CHUNK_BYTES: usize = 128 << 10;

/// A body of the next `length` bytes of the file from its current position.
pub fn file_body(mut file: File, length: u64) -> ObjectBody {
    file.set_max_buf_size(CHUNK_BYTES);
    FileBody { file, left: length, buffer: BytesMut::new() }.boxed_unsync()
}

struct FileBody {
    file: File,
    left: u64,
    buffer: BytesMut,
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        if this.left == 0 {
            return Poll::Ready(None);
        }
        let want = usize::try_from(this.left).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
        this.buffer.resize(want, 0);
        let mut target = ReadBuf::new(&mut this.buffer);
        let read = ready!(Pin::new(&mut this.file).poll_read(context, &mut target));
        let count = target.filled().len();
        if let Err(error) = read {
            return Poll::Ready(Some(Err(error)));
        }
        if count == 0 {
            let error = Error::new(ErrorKind::UnexpectedEof, "the stored file is too short");
            return Poll::Ready(Some(Err(error)));
        }
        this.left -= count as u64;
        let chunk = this.buffer.split_to(count).freeze();
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_cut_short_is_an_error_not_a_short_answer() {
        let path = std::env::temp_dir().join(format!("spillway-short-{}", std::process::id()));
        std::fs::write(&path, "abc").expect("write");
        let file = File::open(&path).await.expect("open");
        let error = file_body(file, 4).collect().await.expect_err("three of four bytes");
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
        std::fs::remove_file(&path).expect("remove");
    }
}
