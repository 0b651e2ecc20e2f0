//! A connection as nodes and clients use it, in plain or over [TLS](crate::tls): reads and writes that never wait, and the
//! waiting apart from them.

use crate::tls::{MAX_PULL, Session};
use core::cell::RefCell;
use core::future::poll_fn;
use core::pin::Pin;
use core::task::Poll;
use rustls::pki_types::CertificateDer;
use socket2::SockRef;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::Shutdown;
use std::rc::Rc;
use tokio::io::{AsyncRead, AsyncReadExt, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::task::coop::consume_budget;

/// A connection that one task reads and writes.
#[derive(Debug)]
pub(crate) struct Stream {
    tcp: TcpStream,
    tls: Option<Box<Session>>,
}

/// The first byte of a TLS connection: the type of the record that holds its first message.
const TLS_HANDSHAKE: u8 = 22;

/// A connection on its way to another thread.
#[derive(Debug)]
pub(crate) struct Detached {
    tcp: std::net::TcpStream,
    tls: Option<Box<Session>>,
}

impl Stream {
    /// Bytes as they are.
    pub(crate) fn plain(tcp: TcpStream) -> Self {
        Self { tcp, tls: None }
    }

    /// Waits for the first byte, and tells whether it is one of TLS. It is read again.
    ///
    /// # Errors
    /// `UnexpectedEof` if there is none.
    pub(crate) async fn begins_as_tls(&self) -> io::Result<bool> {
        let mut first = [0];
        match self.tcp.peek(&mut first).await? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            _ => Ok(first[0] == TLS_HANDSHAKE),
        }
    }

    /// Whether the other side sends no more, as far as that is known: there may be something to read all the same.
    ///
    /// # Errors
    /// The connection's.
    pub(crate) async fn has_ended(&self) -> io::Result<bool> {
        Ok(self.tcp.ready(Interest::READABLE).await?.is_read_closed())
    }

    /// Puts everything from here on under TLS, and shakes hands.
    ///
    /// # Errors
    /// The connection's. `InvalidData` with a [`rustls::Error`] where one side does not trust the other; the other side has
    /// been told as far as that was possible.
    pub(crate) async fn secure(&mut self, tls: impl Into<rustls::Connection>) -> io::Result<()> {
        self.begin_to_secure(tls);
        while self.awaits_step().await? {
            self.step()?;
        }
        Ok(())
    }

    /// The same for those who choose when it is computed: to be followed by a [step](Self::step) for each time that one is
    /// [awaited](Self::awaits_step).
    pub(crate) fn begin_to_secure(&mut self, tls: impl Into<rustls::Connection>) {
        self.tls = Some(Box::new(Session::new(tls)));
    }

    /// Waits until there is something for the next step of the handshake; false when it is done.
    ///
    /// # Errors
    /// As [`Self::secure`].
    pub(crate) async fn awaits_step(&mut self) -> io::Result<bool> {
        while !self.try_flush()? {
            self.tcp.writable().await?;
        }
        let is_shaking = self.tls.as_ref().is_some_and(|session| session.is_shaking());
        if is_shaking {
            self.tcp.readable().await?;
        }
        Ok(is_shaking)
    }

    /// Takes what has come of the handshake, and computes what it asks for.
    ///
    /// # Errors
    /// As [`Self::secure`].
    pub(crate) fn step(&mut self) -> io::Result<()> {
        let Some(session) = &mut self.tls else { return Ok(()) };
        // To the end of what there is: what the socket is not asked for it goes on calling readable.
        while session.is_shaking() {
            match session.pull(&mut Socket(&self.tcp)) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => {
                    let _the_first_error_is_the_one_that_counts = self.try_flush();
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// The certificate that the other side has shown, if it has.
    pub(crate) fn certificate(&self) -> Option<&CertificateDer<'static>> {
        self.tls.as_ref().and_then(|session| session.certificate())
    }

    /// The socket, for its options.
    pub(crate) fn socket(&self) -> &TcpStream {
        &self.tcp
    }

    /// Waits until there may be something to read.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        match &self.tls {
            Some(session) if session.is_readable() => Ok(()),
            _ => self.tcp.readable().await,
        }
    }

    /// Waits until there may be room to write.
    pub(crate) async fn writable(&self) -> io::Result<()> {
        self.tcp.writable().await
    }

    /// Reads what is there; zero bytes at the end.
    ///
    /// # Errors
    /// `WouldBlock` if there is nothing.
    pub(crate) fn try_read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        match &mut self.tls {
            Some(session) => session.read(&mut Socket(&self.tcp), room),
            None => self.tcp.try_read(room),
        }
    }

    /// Writes as much as is taken now. Some of it may not have left: see [`Self::is_holding`].
    ///
    /// # Errors
    /// `WouldBlock` if that is nothing.
    pub(crate) fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.tls {
            Some(session) => session.write(&mut Socket(&self.tcp), &[IoSlice::new(bytes)]),
            None => self.tcp.try_write(bytes),
        }
    }

    /// Whether something was taken by a write and has not left: it does when [`Self::try_flush`] is called again.
    pub(crate) fn is_holding(&self) -> bool {
        self.tls.as_ref().is_some_and(|session| session.is_holding())
    }

    /// Lets what was taken by writes leave; gives whether all of it has.
    pub(crate) fn try_flush(&mut self) -> io::Result<bool> {
        match &mut self.tls {
            Some(session) => session.flush(&mut Socket(&self.tcp)),
            None => Ok(true),
        }
    }

    /// Reads until `room` is full.
    ///
    /// # Errors
    /// `UnexpectedEof` if the connection ends before.
    pub(crate) async fn read_exact(&mut self, mut room: &mut [u8]) -> io::Result<()> {
        while !room.is_empty() {
            match self.try_read(room) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => room = &mut room[count..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.readable().await?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes all of it.
    pub(crate) async fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.try_write(bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.writable().await?,
                Err(error) => return Err(error),
            }
        }
        while !self.try_flush()? {
            self.writable().await?;
        }
        Ok(())
    }

    /// Writes no more, and reads until the other side closes too: a socket that is closed with unread bytes takes back what
    /// was just sent.
    pub(crate) async fn part(&mut self) -> io::Result<()> {
        if let Some(mut session) = self.tls.take() {
            session.end(&mut Socket(&self.tcp))?;
        }
        end(&self.tcp)?;
        let mut unread = [0; 1_024];
        while self.tcp.read(&mut unread).await? > 0 {}
        Ok(())
    }

    /// Both directions, for the tasks of one thread.
    pub(crate) fn into_split(self) -> (ReadHalf, WriteHalf) {
        let (reading, writing) = self.tcp.into_split();
        let tls = self.tls.map(|session| Rc::new(RefCell::new(*session)));
        (ReadHalf { tcp: reading, tls: tls.clone() }, WriteHalf { tcp: writing, tls })
    }

    /// Takes it off this thread's runtime.
    pub(crate) fn detach(self) -> io::Result<Detached> {
        Ok(Detached { tcp: self.tcp.into_std()?, tls: self.tls })
    }
}

impl Detached {
    /// Puts it on this thread's runtime.
    pub(crate) fn attach(self) -> io::Result<Stream> {
        Ok(Stream { tcp: TcpStream::from_std(self.tcp)?, tls: self.tls })
    }
}

/// What is received.
#[derive(Debug)]
pub(crate) struct ReadHalf {
    tcp: OwnedReadHalf,
    tls: Option<Rc<RefCell<Session>>>,
}

impl ReadHalf {
    /// Waits until there may be something to read.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        match &self.tls {
            Some(session) if session.borrow().is_readable() => Ok(()),
            _ => self.tcp.readable().await,
        }
    }

    /// Room that a read needs to leave nothing behind in memory that is not the reader's.
    pub(crate) fn least_room(&self) -> usize {
        if self.tls.is_some() { MAX_PULL } else { 0 }
    }

    /// Reads what is there now; `None` if nothing is, zero bytes at the end. A read that does not fill `room` tells the
    /// runtime that the socket is empty, which spares a second system call.
    ///
    /// A task that has read for too long is no more told what there is, however much: it gives way first. (Else it would
    /// take that for an empty socket, find it readable, and never end.)
    pub(crate) async fn read_now(&mut self, room: &mut [u8]) -> io::Result<Option<usize>> {
        consume_budget().await;
        if let Some(session) = &self.tls {
            return match session.borrow_mut().read(&mut Socket(self.tcp.as_ref()), room) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
                read => read.map(Some),
            };
        }
        let mut buffer = ReadBuf::new(room);
        poll_fn(|context| match Pin::new(&mut self.tcp).poll_read(context, &mut buffer) {
            Poll::Ready(Ok(())) => Poll::Ready(Ok(Some(buffer.filled().len()))),
            Poll::Ready(Err(error)) if error.kind() == ErrorKind::Interrupted => Poll::Ready(Ok(None)),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Ready(Ok(None)),
        })
        .await
    }

    /// Reads until the other side closes, and looks at nothing.
    pub(crate) async fn read_to_end(&mut self) -> io::Result<()> {
        let mut unread = [0; 4_096];
        while self.tcp.read(&mut unread).await? > 0 {}
        Ok(())
    }
}

/// What is sent.
#[derive(Debug)]
pub(crate) struct WriteHalf {
    tcp: OwnedWriteHalf,
    tls: Option<Rc<RefCell<Session>>>,
}

impl WriteHalf {
    /// Waits until there may be room to write.
    pub(crate) async fn writable(&self) -> io::Result<()> {
        self.tcp.writable().await
    }

    /// Writes as much as is taken now. Some of it may not have left: see [`Self::try_flush`].
    ///
    /// # Errors
    /// `WouldBlock` if that is nothing.
    pub(crate) fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match &self.tls {
            Some(session) => session.borrow_mut().write(&mut Socket(self.tcp.as_ref()), slices),
            None => self.tcp.try_write_vectored(slices),
        }
    }

    /// Lets what was taken by writes leave; gives whether all of it has.
    pub(crate) fn try_flush(&self) -> io::Result<bool> {
        match &self.tls {
            Some(session) => session.borrow_mut().flush(&mut Socket(self.tcp.as_ref())),
            None => Ok(true),
        }
    }

    /// Writes no more. Who reads hears the end after everything that was written.
    pub(crate) fn end(&self) -> io::Result<()> {
        if let Some(session) = &self.tls {
            session.borrow_mut().end(&mut Socket(self.tcp.as_ref()))?;
        }
        end(self.tcp.as_ref())
    }
}

/// The socket below a session.
struct Socket<'a>(&'a TcpStream);

impl Read for Socket<'_> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(room)
    }
}

impl Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn end(tcp: &TcpStream) -> io::Result<()> {
    SockRef::from(tcp).shutdown(Shutdown::Write)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[test]
    fn a_task_with_much_to_read_gives_way_and_goes_on() {
        const BYTES: usize = 2_000;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let mut sender = std::net::TcpStream::connect(listener.local_addr().expect("bound")).expect("it listens");
            let stream = Stream::plain(listener.accept().await.expect("a connection").0);
            let (mut reading, _writing) = stream.into_split();
            sender.write_all(&[7; BYTES]).expect("room on the way");
            let (mut read, mut nothing) = (0, 0);
            while read < BYTES {
                reading.readable().await.expect("an open connection");
                match reading.read_now(&mut [0]).await.expect("an open connection") {
                    Some(count) => read += count,
                    None => nothing += 1,
                }
                assert!(nothing <= BYTES, "it is readable, and there is nothing to read, for ever");
            }
        });
    }
}
