//! A connection as nodes and clients use it: reads and writes that never wait, and the waiting apart from them.

use core::future::poll_fn;
use core::pin::Pin;
use core::task::Poll;
use socket2::SockRef;
use std::io::{self, ErrorKind, IoSlice};
use std::net::Shutdown;
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::task::coop::consume_budget;

/// A connection that one task reads and writes.
#[derive(Debug)]
pub(crate) struct Stream {
    tcp: TcpStream,
}

/// A connection on its way to another thread.
#[derive(Debug)]
pub(crate) struct Detached {
    tcp: std::net::TcpStream,
}

impl Stream {
    /// Bytes as they are.
    pub(crate) fn plain(tcp: TcpStream) -> Self {
        Self { tcp }
    }

    /// The socket, for its options.
    pub(crate) fn socket(&self) -> &TcpStream {
        &self.tcp
    }

    /// Waits until there may be something to read.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        self.tcp.readable().await
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
        self.tcp.try_read(room)
    }

    /// Writes as much as is taken now.
    ///
    /// # Errors
    /// `WouldBlock` if that is nothing.
    pub(crate) fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.tcp.try_write(bytes)
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
        Ok(())
    }

    /// Writes no more, and reads until the other side closes too: a socket that is closed with unread bytes takes back what
    /// was just sent.
    pub(crate) async fn part(&mut self) -> io::Result<()> {
        end(&self.tcp)?;
        let mut unread = [0; 1_024];
        while self.tcp.read(&mut unread).await? > 0 {}
        Ok(())
    }

    /// Both directions, for the tasks of one thread.
    pub(crate) fn into_split(self) -> (ReadHalf, WriteHalf) {
        let (reading, writing) = self.tcp.into_split();
        (ReadHalf { tcp: reading }, WriteHalf { tcp: writing })
    }

    /// Takes it off this thread's runtime.
    pub(crate) fn detach(self) -> io::Result<Detached> {
        Ok(Detached { tcp: self.tcp.into_std()? })
    }
}

impl Detached {
    /// Puts it on this thread's runtime.
    pub(crate) fn attach(self) -> io::Result<Stream> {
        Ok(Stream { tcp: TcpStream::from_std(self.tcp)? })
    }
}

/// What is received.
#[derive(Debug)]
pub(crate) struct ReadHalf {
    tcp: OwnedReadHalf,
}

impl ReadHalf {
    /// Waits until there may be something to read.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        self.tcp.readable().await
    }

    /// Reads what is there now; `None` if nothing is, zero bytes at the end. A read that does not fill `room` tells the
    /// runtime that the socket is empty, which spares a second system call.
    ///
    /// A task that has read for too long is no more told what there is, however much: it gives way first. (Else it would
    /// take that for an empty socket, find it readable, and never end.)
    pub(crate) async fn read_now(&mut self, room: &mut [u8]) -> io::Result<Option<usize>> {
        consume_budget().await;
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
}

impl WriteHalf {
    /// Waits until there may be room to write.
    pub(crate) async fn writable(&self) -> io::Result<()> {
        self.tcp.writable().await
    }

    /// Writes as much as is taken now.
    ///
    /// # Errors
    /// `WouldBlock` if that is nothing.
    pub(crate) fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.tcp.try_write_vectored(slices)
    }

    /// Writes no more. Who reads hears the end after everything that was written.
    pub(crate) fn end(&self) -> io::Result<()> {
        end(self.tcp.as_ref())
    }
}

fn end(tcp: &TcpStream) -> io::Result<()> {
    SockRef::from(tcp).shutdown(Shutdown::Write)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
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
