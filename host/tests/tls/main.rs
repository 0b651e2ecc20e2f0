//! Clusters whose nodes speak TLS, as real processes: they survive what clusters without it survive, and who cannot show
//! that he belongs to them is refused while another client's acknowledgements go on.

mod flood;
mod hostile;
mod memory;

use core::net::SocketAddr;
use core::time::Duration;
use eventstream_core::config::Parameters;
use eventstream_core::id::{Incarnation, NodeId, ShardId};
use eventstream_core::wire::{
    Control, Frame, HEADER_LEN, Header, Hello, Kind, MAX_CONTROL_LEN, Refusal, Role, StartAt, Subscribe, Token, VERSION,
};
use eventstream_host::checksum::CRC;
use eventstream_host::client::{LinkError, Options, Probe, status};
use eventstream_host::config::{ConfigErrors, Key, Settings};
use eventstream_host::identity::{self, Identity};
use eventstream_host::node::memory_plan;
use eventstream_host::tls::{self, Authority, Credential, Issued, Minted, Tls, TlsError, TlsFiles};
use eventstream_testbed::{Cluster, Ledger, Load, Network, Progress, Spoke};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use socket2::{Domain, Socket, Type};
use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A second of the year 2096.
const LATER: u64 = 4_000_000_000;
/// A second of the year 2001.
const PAST: u64 = 1_000_000_000;
/// An answer is waited for this long. Reached only by a test that fails.
const BROKEN: Duration = Duration::from_secs(20);
/// Acknowledgements that have to come while something is refused.
const ACKS: u64 = 20;

/// One cluster at a time: two cores are three nodes' share as it is.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_eventstream"))
}

fn start(nodes: u16, network: Network) -> (Cluster, Minted) {
    let (mut cluster, minted) = Cluster::prepare_with_tls(binary(), nodes, network, LATER);
    cluster.nodes().for_each(|node| cluster.start_node(node));
    (cluster, minted)
}

fn load(topic: &str, events: u64) -> Load {
    Load { topic: topic.into(), producers: 2, events, pause_every: 20, pause: Duration::from_millis(1) }
}

#[test]
fn a_leader_is_killed_under_load_beyond_loopback_and_nothing_is_lost() {
    let _alone = alone();
    // Namespaces have addresses that are not loopback, and the nodes are not told that this is a risk.
    let (mut cluster, _) = start(3, Network::with_cuts(3));
    println!("node 1 is at {}", cluster.server(1));
    let servers = cluster.servers();
    let loads = [
        (load("by certificate", 6_000), Tls::load(&cluster.certificate()).expect("good files"), Progress::default()),
        (load("by token", 6_000), Tls::load(&cluster.token()).expect("good files"), Progress::default()),
    ];
    let clients = cluster.clients();
    let ledgers: Vec<Ledger> = std::thread::scope(|scope| {
        let publish = |(load, tls, progress): &_| {
            let (load, tls, progress): (&Load, &Tls, &Progress) = (load, tls, progress);
            clients.run(async || load.run_over(&servers, Some(tls.clone()), progress).await)
        };
        let publishers: Vec<_> = loads.iter().map(|load| scope.spawn(move || publish(load))).collect();
        loads.iter().for_each(|(load, _, progress)| progress.wait_for(load.total() / 3));
        let leader = cluster.leader();
        cluster.kill(leader);
        loads.iter().for_each(|(load, _, progress)| progress.wait_for(load.total() * 2 / 3));
        cluster.start_node(leader);
        publishers
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    cluster.await_whole();
    for ((load, ..), ledger) in loads.iter().zip(&ledgers) {
        assert_eq!(ledger.acked.len() as u64, load.total());
        cluster.assert_exactly_once(load, ledger);
    }
    cluster.assert_none_ended();
}

/// Somebody who publishes until this is dropped, which it also is by what fails meanwhile.
struct Publishing<'a>(&'a Progress);

impl Drop for Publishing<'_> {
    fn drop(&mut self) {
        self.0.ask_to_end();
    }
}

/// Runs `meanwhile` while somebody publishes, who is given to it to be looked at.
fn beside_a_publisher(cluster: &Cluster, meanwhile: impl FnOnce(&Progress)) {
    beside_a_publisher_to(cluster.servers(), cluster, meanwhile);
}

/// The same, who knows of these servers alone.
fn beside_a_publisher_to(servers: Vec<String>, cluster: &Cluster, meanwhile: impl FnOnce(&Progress)) {
    let tls = Tls::load(&cluster.certificate()).expect("good files");
    let (load, progress, clients) = (load("good", u64::MAX), Progress::default(), cluster.clients());
    std::thread::scope(|scope| {
        let publisher = scope.spawn(|| clients.run(async || load.run_over(&servers, Some(tls), &progress).await));
        let until_then = Publishing(&progress);
        progress.wait_for(1);
        meanwhile(&progress);
        drop(until_then);
        publisher.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
}

/// Waits for acknowledgements of what is published from now on.
fn goes_on(progress: &Progress) {
    progress.wait_for(progress.acked() + progress.in_flight() + ACKS);
}

/// A certificate and its key, as somebody who connects shows them.
fn shown(issued: &Issued) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let certificate = CertificateDer::from_pem_slice(issued.certificate.as_bytes()).expect("a certificate");
    (vec![certificate], PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).expect("a key"))
}

/// A connection under TLS whose handshake has not begun.
type Secured = StreamOwned<ClientConnection, TcpStream>;

fn secured(cluster: &Cluster, tcp: TcpStream, certificate: Option<&Issued>) -> Secured {
    let ca = fs::read(cluster.root().join("ca/ca.pem")).expect("the authority");
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&ca).expect("a certificate")).expect("an authority");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("ring speaks it")
        .with_root_certificates(roots);
    let mut config = match certificate.map(shown) {
        Some((chain, key)) => config.with_client_auth_cert(chain, key).expect("a pair"),
        None => config.with_no_client_auth(),
    };
    // For those who go on with records of their own making.
    config.enable_secret_extraction = true;
    let name = ServerName::try_from("node.eventstream").expect("a name");
    let tls = ClientConnection::new(Arc::new(config), name).expect("a configuration");
    tcp.set_read_timeout(Some(BROKEN)).expect("an option");
    StreamOwned::new(tls, tcp)
}

fn say(stream: &mut impl Write, message: &Control<'_>) -> io::Result<()> {
    let mut frame = vec![0; MAX_CONTROL_LEN];
    let len = message.encode(ShardId(0), &mut frame, CRC).expect("a good message");
    stream.write_all(&frame[..len])
}

/// The next frame, whatever it is.
fn hear(stream: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut frame = vec![0; HEADER_LEN];
    stream.read_exact(&mut frame)?;
    let header = Header::parse(frame.first_chunk().expect("a header"), CRC).expect("a good header");
    frame.resize(header.frame_len(), 0);
    stream.read_exact(&mut frame[HEADER_LEN..])?;
    Ok(frame)
}

/// What a node answers to a hello: `Ok` for a welcome, a refusal, or the alert of TLS.
fn answer(cluster: &Cluster, node: Spoke, certificate: Option<&Issued>, hello: Hello) -> Result<(), Answer> {
    let tcp = TcpStream::connect(cluster.server(node)).expect("the node listens");
    let mut stream = secured(cluster, tcp, certificate);
    let answer = say(&mut stream, &Control::Hello(hello)).and_then(|()| hear(&mut stream));
    let answer = answer.map_err(|error| Answer::Alert(error.to_string()))?;
    let frame = Frame::check(&answer, CRC).expect("a good frame");
    match Control::decode(frame.header().kind, frame.payload()).expect("a good message") {
        Control::Welcome(_) => Ok(()),
        Control::Refused(refused) => {
            assert_eq!(stream.read(&mut [0]).expect("an orderly end"), 0, "the connection is closed");
            Err(Answer::Refused(refused.reason))
        }
        other => panic!("{other:?}"),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Refused(Refusal),
    Alert(String),
}

fn hello(cluster: Option<&Identity>, role: Role) -> Hello {
    Hello { version_min: VERSION, version_max: VERSION, cluster: cluster.map(|identity| identity.cluster), role }
}

#[test]
fn who_shows_nothing_or_something_else_is_refused() {
    let _alone = alone();
    let (cluster, mut minted) = start(3, Network::loopback(3));
    let me = Identity::load(&cluster.directory(1)).expect("an identity");
    let peer = |node| {
        let incarnation = me.member(NodeId(node)).expect("a member").incarnation;
        hello(Some(&me), Role::Peer { node: NodeId(node), incarnation })
    };
    let unauthenticated = Err(Answer::Refused(Refusal::Unauthenticated));
    let of_client = minted.authority().client().expect("a certificate");
    let of_two = minted.authority().node(NodeId(2)).expect("a certificate");
    minted.authority().issue_until(PAST).expect("a date");
    let expired = minted.authority().client().expect("a certificate");
    let stranger = Authority::new(me.cluster, LATER).expect("an authority");
    let (strange_client, strange_two) = (stranger.client().expect("one"), stranger.node(NodeId(2)).expect("one"));
    beside_a_publisher(&cluster, |publisher| {
        let check = |what: &str, certificate, hello, expected: Result<(), Answer>| {
            assert_eq!(answer(&cluster, 1, certificate, hello), expected, "{what}");
            goes_on(publisher);
        };
        let as_client = hello(None, Role::Client);
        let with_token = |token| hello(None, Role::TokenClient { token: Token(token) });
        let mut right = [0; 32];
        let text = fs::read_to_string(cluster.root().join("client/token")).expect("the token");
        for (byte, at) in right.iter_mut().zip((0..).step_by(2)) {
            *byte = u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal digits");
        }
        let mut wrong = right;
        wrong[31] ^= 1;
        check("a certificate", Some(&of_client), as_client, Ok(()));
        check("the token", None, with_token(right), Ok(()));
        check("nothing", None, as_client, unauthenticated);
        check("another token", None, with_token(wrong), Err(Answer::Refused(Refusal::Unauthenticated)));
        check("its own certificate", Some(&of_two), peer(2), Ok(()));
        check("another node's", Some(&of_two), peer(3), Err(Answer::Refused(Refusal::Unauthenticated)));
        check("a client's", Some(&of_client), peer(2), Err(Answer::Refused(Refusal::Unauthenticated)));
        check("no certificate", None, peer(2), Err(Answer::Refused(Refusal::Unauthenticated)));
        let stranger = Role::Peer { node: NodeId(2), incarnation: Incarnation([1; 16]) };
        check("another life", Some(&of_two), hello(Some(&me), stranger), Err(Answer::Refused(Refusal::UnknownMember)));
        for (what, certificate, hello, alert) in [
            ("another authority's client", &strange_client, as_client, ["UnknownCA", "DecryptError"]),
            ("another authority's node", &strange_two, peer(2), ["UnknownCA", "DecryptError"]),
            ("an expired certificate", &expired, as_client, ["CertificateExpired", "CertificateExpired"]),
        ] {
            match answer(&cluster, 1, Some(certificate), hello) {
                Err(Answer::Alert(words)) if alert.iter().any(|alert| words.contains(alert)) => {}
                other => panic!("{what}: {other:?}"),
            }
            goes_on(publisher);
        }
    });
    let counted = counters(&cluster);
    assert_eq!(counted, [("peer_unknown_member", 1), ("tls_failed", 3), ("unauthenticated", 5)].map(owned));
}

fn owned((name, count): (&str, u64)) -> (String, u64) {
    (name.to_owned(), count)
}

/// What node 1 has counted, but for what depends on who led when.
fn counters(cluster: &Cluster) -> Vec<(String, u64)> {
    let (server, options) = (cluster.server(1), cluster.options(BROKEN));
    let all = cluster.clients().run(async || {
        let mut probe = Probe::connect(&server, &options).await.expect("the node answers");
        probe.counters().await.expect("the node answers")
    });
    let counted = all.into_iter().filter(|counter| counter.count > 0 && counter.name != "not_leader");
    let mut counted: Vec<_> = counted.map(|counter| (counter.name, counter.count)).collect();
    counted.sort();
    counted
}

#[test]
fn who_reads_late_gets_all_to_the_last_byte() {
    let _alone = alone();
    let (cluster, mut minted) = start(1, Network::loopback(1));
    let _leader = cluster.leader();
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(4_096).expect("an option");
    let address: SocketAddr = cluster.server(1).parse().expect("an address");
    socket.connect(&address.into()).expect("the node listens");
    let mut stream = secured(&cluster, socket.into(), Some(&minted.authority().client().expect("a certificate")));
    say(&mut stream, &Control::Hello(hello(None, Role::Client))).expect("the node reads");
    hear(&mut stream).expect("a welcome");
    let subscribe = Subscribe { subscription: 1, topic: "much", from: StartAt::Latest };
    say(&mut stream, &Control::Subscribe(subscribe)).expect("the node reads");
    let mut next = || {
        let frame = hear(&mut stream).expect("the node goes on where it was");
        *Frame::check(&frame, CRC).expect("a good frame").header()
    };
    while next().kind != Kind::CaughtUp {}

    // More than the sockets hold, and less than what a node keeps for a client that does not read: the last of it is under
    // way to a socket that is full.
    let (servers, tls) = (cluster.servers(), Tls::load(&cluster.certificate()).expect("good files"));
    let (load, progress) = (load("much", 3_000), Progress::default());
    let ledger = cluster.clients().run(async || load.run_over(&servers, Some(tls), &progress).await);
    assert_eq!(ledger.acked.len() as u64, load.total());
    let mut events = 0;
    while events < load.total() {
        let header = next();
        if header.kind == Kind::Batch {
            events += u64::from(header.event_count);
        }
    }
    assert_eq!(events, load.total());
}

#[test]
fn tls_and_plain_text_do_not_meet_and_both_are_told() {
    let _alone = alone();
    let (cluster, _) = start(1, Network::loopback(1));
    let mut plain = Cluster::prepare(binary(), 1, Network::loopback(1));
    plain.start_node(1);
    let (_, _) = (cluster.leader(), plain.leader());
    let tls = cluster.options(BROKEN);
    beside_a_publisher(&cluster, |publisher| {
        let ask = |cluster: &Cluster, options: &Options| {
            let server = cluster.server(1);
            cluster.clients().run(async || status(&server, options).await)
        };
        match ask(&cluster, &Options::patient(BROKEN)) {
            Err(LinkError::Refused { reason: Refusal::TlsRequired, .. }) => {}
            other => panic!("plain text to a node with TLS: {other:?}"),
        }
        assert_eq!(counters(&cluster), [owned(("tls_missing", 1))]);
        goes_on(publisher);
        match ask(&plain, &tls) {
            Err(error @ LinkError::NotTls) => assert!(error.to_string().contains("TLS"), "{error}"),
            other => panic!("TLS to a node without it: {other:?}"),
        }
        assert_eq!(counters(&plain), [owned(("frame_magic", 1))]);
        let mut tcp = TcpStream::connect(plain.server(1)).expect("the node listens");
        tcp.set_read_timeout(Some(BROKEN)).expect("an option");
        let token = Role::TokenClient { token: Token([7; 32]) };
        say(&mut tcp, &Control::Hello(hello(None, token))).expect("the node reads");
        let answer = hear(&mut tcp).expect("an answer");
        match Control::decode(Kind::Refused, Frame::check(&answer, CRC).expect("a good frame").payload()) {
            Ok(Control::Refused(refused)) => assert_eq!(refused.reason, Refusal::Unauthenticated),
            other => panic!("a token in plain text: {other:?}"),
        }
        assert_eq!(counters(&plain), [("frame_magic", 1), ("unauthenticated", 1)].map(owned));
        // A client of another cluster, who trusts nobody here.
        let other = tempfile::tempdir().expect("a directory");
        let nodes = [(NodeId(1), "127.0.0.1:1".parse().expect("an address"))];
        let client = tls::init(other.path(), &nodes, Parameters::default(), LATER).expect("a cluster").client;
        let files = TlsFiles { ca: client.join("ca.pem"), credential: Credential::Token(client.join("token")) };
        let stranger = Options { tls: Tls::load(&files).ok(), ..Options::patient(BROKEN) };
        assert!(stranger.tls.is_some());
        match ask(&cluster, &stranger) {
            Err(LinkError::Untrusted(_)) => {}
            other => panic!("a client of another cluster: {other:?}"),
        }
        goes_on(publisher);
    });
}

#[test]
fn handshakes_that_never_end_hold_up_nobody() {
    let _alone = alone();
    let (cluster, _) = start(1, Network::loopback(1));
    let _leader = cluster.leader();
    beside_a_publisher(&cluster, |publisher| {
        let dial = |bytes: &[u8]| {
            let mut stream = TcpStream::connect(cluster.server(1)).expect("the node listens");
            stream.set_read_timeout(Some(BROKEN)).expect("an option");
            stream.write_all(bytes).expect("the node reads");
            stream
        };
        let ends = |what: &str, mut stream: TcpStream| {
            let mut rest = Vec::new();
            match stream.read_to_end(&mut rest) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
                Err(error) => panic!("{what}: {error}"),
            }
            goes_on(publisher);
        };
        // The head of a record of 512 bytes, which begins a message of 508.
        let begun = [22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3];
        let slow: Vec<TcpStream> = (0..100).map(|_| dial(&begun)).collect();
        let silent = dial(&[]);
        goes_on(publisher);
        ends("garbage after the first byte", dial(&[22; 1_000]));
        let mut closed = dial(&begun);
        closed.flush().expect("nothing to do");
        drop(closed);
        goes_on(publisher);
        ends("silence", silent);
        slow.into_iter().for_each(|stream| ends("half a message", stream));
    });
}

/// What is wrong with a node's directory.
fn wrong(directory: &Path) -> ConfigErrors {
    let dir = directory.to_str().expect("text").to_owned();
    Settings::new().flag(Key::Dir, Some(dir)).check().expect_err("something is wrong")
}

#[test]
fn a_bundle_that_is_not_whole_or_another_nodes_is_refused_in_words() {
    let out = tempfile::tempdir().expect("a directory");
    let nodes = [1, 2, 3].map(|node| (NodeId(node), format!("10.9.9.{node}:9001").parse().expect("an address")));
    let make = |name: &str| {
        let out = out.path().join(name);
        tls::init(&out, &nodes, Parameters::default(), LATER).expect("a cluster").nodes
    };
    let (ours, others) = (make("ours"), make("others"));
    let file = |node: &Path, name: &str| node.join("tls").join(name);
    let copy = |from: &Path, to: &Path, names: &[&str]| {
        for name in names {
            fs::copy(file(from, name), file(to, name)).expect("copied");
        }
    };
    // As it is it may listen anywhere, without words about a risk.
    let dir = ours[0].to_str().expect("text").to_owned();
    let config = Settings::new().flag(Key::Dir, Some(dir)).check().expect("a good bundle");
    assert_eq!(config.tls.as_ref().map(tls::NodeTls::valid_until), Some(LATER));

    copy(&ours[1], &ours[0], &["node.pem", "node.key"]);
    let said = wrong(&ours[0]).to_string();
    assert!(said.contains("it is another node's") && said.contains("node-1."), "{said}");
    copy(&others[0], &ours[0], &["node.pem", "node.key"]);
    let said = wrong(&ours[0]).to_string();
    assert!(said.contains("belongs to another cluster"), "{said}");
    copy(&ours[1], &ours[0], &["node.pem"]);
    let said = wrong(&ours[0]).to_string();
    assert!(said.contains("node.key is not the key of"), "{said}");

    let all = ["ca.pem", "node.pem", "node.key"];
    all.iter().for_each(|name| fs::remove_file(file(&ours[1], name)).expect("removed"));
    let errors = wrong(&ours[1]);
    all.iter().for_each(|name| assert!(errors.to_string().contains(&format!("{name} is missing")), "{errors}"));
    assert_eq!(errors.0.len(), 3, "all at once: {errors}");

    let text = fs::read_to_string(ours[2].join("identity.toml")).expect("an identity");
    let without = text.split("[tls]").next().expect("what is before").to_owned();
    fs::write(ours[2].join("identity.toml"), without).expect("written");
    let said = wrong(&ours[2]).to_string();
    assert!(said.contains("identity.toml has no [tls]"), "{said}");
    assert!(said.contains("can be reached from other machines"), "the refusal of plain text stays: {said}");
}

#[test]
fn what_has_expired_does_not_start_and_does_not_connect() {
    let (mut cluster, _) = Cluster::prepare_with_tls(binary(), 1, Network::loopback(1), PAST);
    cluster.start_node(1);
    let (status, said) = cluster.wait_for_end(1);
    assert_eq!(status.code(), Some(2), "{said}");
    assert!(said.contains("node.pem has expired: it was valid until 2001-09-09"), "{said}");
    let errors = Tls::load(&cluster.certificate()).expect_err("it has expired");
    assert!(matches!(errors.0[..], [TlsError::Expired { .. }]), "{errors}");
}

#[test]
fn a_clients_files_are_checked_and_named() {
    let out = tempfile::tempdir().expect("a directory");
    let nodes = [(NodeId(1), "127.0.0.1:9001".parse().expect("an address"))];
    let make = |name: &str| {
        let out = out.path().join(name);
        tls::init(&out, &nodes, Parameters::default(), LATER).expect("a cluster").client
    };
    let (ours, others) = (make("ours"), make("others"));
    let files = |ca: &Path, of: &Path| TlsFiles {
        ca: ca.join("ca.pem"),
        credential: Credential::Certificate { certificate: of.join("client.pem"), key: of.join("client.key") },
    };
    let good = Tls::load(&files(&ours, &ours)).expect("good files");
    assert_eq!(format!("{good:?}"), "Tls { token: None, .. }");
    let errors = Tls::load(&files(&ours, &others)).expect_err("another authority's");
    assert!(matches!(errors.0[..], [TlsError::OtherAuthority { .. }]), "{errors}");
    let errors = Tls::load(&files(Path::new("/nowhere"), Path::new("/nowhere"))).expect_err("nothing is there");
    assert_eq!(errors.0.len(), 3, "all at once: {errors}");

    let token = |path: &Path| TlsFiles { ca: ours.join("ca.pem"), credential: Credential::Token(path.to_owned()) };
    let good = Tls::load(&token(&ours.join("token"))).expect("good files");
    assert_eq!(format!("{good:?}"), "Tls { token: Some(Token(..)), .. }", "secrets are not printed");
    let errors = Tls::load(&token(&ours.join("ca.pem"))).expect_err("no token");
    assert!(matches!(errors.0[..], [TlsError::Content { .. }]), "{errors}");
}

#[test]
fn secrets_are_for_their_owner_alone_and_nodes_do_not_have_the_clients() {
    let out = tempfile::tempdir().expect("a directory");
    let nodes = [(NodeId(1), "127.0.0.1:9001".parse().expect("an address"))];
    tls::init(out.path(), &nodes, Parameters::default(), LATER).expect("a cluster");
    for secret in ["ca/ca.key", "client/client.key", "client/token", "node-1/tls/node.key"] {
        let mode = fs::metadata(out.path().join(secret)).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{secret}");
    }
    let token = fs::read_to_string(out.path().join("client/token")).expect("the token");
    let identity = fs::read_to_string(out.path().join("node-1/identity.toml")).expect("the identity");
    assert!(identity.contains("token_sha256") && !identity.contains(token.trim()), "{identity}");
    let again = tls::init(out.path(), &nodes, Parameters::default(), LATER);
    assert!(again.is_err_and(|error| error.to_string().contains("exists already")), "nothing is replaced");
}

#[test]
fn the_largest_cluster_with_tls_fits_the_memory_that_a_node_may_use() {
    let out = tempfile::tempdir().expect("a directory");
    let nodes: Vec<_> =
        (1..=8).map(|node| (NodeId(node), format!("127.0.0.1:900{node}").parse().expect("an address"))).collect();
    let made = tls::init(out.path(), &nodes, Parameters::default(), LATER).expect("a cluster");
    let dir = made.nodes[0].to_str().expect("text").to_owned();
    let config = Settings::new().flag(Key::Dir, Some(dir)).check().expect("a good bundle");
    let plan = memory_plan(&config);
    assert!(plan.holders().any(|(holder, _)| holder.starts_with("TLS")), "{plan}");
    assert!(plan.total_bytes() <= config.memory_limit_bytes, "{plan}");
}

#[test]
fn a_bundle_without_tls_is_as_it_was() {
    let out = tempfile::tempdir().expect("a directory");
    let nodes = [(NodeId(1), "127.0.0.1:9001".parse().expect("an address"))];
    let dir = identity::init(out.path(), &nodes, Parameters::default()).expect("an identity").remove(0);
    assert!(!fs::read_to_string(dir.join("identity.toml")).expect("the identity").contains("tls"));
    let config = Settings::new().flag(Key::Dir, Some(dir.to_str().expect("text").to_owned())).check();
    let config = config.expect("a good bundle");
    assert!(config.tls.is_none() && config.connections == 256);
}
