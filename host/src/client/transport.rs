//! A connection to one node: the handshake, and frames out of the bytes that arrive.

use super::encode;
use super::error::{LinkError, ProtocolError};
use crate::checksum::CRC;
use crate::stream::Stream;
use crate::tls::Tls;
use core::time::Duration;
use eventstream_core::id::ClusterId;
use eventstream_core::wire::{Control, Frame, Header, Hello, MAX_FRAME_LEN, Role, VERSION, Welcome, peek};
use std::io;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A node that has not accepted the connection after this is not there.
const CONNECT: Duration = Duration::from_millis(500);
/// A node that has not answered the hello after this is not well.
const HANDSHAKE: Duration = Duration::from_secs(2);
/// Bytes that are read at once, at most.
const INBOX_BYTES: usize = 4 * MAX_FRAME_LEN;

/// Connects, under TLS if there is something to speak it with, and says hello. The answer is in the inbox, for [`Inbox::take_welcome`].
pub(super) async fn connect(
    address: &str,
    cluster: Option<ClusterId>,
    tls: Option<&Tls>,
) -> Result<(Stream, Inbox), LinkError> {
    let connected = timeout(CONNECT, TcpStream::connect(address)).await;
    let stream = connected.map_err(|_| LinkError::Silent)??;
    stream.set_nodelay(true)?;
    let mut stream = Stream::plain(stream);
    let mut hello = Vec::new();
    let role = tls.map_or(Role::Client, Tls::role);
    encode(&Control::Hello(Hello { version_min: VERSION, version_max: VERSION, cluster, role }), &mut hello);
    let mut inbox = Inbox::default();
    let handshake = async {
        if let Some(tls) = tls {
            stream.secure(tls.dial()).await?;
        }
        stream.write_all(&hello).await?;
        while inbox.first_header()?.is_none() {
            stream.readable().await?;
            inbox.fill_from(&mut stream)?;
        }
        Ok(())
    };
    timeout(HANDSHAKE, handshake).await.unwrap_or(Err(LinkError::Silent))?;
    Ok((stream, inbox))
}

/// What was read and not handled yet.
#[derive(Debug)]
pub(super) struct Inbox {
    buffer: Box<[u8]>,
    /// `buffer[start..end]` was read and not handled.
    start: usize,
    end: usize,
}

impl Default for Inbox {
    fn default() -> Self {
        Self { buffer: vec![0; INBOX_BYTES].into_boxed_slice(), start: 0, end: 0 }
    }
}

impl Inbox {
    /// Reads what has arrived, as far as there is room: there always is when every whole frame was taken. Returns whether
    /// that was anything.
    pub(super) fn fill_from(&mut self, stream: &mut Stream) -> Result<bool, LinkError> {
        if self.buffer.len() - self.end < MAX_FRAME_LEN {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        match stream.try_read(&mut self.buffer[self.end..]) {
            Ok(0) => Err(LinkError::Closed),
            Ok(read) => {
                self.end += read;
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes the next frame, checked, if all of it has arrived.
    pub(super) fn next_frame(&mut self) -> Result<Option<Frame<'_>>, ProtocolError> {
        let Some(header) = self.first_header()? else { return Ok(None) };
        let start = self.start;
        self.start += header.frame_len();
        Ok(Some(Frame::complete(header, &self.buffer[start..self.start], CRC)?))
    }

    /// Takes the node's answer to the hello, and hands it on if it is a welcome.
    pub(super) fn take_welcome<T>(
        &mut self,
        then: impl FnOnce(&Welcome<'_>) -> Result<T, LinkError>,
    ) -> Result<T, LinkError> {
        let frame = self.next_frame()?.ok_or(ProtocolError::Unexpected)?;
        match Control::decode(frame.header().kind, frame.payload()).map_err(ProtocolError::Control)? {
            Control::Welcome(welcome) => then(&welcome),
            Control::Refused(refused) => {
                Err(LinkError::Refused { reason: refused.reason, detail: refused.detail.to_owned() })
            }
            _ => Err(ProtocolError::Unexpected.into()),
        }
    }

    /// The header of the first frame, if all of that frame has arrived.
    fn first_header(&self) -> Result<Option<Header>, ProtocolError> {
        let bytes = &self.buffer[self.start..self.end];
        Ok(peek(bytes, CRC)?.filter(|header| header.frame_len() <= bytes.len()))
    }
}
