//! More handshakes than a node can compute: who belongs to the cluster comes in, and acknowledgements go on.

use super::*;
use core::net::{Ipv4Addr, SocketAddrV4};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// Where the flood comes from; nodes and good clients are at the loopback address that everybody uses.
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 9);
/// Connections that the flood leaves open: at each of three nodes more than there are places for.
const OPEN: usize = 300;
/// Connections of the flood between one step of a test and the next: more than a node has places for.
const WAVE: u64 = 400;

fn dial_from(source: Ipv4Addr, server: &str) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddrV4::new(source, 0).into())?;
    let server: SocketAddr = server.parse().expect("an address");
    socket.connect_timeout(&server.into(), Duration::from_millis(100))?;
    let tcp = TcpStream::from(socket);
    tcp.set_read_timeout(Some(BROKEN))?;
    Ok(tcp)
}

/// Connects and begins a handshake, again and again, until told to end.
struct Flood<'a> {
    servers: &'a [String],
    hello: &'a [u8],
    is_over: AtomicBool,
    begun: AtomicU64,
}

impl Flood<'_> {
    fn run(&self) {
        let mut open = std::collections::VecDeque::new();
        for server in self.servers.iter().cycle() {
            if self.is_over.load(Relaxed) {
                return;
            }
            // What does not get through is part of a flood.
            if let Ok(mut tcp) = dial_from(ELSEWHERE, server)
                && tcp.write_all(self.hello).is_ok()
            {
                open.push_back(tcp);
                self.begun.fetch_add(1, Relaxed);
            }
            if open.len() > OPEN {
                open.pop_front();
            }
        }
    }

    /// Waits until so many more have begun.
    fn wait_for(&self, more: u64) {
        let until = self.begun.load(Relaxed) + more;
        while self.begun.load(Relaxed) < until {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Ends a flood when this is dropped, which it also is by what fails meanwhile.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

#[test]
fn a_node_comes_back_and_acknowledgements_go_on_under_a_flood_of_handshakes() {
    let _alone = alone();
    let (mut cluster, _minted) = start(3, Network::loopback(3));
    let leader = cluster.leader();
    let late = leader % 3 + 1;
    let (servers, clients, options) = (cluster.servers(), cluster.clients(), cluster.options(BROKEN));
    let hello_of_tls = hostile::client_hello(&cluster);
    let flood =
        Flood { servers: &servers, hello: &hello_of_tls, is_over: AtomicBool::new(false), begun: AtomicU64::new(0) };
    let tls = Tls::load(&cluster.certificate()).expect("good files");
    let (load, progress) = (load("good", u64::MAX), Progress::default());
    let ledger = std::thread::scope(|scope| {
        let publisher = scope.spawn(|| clients.run(async || load.run_over(&servers, Some(tls), &progress).await));
        let published = Publishing(&progress);
        progress.wait_for(1);
        let over = Ending(&flood.is_over);
        scope.spawn(|| flood.run());
        flood.wait_for(WAVE);
        goes_on(&progress);

        cluster.kill(late);
        flood.wait_for(WAVE);
        goes_on(&progress);
        cluster.start_node(late);
        let applied = |node: Spoke| {
            let answer = clients.run(async || status(&servers[usize::from(node) - 1], &options).await);
            answer.map(|status| status.applied)
        };
        let until = applied(leader).expect("who comes from elsewhere than the flood is answered");
        while applied(late).is_ok_and(|applied| applied < until) || applied(late).is_err() {
            std::thread::sleep(Duration::from_millis(10));
        }
        flood.wait_for(WAVE);
        goes_on(&progress);
        drop(over);
        drop(published);
        publisher.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    println!("{} acknowledged beside {} handshakes", ledger.acked.len(), flood.begun.load(Relaxed));
    cluster.await_whole();
    cluster.assert_exactly_once(&load, &ledger);
    cluster.assert_none_ended();
}
