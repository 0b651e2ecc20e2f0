//! The options of the sockets.

use core::time::Duration;
use socket2::{SockRef, TcpKeepalive};
use std::io;
use tokio::net::TcpStream;

/// Bytes to another node that it has not acknowledged for this long: the kernel gives the connection up. Short, so
/// that after a cut the new connection does not wait for the back-off of the old one.
pub(crate) const UNACKED_LIMIT: Duration = Duration::from_secs(1);

/// The same for clients.
const CLIENT_UNACKED_LIMIT: Duration = Duration::from_secs(20);
/// A client that says nothing for this long is asked by the kernel whether it is there.
const CLIENT_KEEPALIVE: Duration = Duration::from_secs(30);

/// What the kernel buffers of a client in either direction, in bytes. It doubles this, for what it spends on keeping it, and
/// may go beyond by a packet. As the system sets it, one that stopped reading could hold some 3 MB.
const CLIENT_BUFFER: usize = 128 << 10;
/// Kernel memory of a client's connection, both directions.
pub(crate) const CLIENT_KERNEL_BYTES: usize = 2 * 2 * CLIENT_BUFFER;

/// For a connection between nodes, accepted or dialled.
pub(crate) fn prepare_peer(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    SockRef::from(stream).set_tcp_user_timeout(Some(UNACKED_LIMIT))
}

/// For a connection of a client.
pub(crate) fn prepare_client(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_send_buffer_size(CLIENT_BUFFER)?;
    socket.set_recv_buffer_size(CLIENT_BUFFER)?;
    socket.set_tcp_user_timeout(Some(CLIENT_UNACKED_LIMIT))?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(CLIENT_KEEPALIVE).with_interval(CLIENT_KEEPALIVE / 3))
}
