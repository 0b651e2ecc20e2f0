//! What no honest side sends: streams that are cut, noise, records of somebody's own making, and nodes that are none.

use super::*;
use rustls::crypto::cipher::{MessageEncrypter, OutboundPlainMessage};
use rustls::{ConnectionTrafficSecrets, ContentType, ProtocolVersion, ServerConfig, ServerConnection};
use std::net::{Shutdown, TcpListener};

/// A single node, and a certificate that it takes.
fn one() -> (Cluster, Issued) {
    let (cluster, mut minted) = start(1, Network::loopback(1));
    let _leader = cluster.leader();
    (cluster, minted.authority().client().expect("a certificate"))
}

fn dial(cluster: &Cluster) -> TcpStream {
    let tcp = TcpStream::connect(cluster.server(1)).expect("the node listens");
    tcp.set_read_timeout(Some(BROKEN)).expect("an option");
    tcp
}

/// The first message of a handshake.
pub(crate) fn client_hello(cluster: &Cluster) -> Vec<u8> {
    let (mut tls, _) = secured(cluster, dial(cluster), None).into_parts();
    let mut bytes = Vec::new();
    tls.write_tls(&mut bytes).expect("room");
    bytes
}

/// Waits until the node has closed the connection; gives what it said before.
fn end(mut tcp: TcpStream, what: &str) -> Vec<u8> {
    let mut said = Vec::new();
    match tcp.read_to_end(&mut said) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!("{what}: {error}"),
    }
    said
}

/// Somebody who has shaken hands and goes on with records of his own making.
struct Forger {
    encrypter: Box<dyn MessageEncrypter>,
    sequence: u64,
}

impl Forger {
    fn new(tls: ClientConnection) -> Self {
        let suite = tls.negotiated_cipher_suite().and_then(|suite| suite.tls13()).expect("TLS 1.3");
        let (sequence, secrets) = tls.dangerous_extract_secrets().expect("a handshake that is done").tx;
        let (key, iv) = match secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv }
            | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
            | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (key, iv),
            _ => panic!("a cipher that is not known here"),
        };
        Self { encrypter: suite.aead_alg.encrypter(key, iv), sequence }
    }

    fn record(&mut self, typ: ContentType, content: &[u8]) -> Vec<u8> {
        let message = OutboundPlainMessage { typ, version: ProtocolVersion::TLSv1_2, payload: content.into() };
        let record = self.encrypter.encrypt(message, self.sequence).expect("a record");
        self.sequence += 1;
        record.encode()
    }
}

/// What is sent, and how.
type Forgery = (&'static str, fn(&mut Forger) -> Vec<u8>);

const FORGERIES: [Forgery; 9] = [
    ("records with nothing in them", |forger| {
        (0..2_000).flat_map(|_| forger.record(ContentType::ApplicationData, &[])).collect()
    }),
    ("warnings without end", |forger| (0..1_000).flat_map(|_| forger.record(ContentType::Alert, &[1, 90])).collect()),
    ("tickets, which only a node may give", |forger| {
        (0..1_000).flat_map(|_| forger.record(ContentType::Handshake, &[4, 0, 0, 1, 0])).collect()
    }),
    ("half of a message of 60,000 bytes after the handshake", |forger| {
        let mut message = vec![24, 0, 0xEA, 0x60];
        message.resize(30_000, 0);
        message.chunks(1_000).flat_map(|part| forger.record(ContentType::Handshake, part)).collect()
    }),
    ("a record of another key", |forger| {
        let mut record = forger.record(ContentType::ApplicationData, &[1; 100]);
        *record.last_mut().expect("a record") ^= 1;
        record
    }),
    ("a record of more than a record may hold", |_| [vec![23, 3, 3, 0xFF, 0xFF], vec![0; 20_000]].concat()),
    ("a record of no type", |forger| {
        let mut record = forger.record(ContentType::ApplicationData, &[1; 100]);
        record[0] = 99;
        record
    }),
    ("an alert in plain text", |_| vec![21, 3, 3, 0, 2, 2, 40]),
    ("a frame in plain text", |_| encoded(&Control::Hello(hello(None, Role::Client)))),
];

fn encoded(message: &Control<'_>) -> Vec<u8> {
    let mut frame = Vec::new();
    say(&mut frame, message).expect("room");
    frame
}

#[test]
fn records_of_somebodys_own_making_cost_nobody_but_their_sender() {
    let _alone = alone();
    let (cluster, certificate) = one();
    beside_a_publisher(&cluster, |publisher| {
        let mut failed = 0;
        let mut check = |what: &str, tcp: TcpStream| {
            end(tcp, what);
            failed += 1;
            assert_eq!(counters(&cluster), [owned(("tls_failed", failed))], "{what}");
            goes_on(publisher);
        };
        let shaken = || {
            let mut stream = secured(&cluster, dial(&cluster), Some(&certificate));
            while stream.conn.is_handshaking() || stream.conn.wants_write() {
                stream.conn.complete_io(&mut stream.sock).expect("the node shakes hands");
            }
            stream
        };
        let welcomed = || {
            let mut stream = shaken();
            say(&mut stream, &Control::Hello(hello(None, Role::Client))).expect("the node reads");
            hear(&mut stream).expect("a welcome");
            stream
        };
        for (what, forge) in FORGERIES {
            for (when, stream) in [("before the hello", shaken()), ("after it", welcomed())] {
                let (tls, mut tcp) = stream.into_parts();
                let bytes = forge(&mut Forger::new(tls));
                // It may be closed before all of it is taken.
                let _taken = tcp.write_all(&bytes);
                check(&format!("{what}, {when}"), tcp);
            }
        }
        for (when, stream) in [("before the hello", shaken()), ("after it", welcomed())] {
            let (mut tls, mut tcp) = stream.into_parts();
            for _ in 0..100 {
                tls.refresh_traffic_keys().expect("another key");
                let _taken = tls.write_tls(&mut tcp);
            }
            check(&format!("other keys without end, {when}"), tcp);
        }
        // It is not the frame that was cut off that is counted, but why.
        let mut stream = welcomed();
        stream.write_all(&encoded(&Control::Hello(hello(None, Role::Client)))[..20]).expect("the node reads");
        let (_, mut tcp) = stream.into_parts();
        tcp.write_all(&[0; 100]).expect("the node reads");
        check("no record within a frame", tcp);
    });
}

#[test]
fn a_handshake_that_is_cut_off_at_any_byte_and_noise_cost_nobody_anything() {
    let _alone = alone();
    let (cluster, _) = one();
    let whole = client_hello(&cluster);
    beside_a_publisher(&cluster, |publisher| {
        for cut in 0..=whole.len() {
            let mut tcp = dial(&cluster);
            tcp.write_all(&whole[..cut]).expect("the node reads");
            tcp.shutdown(Shutdown::Write).expect("an open connection");
            let said = end(tcp, "a handshake that is cut off");
            assert!(said.is_empty() || cut == whole.len(), "{said:?} to {cut} bytes");
        }
        goes_on(publisher);
        assert_eq!(counters(&cluster), [], "nobody was refused");
        // Numbers that look like nothing (Knuth's), the same each time.
        let mut state = 1_u64;
        let mut noise = |first: u8| -> Vec<u8> {
            let mut next = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 56) as u8
            };
            core::iter::once(first).chain(core::iter::repeat_with(&mut next)).take(1_000).collect()
        };
        for number in 1..=16 {
            for first in [22, 23 + number as u8] {
                let mut tcp = dial(&cluster);
                tcp.write_all(&noise(first)).expect("the node reads");
                end(tcp, "noise");
            }
            assert_eq!(counters(&cluster), [("tls_failed", number), ("tls_missing", number)].map(owned));
            goes_on(publisher);
        }
    });
}

/// Shakes hands as a node that shows `issued`, with who has dialled.
fn pretend(listener: &TcpListener, issued: &Issued) -> io::Result<StreamOwned<ServerConnection, TcpStream>> {
    let (chain, key) = shown(issued);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("ring speaks it")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("a pair");
    let (tcp, _) = listener.accept()?;
    tcp.set_read_timeout(Some(BROKEN))?;
    let tls = ServerConnection::new(Arc::new(config)).expect("a configuration");
    let mut stream = StreamOwned::new(tls, tcp);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(stream)
}

#[test]
fn who_dials_speaks_with_no_one_but_the_node_that_is_meant() {
    let _alone = alone();
    let (mut cluster, mut minted) = Cluster::prepare_with_tls(binary(), 3, Network::loopback(3), LATER);
    let me = Identity::load(&cluster.directory(1)).expect("an identity");
    let stranger = Authority::new(me.cluster, LATER).expect("an authority");
    let of = |authority: &Authority, node| authority.node(NodeId(node)).expect("a certificate");
    let (right, another) = (of(minted.authority(), 2), of(minted.authority(), 3));
    let client = minted.authority().client().expect("a certificate");
    minted.authority().issue_until(PAST).expect("a date");
    let expired = of(minted.authority(), 2);
    let listener = TcpListener::bind(cluster.server(2)).expect("the port of the node that is away");
    [1, 3].into_iter().for_each(|node| cluster.start_node(node));
    let servers = [1, 3].map(|node| cluster.server(node)).to_vec();
    beside_a_publisher_to(servers, &cluster, |publisher| {
        for (what, issued, alerts) in [
            ("another authority's", &of(&stranger, 2), ["UnknownCA", "DecryptError"]),
            ("another node's", &another, ["CertificateUnknown", "BadCertificate"]),
            ("a client's", &client, ["UnsupportedCertificate", "UnsupportedCertificate"]),
            ("one that has expired", &expired, ["CertificateExpired", "CertificateExpired"]),
        ] {
            // A node that was not answered soon enough dials again.
            let refusal = (0..100).find_map(|_| {
                let error = pretend(&listener, issued).map(drop).expect_err("nobody trusts it");
                Some(error.to_string()).filter(|_| error.kind() == ErrorKind::InvalidData)
            });
            let refusal = refusal.expect("an alert");
            assert!(alerts.iter().any(|alert| refusal.contains(alert)), "{what}: {refusal}");
            goes_on(publisher);
        }
        // Clients ask for less, and for that too.
        let asked = |issued: &Issued| {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
            let (server, options) = (listener.local_addr().expect("bound").to_string(), cluster.options(BROKEN));
            std::thread::scope(|scope| {
                let node = scope.spawn(|| pretend(&listener, issued).map(drop));
                let error = cluster.clients().run(async || status(&server, &options).await).expect_err("it is no node");
                drop(node.join().expect("no panic"));
                error
            })
        };
        for (what, issued) in
            [("another authority's", &of(&stranger, 2)), ("a client's", &client), ("one that has expired", &expired)]
        {
            match asked(issued) {
                LinkError::Untrusted(_) => {}
                other => panic!("{what}: {other}"),
            }
            goes_on(publisher);
        }
        // The publisher may come too: the nodes have told it who there is.
        let is_of_node = (0..100).any(|_| {
            let hello = pretend(&listener, &right).and_then(|mut stream| hear(&mut stream)).unwrap_or_default();
            let frame = Frame::check(&hello, CRC).ok();
            let hello = frame.and_then(|frame| Control::decode(frame.header().kind, frame.payload()).ok());
            matches!(hello, Some(Control::Hello(Hello { role: Role::Peer { .. }, .. })))
        });
        assert!(is_of_node, "the right certificate is trusted");
        goes_on(publisher);
        assert_eq!(counters(&cluster), []);
    });
    drop(listener);
    cluster.start_node(2);
    cluster.await_whole();
    cluster.assert_none_ended();
}
