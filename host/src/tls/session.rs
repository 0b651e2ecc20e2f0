//! TLS over a socket that never waits. The socket is the caller's: a session is given it for each call, so that the same
//! code serves a whole connection, the halves of one, and a test.

use rustls::pki_types::CertificateDer;
use rustls::{Connection, ConnectionCommon, SideData};
use std::io::{self, ErrorKind, IoSlice, Read, Write};

/// Bytes that a handshake may take, from the other side: four times what ours take.
const MAX_HANDSHAKE: usize = 8 * 1024;
/// Bytes that are encrypted and not written yet, at most.
const MAX_UNSENT: usize = 4 * 1024;
/// Bytes of a record, which has to be there as a whole before any of it can be read; more than what is in one.
pub(crate) const MAX_PULL: usize = 16_384 + 2_048 + 5;
/// Bytes that may come with nothing to read in them: a record that is not whole yet, and changes of keys. Who sends more
/// wants no answer: it would hold the thread, since a read that finds nothing to read goes on.
const MAX_IDLE: usize = MAX_PULL + 512;
/// What a session holds in memory, at most: a record that is not whole yet, what is not sent, and its state with what the
/// handshake left. What is decrypted goes straight into the pool: who reads has [room](MAX_PULL) for it.
pub(crate) const SESSION_BYTES: usize = MAX_IDLE + MAX_UNSENT + MAX_HANDSHAKE;

/// One side of a TLS connection.
#[derive(Debug)]
pub(crate) struct Session {
    tls: Connection,
    /// Decrypted bytes that were not read yet.
    decrypted: usize,
    /// Bytes that the handshake has taken so far.
    shaken: usize,
    /// Bytes since then, or since there was something to read.
    idle: Idle,
    /// The other side has said that it sends no more.
    is_over: bool,
}

impl Session {
    /// A session whose handshake has not begun.
    pub(crate) fn new(tls: impl Into<Connection>) -> Self {
        let mut tls = tls.into();
        match &mut tls {
            Connection::Client(client) => bound(client),
            Connection::Server(server) => bound(server),
        }
        Self { tls, decrypted: 0, shaken: 0, idle: Idle(0), is_over: false }
    }

    /// Whether the handshake goes on.
    pub(crate) fn is_shaking(&self) -> bool {
        self.tls.is_handshaking()
    }

    /// The certificate that the other side has shown.
    pub(crate) fn certificate(&self) -> Option<&CertificateDer<'static>> {
        self.tls.peer_certificates().and_then(|chain| chain.first())
    }

    /// Whether there is something to read that the socket will not tell of.
    pub(crate) fn is_readable(&self) -> bool {
        self.decrypted > 0 || self.is_over
    }

    /// Takes what the socket has, once.
    ///
    /// # Errors
    /// The socket's, `WouldBlock` among them; `InvalidData` with a [`rustls::Error`] where the other side, or we, broke off;
    /// `UnexpectedEof` at the end of the socket.
    pub(crate) fn pull(&mut self, socket: &mut dyn Read) -> io::Result<()> {
        let was_shaking = self.is_shaking();
        let count = loop {
            match self.tls.read_tls(socket) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => break result?,
            }
        };
        let state = self.tls.process_new_packets().map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
        self.decrypted = state.plaintext_bytes_to_read();
        self.is_over = state.peer_has_closed();
        if was_shaking {
            self.shaken += count;
            if self.shaken > MAX_HANDSHAKE {
                return Err(broken_off("a handshake that is too long"));
            }
        } else if self.idle.is_too_long(count, self.decrypted) {
            return Err(broken_off("much that is about nothing"));
        }
        if count == 0 && !self.is_over { Err(ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }

    /// Reads what is there; zero bytes when the other side has ended the session.
    ///
    /// # Errors
    /// As [`Self::pull`].
    pub(crate) fn read(&mut self, socket: &mut dyn Read, room: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.tls.reader().read(room) {
                Ok(count) => {
                    self.decrypted -= count;
                    return Ok(count);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.pull(socket)?,
                Err(error) => return Err(error),
            }
        }
    }

    /// Encrypts as much as there is room for, and writes of that what the socket takes.
    ///
    /// # Errors
    /// The socket's. `WouldBlock` if nothing was taken, because what was taken before is not written yet.
    pub(crate) fn write(&mut self, socket: &mut dyn Write, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        if !self.flush(socket)? {
            return Err(ErrorKind::WouldBlock.into());
        }
        let taken = self.tls.writer().write_vectored(slices)?;
        self.flush(socket)?;
        Ok(taken)
    }

    /// Writes what is encrypted; gives whether that is all.
    ///
    /// # Errors
    /// The socket's, but for `WouldBlock`.
    pub(crate) fn flush(&mut self, socket: &mut dyn Write) -> io::Result<bool> {
        while self.tls.wants_write() {
            match self.tls.write_tls(socket) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Whether something is encrypted and not written.
    pub(crate) fn is_holding(&self) -> bool {
        self.tls.wants_write()
    }

    /// Says that nothing more comes, as far as the socket takes it.
    ///
    /// # Errors
    /// The socket's, but for `WouldBlock`.
    pub(crate) fn end(&mut self, socket: &mut dyn Write) -> io::Result<()> {
        if !self.is_shaking() {
            self.tls.send_close_notify();
        }
        self.flush(socket).map(drop)
    }
}

/// What came without anything to read in it.
#[derive(Clone, Copy, Debug)]
struct Idle(usize);

impl Idle {
    /// Takes `count` bytes more, after which there are `decrypted` bytes to read.
    fn is_too_long(&mut self, count: usize, decrypted: usize) -> bool {
        self.0 = if decrypted > 0 { 0 } else { self.0 + count };
        self.0 > MAX_IDLE
    }
}

fn broken_off(why: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, rustls::Error::General(why.to_owned()))
}

fn bound<S: SideData>(tls: &mut ConnectionCommon<S>) {
    tls.set_buffer_limit(Some(MAX_UNSENT));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::tests::sides;
    use std::collections::VecDeque;

    #[test]
    fn who_sends_much_with_nothing_to_read_in_it_is_broken_off_with() {
        let mut idle = Idle(0);
        assert!(!idle.is_too_long(MAX_PULL, 0), "a record of the largest size, but for its last byte");
        assert!(!idle.is_too_long(1, 16_384));
        assert!((0..MAX_IDLE / 27).all(|_| !idle.is_too_long(27, 0)), "changes of keys");
        assert!(idle.is_too_long(27, 0));
    }

    /// One direction of a socket that gives and takes at most `portion` bytes, and nothing every other time.
    struct Pipe {
        bytes: VecDeque<u8>,
        portion: usize,
        is_blocked: bool,
        has_ended: bool,
    }

    impl Pipe {
        fn new(portion: usize) -> Self {
            Self { bytes: VecDeque::new(), portion, is_blocked: false, has_ended: false }
        }

        fn next(&mut self) -> io::Result<()> {
            self.is_blocked = !self.is_blocked;
            if self.is_blocked { Err(ErrorKind::WouldBlock.into()) } else { Ok(()) }
        }
    }

    impl Read for Pipe {
        fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
            if self.bytes.is_empty() {
                return if self.has_ended { Ok(0) } else { Err(ErrorKind::WouldBlock.into()) };
            }
            self.next()?;
            let count = room.len().min(self.portion).min(self.bytes.len());
            room.iter_mut().zip(self.bytes.drain(..count)).for_each(|(to, from)| *to = from);
            Ok(count)
        }
    }

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.next()?;
            let count = bytes.len().min(self.portion);
            self.bytes.extend(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A socket that takes nothing.
    struct Full;

    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(ErrorKind::WouldBlock.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A node's session, and a client's with its certificate.
    fn sessions() -> (Session, Session) {
        let (node, client) = sides();
        (Session::new(node.accept()), Session::new(client.dial()))
    }

    fn goes_on<T>(result: io::Result<T>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// Shakes hands: the node's session and the client's, and what is on its way to each.
    fn shaken(portion: usize) -> [(Session, Pipe); 2] {
        let (node, client) = sessions();
        let mut sides = [(node, Pipe::new(portion)), (client, Pipe::new(portion))];
        while sides.iter().any(|(session, _)| session.is_shaking() || session.is_holding()) {
            for _one_and_other in 0..2 {
                let [(one, to_one), (_, to_other)] = &mut sides;
                one.flush(to_other).expect("an open socket");
                if one.is_shaking() {
                    goes_on(one.pull(to_one));
                }
                sides.swap(0, 1);
            }
        }
        assert!(sides[0].0.certificate().is_some(), "the node knows who it is");
        assert!(sides.iter().all(|(session, _)| session.shaken < MAX_HANDSHAKE / 4), "a handshake takes less");
        sides
    }

    /// Sends `bytes` from the first side to the second.
    fn send([(from, _), (to, to_it)]: &mut [(Session, Pipe); 2], bytes: &[u8], room: usize) -> Vec<u8> {
        let (mut sent, mut received) = (0, Vec::new());
        let mut room = vec![0; room];
        while received.len() < bytes.len() {
            if sent < bytes.len() {
                let end = bytes.len().min(sent + 9_000);
                let middle = (sent + 100).min(end);
                let slices = [IoSlice::new(&bytes[sent..middle]), IoSlice::new(&bytes[middle..end])];
                sent += goes_on(from.write(to_it, &slices)).unwrap_or(0);
            } else {
                from.flush(to_it).expect("an open socket");
            }
            while let Some(count) = goes_on(to.read(to_it, &mut room)) {
                assert!(count > 0, "nobody has closed it");
                received.extend(&room[..count]);
                assert!(room.len() < MAX_PULL || to.decrypted == 0, "{} bytes lie in no pool", to.decrypted);
            }
        }
        received
    }

    #[test]
    fn what_goes_in_comes_out_however_the_socket_portions_it() {
        let bytes: Vec<u8> = (0..60_000_u32).map(|number| (number % 251) as u8).collect();
        for portion in [1, 2, 21, 4_096, 100_000] {
            let mut sides = shaken(portion);
            for room in [MAX_PULL, 7] {
                assert_eq!(send(&mut sides, &bytes, room), bytes, "portions of {portion}");
                sides.swap(0, 1);
            }
        }
    }

    #[test]
    fn a_socket_that_takes_nothing_takes_no_more_memory_than_is_planned_for() {
        let mut sides = shaken(usize::MAX);
        let (session, _) = &mut sides[0];
        let taken = session.write(&mut Full, &[IoSlice::new(&[1; 100_000])]);
        assert_eq!(taken.expect("room in the session"), MAX_UNSENT);
        let again = session.write(&mut Full, &[IoSlice::new(&[1; 100_000])]);
        assert_eq!(again.unwrap_err().kind(), ErrorKind::WouldBlock);
    }

    #[test]
    fn an_end_that_was_said_is_an_end_and_one_that_was_not_is_an_error() {
        let mut sides = shaken(100);
        let [(one, _), (other, to_other)] = &mut sides;
        one.end(to_other).expect("an open socket");
        while !one.flush(to_other).expect("an open socket") {}
        let said = core::iter::repeat_with(|| goes_on(other.read(to_other, &mut [0; 10]))).find_map(|read| read);
        assert_eq!(said, Some(0));

        let mut sides = shaken(100);
        let (other, to_other) = &mut sides[1];
        to_other.has_ended = true;
        assert_eq!(other.read(to_other, &mut [0; 10]).unwrap_err().kind(), ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_handshake_that_does_not_come_to_an_end_is_broken_off() {
        let (mut node, _) = sessions();
        let mut socket = Pipe::new(usize::MAX);
        // A first message of 60,000 bytes, in records of 1,000.
        let mut message = vec![1, 0, 0xEA, 0x60];
        message.resize(60_004, 0);
        for record in message.chunks(1_000) {
            socket.bytes.extend([22, 3, 1]);
            socket.bytes.extend((record.len() as u16).to_be_bytes());
            socket.bytes.extend(record);
        }
        let before = socket.bytes.len();
        let error = core::iter::repeat_with(|| node.pull(&mut socket))
            .find_map(|pulled| pulled.err().filter(|error| error.kind() != ErrorKind::WouldBlock))
            .expect("it ends");
        assert_eq!(error.kind(), ErrorKind::InvalidData);
        assert!(
            before - socket.bytes.len() <= MAX_HANDSHAKE + 4_096,
            "{} bytes were read",
            before - socket.bytes.len()
        );
    }
}
