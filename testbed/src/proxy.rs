//! The fault proxy: what stands between nodes where network namespaces cannot be had.
//!
//! A TCP forwarder for each ordered pair of spokes. A cut pair forwards nothing more and closes nothing: bytes wait, as
//! they would in the senders' retransmission queues. It cannot drop packets, so a partition through it is a little
//! kinder than one through namespaces: connections survive every cut.

use crate::namespaces::Spoke;
use core::net::SocketAddr;
use std::collections::HashMap;
use std::io;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// The forwarders of one cluster, on a thread of their own; they end when this is dropped.
#[derive(Debug)]
pub struct Proxy {
    links: HashMap<(Spoke, Spoke), Link>,
    /// Dropped first: the thread's runtime ends when the last sender is gone.
    _alive: watch::Sender<()>,
}

#[derive(Debug)]
struct Link {
    address: SocketAddr,
    open: watch::Sender<bool>,
}

impl Proxy {
    /// Opens a forwarder from each spoke to each node; `targets` are the nodes' own addresses.
    ///
    /// # Errors
    /// When no port can be had.
    pub fn new(spokes: &[Spoke], targets: &HashMap<Spoke, SocketAddr>) -> io::Result<Self> {
        let (alive, mut ended) = watch::channel(());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let mut links = HashMap::new();
        for &from in spokes {
            for (&to, &target) in targets.iter().filter(|&(&to, _)| to != from) {
                let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
                let address = listener.local_addr()?;
                let (open, gate) = watch::channel(true);
                runtime.spawn(forward_all(listener, target, gate));
                links.insert((from, to), Link { address, open });
            }
        }
        std::thread::Builder::new().name("fault-proxy".into()).spawn(move || {
            runtime.block_on(async { while ended.changed().await.is_ok() {} });
        })?;
        Ok(Self { links, _alive: alive })
    }

    /// Where `from` reaches `to`.
    #[must_use]
    pub fn address(&self, from: Spoke, to: Spoke) -> SocketAddr {
        self.links[&(from, to)].address
    }

    /// Stops (or starts again) what connections made by `from` to `to` carry, both ways.
    pub fn set_open(&self, from: Spoke, to: Spoke, open: bool) {
        if let Some(link) = self.links.get(&(from, to)) {
            link.open.send_replace(open);
        }
    }
}

async fn forward_all(listener: TcpListener, target: SocketAddr, gate: watch::Receiver<bool>) {
    while let Ok((near, _)) = listener.accept().await {
        let mut gate = gate.clone();
        tokio::spawn(async move {
            if opened(&mut gate).await.is_err() {
                return;
            }
            // A node that is dead refuses; the proxy cannot refuse after it accepted, so it resets.
            let Ok(far) = TcpStream::connect(target).await else {
                let _ = near.set_zero_linger();
                return;
            };
            let (near_read, near_write) = near.into_split();
            let (far_read, far_write) = far.into_split();
            let there = pump(near_read, far_write, gate.clone());
            let back = pump(far_read, near_write, gate);
            // When one direction ends, so does the connection, as when a process dies.
            tokio::select! { () = there => {}, () = back => {} }
        });
    }
}

async fn pump(
    mut from: impl tokio::io::AsyncRead + Unpin,
    mut to: impl tokio::io::AsyncWrite + Unpin,
    mut gate: watch::Receiver<bool>,
) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let Ok(count @ 1..) = from.read(&mut buffer).await else { return };
        if opened(&mut gate).await.is_err() || to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}

async fn opened(gate: &mut watch::Receiver<bool>) -> Result<(), watch::error::RecvError> {
    gate.wait_for(|open| *open).await.map(|_| ())
}
