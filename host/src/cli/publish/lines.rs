//! Lines of a file or of standard input, read by a thread of their own: reading may block, publishing must not.

use eventstream_core::config::MAX_EVENT_PAYLOAD;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use tokio::sync::mpsc;

/// Bytes that are read at once, at most.
const CHUNK_BYTES: usize = 256 * 1024;
/// Chunks that wait to be cut into lines, at most.
const CHUNKS: usize = 4;

/// Why there is no next line.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinesError {
    /// No event can be so long.
    #[error("line {number} is longer than an event may be, which is {MAX_EVENT_PAYLOAD} bytes")]
    TooLong {
        /// The first line has number 1.
        number: u64,
    },
    /// The input cannot be read.
    #[error("the input cannot be read: {0}")]
    Read(io::Error),
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Lines {
    chunks: mpsc::Receiver<io::Result<Vec<u8>>>,
    buffer: Vec<u8>,
    /// `buffer[at..]` was not given out yet.
    at: usize,
    given: u64,
    has_ended: bool,
}

impl Lines {
    /// Opens a file, or standard input under the name `-`.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let input: Box<dyn Read + Send> =
            if path == Path::new("-") { Box::new(io::stdin()) } else { Box::new(File::open(path)?) };
        let (sender, chunks) = mpsc::channel(CHUNKS);
        // Ends with the input, with the receiver, or, where a read never returns, with the process.
        std::thread::Builder::new().name("input".into()).spawn(move || read(input, &sender))?;
        Ok(Self { chunks, buffer: Vec::new(), at: 0, given: 0, has_ended: false })
    }

    /// The next line, without its end; the last one need not have one.
    pub(super) async fn next(&mut self) -> Result<Option<&[u8]>, LinesError> {
        loop {
            let rest = &self.buffer[self.at..];
            let end = rest.iter().position(|byte| *byte == b'\n');
            let len = end.unwrap_or(rest.len());
            if len > MAX_EVENT_PAYLOAD {
                return Err(LinesError::TooLong { number: self.given + 1 });
            }
            if end.is_some() || self.has_ended {
                if end.is_none() && len == 0 {
                    return Ok(None);
                }
                let start = self.at;
                self.at += len + usize::from(end.is_some());
                self.given += 1;
                return Ok(Some(&self.buffer[start..start + len]));
            }
            self.buffer.drain(..self.at);
            self.at = 0;
            match self.chunks.recv().await {
                Some(Ok(chunk)) => self.buffer.extend_from_slice(&chunk),
                Some(Err(error)) => return Err(LinesError::Read(error)),
                None => self.has_ended = true,
            }
        }
    }
}

fn read(mut input: Box<dyn Read + Send>, chunks: &mpsc::Sender<io::Result<Vec<u8>>>) {
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        let chunk = match input.read(&mut buffer) {
            Ok(0) => return,
            Ok(read) => Ok(buffer[..read].to_vec()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => Err(error),
        };
        let is_last = chunk.is_err();
        if chunks.blocking_send(chunk).is_err() || is_last {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    async fn lines_of(bytes: &[u8]) -> Result<Vec<Vec<u8>>, LinesError> {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(bytes).expect("written");
        let mut lines = Lines::open(file.path()).expect("opened");
        let mut all = Vec::new();
        while let Some(line) = lines.next().await? {
            all.push(line.to_vec());
        }
        Ok(all)
    }

    #[tokio::test]
    async fn every_line_is_one_even_if_it_is_empty() {
        assert_eq!(lines_of(b"").await.expect("read"), Vec::<Vec<u8>>::new());
        assert_eq!(lines_of(b"\n").await.expect("read"), [b""]);
        assert_eq!(lines_of(b"a\n\nb").await.expect("read"), [&b"a"[..], b"", b"b"]);
        assert_eq!(lines_of(b"a\r\n\xFF\n").await.expect("read"), [&b"a\r"[..], b"\xFF"], "bytes stay as they are");
    }

    #[tokio::test]
    async fn lines_go_over_the_ends_of_chunks() {
        let expected: Vec<Vec<u8>> = (0..60_000_u32).map(|number| format!("line {number}").into_bytes()).collect();
        let bytes = expected.join(&b'\n');
        assert!(bytes.len() > 2 * CHUNK_BYTES);
        assert_eq!(lines_of(&bytes).await.expect("read"), expected);
    }

    #[tokio::test]
    async fn a_line_that_is_too_long_is_named() {
        let longest = vec![b'x'; MAX_EVENT_PAYLOAD];
        assert_eq!(lines_of(&longest).await.expect("read"), [&longest[..]]);
        for end in [&b""[..], b"\n", b"\nmore"] {
            let bytes = [b"short\n", &longest[..], b"x", end].concat();
            let error = lines_of(&bytes).await.expect_err("too long");
            assert!(matches!(error, LinesError::TooLong { number: 2 }), "{error}");
        }
    }
}
