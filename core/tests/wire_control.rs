//! Control messages: what is encoded decodes to the same, what breaks a rule is refused by both sides.

use eventstream_core::config::{
    MAX_CONTROL_PAYLOAD, MAX_COUNTER, MAX_COUNTER_NAME, MAX_LISTED_COUNTERS, MAX_LISTED_TOPICS,
};
use eventstream_core::crc::Crc32;
use eventstream_core::id::{
    ClusterId, Epoch, Incarnation, Index, LogTime, NodeId, Offset, ProducerId, Sequence, ShardId, Term, TopicId,
};
use eventstream_core::raft::{Body, LogPosition, Message};
use eventstream_core::receipt::{Durability, RunReceipt, RunRefusal};
use eventstream_core::wire::{
    About, CaughtUp, Control, ControlError, Counters, CountersRequest, Delivery, EncodeError, EndReason, Frame, Hello,
    Kind, LeaderChanged, List, ListedTopic, MAX_CONTROL_LEN, Member, MemberStatus, NamedCount, NodeRole, NodeStatus,
    OVERHEAD, OpenProducer, Ping, Pong, ProducerOpened, Receipt, Refusal, Refused, Role, StartAt, Status,
    StatusRequest, Subscribe, SubscriptionEnd, Token, Topic, TopicList, TopicListRequest, TopicRequest, Unsubscribe,
    Welcome,
};
use proptest::prelude::*;

const CRC: Crc32 = Crc32::portable();

/// What the messages of one case are made of: proptest gives the values, [`messages`] gives each message some of them.
#[derive(Clone, Debug)]
struct Parts {
    numbers: [u64; 6],
    small: u32,
    nodes: [u16; 2],
    id: [u8; 16],
    flag: bool,
    variant: usize,
    topic: String,
    text: String,
    counter: String,
    receipts: Vec<RunReceipt>,
    addresses: Vec<String>,
}

fn parts() -> impl Strategy<Value = Parts> {
    let number = || prop_oneof![0..300_u64, 0..=MAX_COUNTER, Just(MAX_COUNTER)];
    let numbers = [number(), number(), number(), number(), number(), number()];
    let scalars = (numbers, any::<u32>(), [1..=u16::MAX, 1..=u16::MAX], any::<[u8; 16]>(), any::<bool>(), 0..100_usize);
    let texts = ("[a-zü]{1,60}", "\\PC{0,60}", "[a-z0-9_]{1,48}", prop::collection::vec("[a-z0-9.:]{1,255}", 0..=8));
    let receipts = prop::collection::vec(run_receipt(), 0..=64);
    (scalars, texts, receipts).prop_map(|(scalars, (topic, text, counter, addresses), receipts)| {
        let (numbers, small, nodes, id, flag, variant) = scalars;
        Parts { numbers, small, nodes, id, flag, variant, topic, text, counter, receipts, addresses }
    })
}

fn run_receipt() -> impl Strategy<Value = RunReceipt> {
    let refusals = prop_oneof![
        any::<u32>().prop_map(|epoch| RunRefusal::Fenced { epoch: Epoch(epoch) }),
        (0..=MAX_COUNTER).prop_map(|expected| RunRefusal::SequenceGap { expected: Sequence(expected) }),
        Just(RunRefusal::ProducerUnknown),
        Just(RunRefusal::ProducerTableFull),
        Just(RunRefusal::TopicTableFull),
        any::<u32>().prop_map(|limit| RunRefusal::EventTooLarge { limit }),
        Just(RunRefusal::EventIdsOff),
    ];
    let offset = || 0..=MAX_COUNTER;
    (0..=32_u16, prop::option::of(offset()), 0..=32_u16, offset(), prop::option::of(refusals)).prop_map(
        |(duplicates, duplicate_offset, accepted, first_offset, refused)| RunReceipt {
            duplicates,
            duplicate_offset: duplicate_offset.map(Offset),
            accepted,
            first_offset: Offset(first_offset),
            refused,
        },
    )
}

fn pick<T: Copy>(parts: &Parts, from: &[T]) -> T {
    from[parts.variant % from.len()]
}

fn raft_body(parts: &Parts) -> Body {
    let [a, b, c, d, ..] = parts.numbers;
    let position = LogPosition { index: Index(a), term: Term(b) };
    // An append's last index is a counter as well.
    let prev = LogPosition { index: Index(a.min(MAX_COUNTER - 32)), term: Term(b) };
    let all = [
        Body::PreVote { last: position },
        Body::PreVoteReply { granted: parts.flag },
        Body::Vote { last: position, transfer: parts.flag },
        Body::VoteReply { granted: parts.flag, wall_us: c },
        Body::Append { prev, count: (d % 33) as u16, commit: Index(c) },
        Body::AppendAccepted { matched: Index(a) },
        Body::AppendRejected { rejected: Index(c), hint: position },
        Body::Heartbeat { commit: Index(a), round: b },
        Body::HeartbeatReply { round: a, verified: Index(b), wall_us: c },
        Body::TimeoutNow,
        Body::SuspectPreVote { last: position, start: c },
        Body::PreVoteIfAll { start: a },
        Body::VoteIfAll { wall_us: c },
        Body::SuspectReply { start: a, round: b, verified: Index(c), matched: Index(a), wall_us: b },
        Body::Cleared { start: b },
        Body::PreVoteIfNew { start: a, own: b },
        Body::FoundingVote { last: position, start: c },
        Body::AppendTerms {
            prev: position,
            last: Index(c),
            runs: [position, position, LogPosition::default(), LogPosition::default()],
            configuration: Index(b),
            commit: Index(a),
        },
        Body::SnapshotRows { last: position, first: c as u32 / 2, count: (d % 65) as u16, rows: u32::MAX },
        Body::SnapshotTaken { last: position, next: d as u32 },
        Body::SnapshotTerms { last: position, configuration: Index(c) },
    ];
    pick(parts, &all)
}

fn refusal(parts: &Parts) -> Refusal {
    let [.., term] = parts.numbers;
    let leader = parts.flag.then_some(NodeId(parts.nodes[1]));
    let all = [
        Refusal::Version { min: 1, max: 3 },
        Refusal::WrongCluster,
        Refusal::UnknownMember,
        Refusal::HelloExpected,
        Refusal::Unexpected,
        Refusal::Malformed,
        Refusal::NotLeader { term: Term(term), leader },
        Refusal::Busy,
        Refusal::TooManyConnections,
        Refusal::TooManySubscriptions,
        Refusal::OutcomeUnknown,
        Refusal::Stopping,
        Refusal::ProducerTableFull,
        Refusal::DiskLow,
        Refusal::Unauthenticated,
        Refusal::TlsRequired,
        Refusal::Witness,
    ];
    pick(parts, &all)
}

fn members(parts: &Parts) -> Vec<Member<'_>> {
    let member = |address| Member { node: NodeId(parts.nodes[0]), incarnation: Incarnation(parts.id), address };
    parts.addresses.iter().map(|address| member(address.as_str())).collect()
}

fn member_statuses(parts: &Parts) -> Vec<MemberStatus<'_>> {
    let [a, b, ..] = parts.numbers;
    let status = |address| MemberStatus {
        node: NodeId(parts.nodes[0]),
        incarnation: Incarnation(parts.id),
        address,
        is_connected: parts.flag,
        matched: parts.flag.then_some(Index(a)),
        heard_us: Some(b),
    };
    parts.addresses.iter().map(|address| status(address.as_str())).collect()
}

fn node_status(parts: &Parts) -> NodeStatus<'_> {
    let [a, b, c, d, e, f] = parts.numbers;
    NodeStatus {
        node: NodeId(parts.nodes[0]),
        incarnation: Incarnation(parts.id),
        role: pick(
            parts,
            &[
                NodeRole::Follower,
                NodeRole::Candidate,
                NodeRole::Leader,
                NodeRole::Suspect,
                NodeRole::Witness,
                NodeRole::SuspectWitness,
            ],
        ),
        term: Term(a),
        leader: parts.flag.then_some(NodeId(parts.nodes[1])),
        last: Index(b),
        durable: Index(c),
        commit: Index(d),
        applied: Index(e),
        log_time: LogTime(f),
        clocks_agree: parts.flag,
        state_hash: u64::MAX - a,
        topics: parts.small,
        producers: parts.small / 2,
        events: b,
        uptime_us: c,
        version: &parts.text,
    }
}

fn listed_topics(parts: &Parts) -> Vec<ListedTopic<'_>> {
    let topic = ListedTopic { name: &parts.topic, next_offset: Offset(parts.numbers[0]) };
    vec![topic; parts.receipts.len().min(MAX_LISTED_TOPICS)]
}

fn named_counts(parts: &Parts) -> Vec<NamedCount<'_>> {
    let counter = NamedCount { name: &parts.counter, count: parts.numbers[1] };
    vec![counter; parts.receipts.len().min(MAX_LISTED_COUNTERS)]
}

/// The items of the lists of one case.
type Lists<'a> = (Vec<Member<'a>>, Vec<MemberStatus<'a>>, Vec<ListedTopic<'a>>, Vec<NamedCount<'a>>);

fn lists(parts: &Parts) -> Lists<'_> {
    (members(parts), member_statuses(parts), listed_topics(parts), named_counts(parts))
}

/// One message of every kind.
fn messages<'a>(parts: &'a Parts, (members, statuses, topics, counters): &'a Lists<'a>) -> Vec<Control<'a>> {
    let [a, b, c, d, ..] = parts.numbers;
    let (subscription, request) = (parts.small, a);
    let (node, other) = (NodeId(parts.nodes[0]), NodeId(parts.nodes[1]));
    let (cluster, incarnation, producer) = (ClusterId(parts.id), Incarnation(parts.id), ProducerId(parts.id));
    let leader = parts.flag.then_some(other);
    let mut token = [0; 32];
    token[..16].copy_from_slice(&parts.id);
    let role = match parts.flag {
        true => Role::Peer { node, incarnation },
        false => pick(parts, &[Role::Client, Role::TokenClient { token: Token(token) }]),
    };
    let about =
        pick(parts, &[About::Connection, About::Batch(a), About::Request(b), About::Subscription(subscription)]);
    let from = pick(parts, &[StartAt::Beginning, StartAt::Latest, StartAt::Offset(Offset(c))]);
    let reason = pick(
        parts,
        &[
            EndReason::Unsubscribed,
            EndReason::Stopping,
            EndReason::BeforeHorizon { first: Offset(a) },
            EndReason::AfterEnd { next: Offset(b) },
            EndReason::ReadFailed,
        ],
    );
    vec![
        Control::Hello(Hello { version_min: 1, version_max: 2, cluster: parts.flag.then_some(cluster), role }),
        Control::Welcome(Welcome {
            version: 1,
            cluster,
            node,
            incarnation,
            term: Term(a),
            leader,
            max_inflight: parts.small,
            members: List::of(members),
        }),
        Control::Refused(Refused { about, reason: refusal(parts), detail: &parts.text }),
        Control::OpenProducer(OpenProducer { request, producer }),
        Control::ProducerOpened(ProducerOpened {
            request,
            producer,
            epoch: Epoch(parts.small),
            next_sequence: Sequence(b),
        }),
        Control::Receipt(Receipt {
            batch: a,
            index: Index(b),
            term: Term(c),
            durability: pick(parts, &[Durability::Majority, Durability::MajorityWithWitness]),
            runs: List::of(&parts.receipts),
        }),
        Control::LeaderChanged(LeaderChanged { term: Term(a), leader }),
        Control::Subscribe(Subscribe { subscription, topic: &parts.topic, from }),
        Control::Delivery(Delivery { subscription, first_offset: Offset(a), mask: b | 1 << 63, index: Index(c) }),
        Control::SubscriptionEnd(SubscriptionEnd { subscription, reason }),
        Control::Unsubscribe(Unsubscribe { subscription }),
        Control::CaughtUp(CaughtUp { subscription, next_offset: Offset(d) }),
        Control::Ping(Ping { number: u64::MAX - a }),
        Control::Pong(Pong { number: u64::MAX - b }),
        Control::StatusRequest(StatusRequest),
        Control::Status(Status { node: node_status(parts), members: List::of(statuses) }),
        Control::TopicRequest(TopicRequest { request, topic: &parts.topic }),
        Control::Topic(Topic { request, next_offset: parts.flag.then_some(Offset(b)) }),
        Control::TopicListRequest(TopicListRequest { request, first: TopicId(parts.small) }),
        Control::TopicList(TopicList { request, count: parts.small, topics: List::of(topics) }),
        Control::CountersRequest(CountersRequest { request, first: parts.small }),
        Control::Counters(Counters { request, count: parts.small, counters: List::of(counters) }),
        Control::Peer(Message { from: node, to: other, incarnation, term: Term(d), body: raft_body(parts) }),
    ]
}

fn encode(message: &Control<'_>) -> Result<Vec<u8>, EncodeError> {
    let mut buffer = vec![0; MAX_CONTROL_LEN];
    let len = message.encode(ShardId(0), &mut buffer, CRC)?;
    buffer.truncate(len);
    Ok(buffer)
}

proptest! {
    #[test]
    fn what_is_encoded_decodes_to_the_same(parts in parts()) {
        let lists = lists(&parts);
        let messages = messages(&parts, &lists);
        let kinds: Vec<_> = messages.iter().map(Control::kind).collect();
        let all: Vec<_> = Kind::ALL.iter().copied().filter(|kind| !kind.is_entry()).collect();
        prop_assert_eq!(kinds, all, "a message of every kind is tried");
        for message in &messages {
            let bytes = encode(message).unwrap();
            let frame = Frame::check(&bytes, CRC).unwrap();
            prop_assert_eq!(frame.header().kind, message.kind());
            let decoded = Control::decode(message.kind(), frame.payload()).unwrap();
            prop_assert_eq!(&decoded, message);
            // What was decoded can be passed on: the same bytes again.
            prop_assert_eq!(encode(&decoded).unwrap(), bytes);
        }
    }

    #[test]
    fn no_prefix_of_a_message_and_nothing_after_it_is_taken(parts in parts()) {
        let lists = lists(&parts);
        for message in messages(&parts, &lists) {
            let bytes = encode(&message).unwrap();
            let payload = Frame::check(&bytes, CRC).unwrap().payload().to_vec();
            for len in 0..payload.len() {
                prop_assert_eq!(Control::decode(message.kind(), &payload[..len]), Err(ControlError::Truncated));
            }
            let longer = [&payload[..], &[0]].concat();
            prop_assert_eq!(Control::decode(message.kind(), &longer), Err(ControlError::TrailingBytes));
        }
    }

    #[test]
    fn any_bytes_are_a_message_or_an_error(number in 16..=48_u8, payload in prop::collection::vec(any::<u8>(), 0..400)) {
        if let Some(kind) = Kind::from_number(number) && let Ok(message) = Control::decode(kind, &payload) {
            let bytes = encode(&message).unwrap();
            let again = Control::decode(kind, Frame::check(&bytes, CRC).unwrap().payload()).unwrap();
            prop_assert_eq!(again, message);
        }
    }
}

/// It does not leave. (That the other side refuses it for the same reason is for the tests on bytes.)
fn assert_refused(message: &Control<'_>, reason: ControlError) {
    assert_eq!(encode(message), Err(EncodeError::Invalid(reason)), "{message:?}");
}

#[test]
fn lengths_and_numbers_have_bounds() {
    let long = "x".repeat(256);
    let subscribe = |topic, from| Control::Subscribe(Subscribe { subscription: 1, topic, from });
    assert_refused(&subscribe("", StartAt::Latest), ControlError::TopicLength);
    assert_refused(&subscribe(&long[..128], StartAt::Latest), ControlError::TopicLength);
    assert!(encode(&subscribe(&long[..127], StartAt::Latest)).is_ok());
    assert_refused(&subscribe("t", StartAt::Offset(Offset(MAX_COUNTER + 1))), ControlError::OutOfRange);

    let detail = Refused { about: About::Connection, reason: Refusal::Busy, detail: &long };
    assert_refused(&Control::Refused(detail), ControlError::TextLength);
    assert_refused(
        &Control::LeaderChanged(LeaderChanged { term: Term(1), leader: Some(NodeId(0)) }),
        ControlError::OutOfRange,
    );
    let role = Role::Peer { node: NodeId(1), incarnation: Incarnation::default() };
    let nameless = Hello { version_min: 1, version_max: 1, cluster: None, role };
    assert_refused(&Control::Hello(nameless), ControlError::OutOfRange);
    let backwards = Hello { version_min: 2, version_max: 1, cluster: None, role: Role::Client };
    assert_refused(&Control::Hello(backwards), ControlError::OutOfRange);
    let nothing = Delivery { subscription: 1, first_offset: Offset(0), mask: 0, index: Index(1) };
    assert_refused(&Control::Delivery(nothing), ControlError::OutOfRange);
}

#[test]
fn an_append_stays_in_its_bounds() {
    let append = |index, count| {
        let prev = LogPosition { index: Index(index), term: Term(1) };
        let body = Body::Append { prev, count, commit: Index(0) };
        Control::Peer(Message {
            from: NodeId(1),
            to: NodeId(2),
            incarnation: Incarnation::default(),
            term: Term(1),
            body,
        })
    };
    assert!(encode(&append(MAX_COUNTER - 32, 32)).is_ok());
    assert_refused(&append(MAX_COUNTER - 31, 32), ControlError::OutOfRange);
    assert_refused(&append(0, 33), ControlError::OutOfRange);
}

#[test]
fn lists_have_bounds() {
    let receipt = RunReceipt::accepted(1, Offset(0));
    let of = |runs| {
        Control::Receipt(Receipt {
            batch: 1,
            index: Index(1),
            term: Term(1),
            durability: Durability::Majority,
            runs: List::of(runs),
        })
    };
    let many = [receipt; 65];
    assert!(encode(&of(&many[..64])).is_ok());
    assert_refused(&of(&many), ControlError::TooMany);
    let crowded = [RunReceipt { duplicates: 1, ..RunReceipt::accepted(64, Offset(0)) }];
    assert_refused(&of(&crowded), ControlError::OutOfRange);

    let topic = ListedTopic { name: "t", next_offset: Offset(0) };
    let many = [topic; MAX_LISTED_TOPICS + 1];
    let of = |topics| Control::TopicList(TopicList { request: 1, count: 1, topics: List::of(topics) });
    assert!(encode(&of(&many[1..])).is_ok());
    assert_refused(&of(&many), ControlError::TooMany);
    assert_refused(&of(&[ListedTopic { name: "", ..topic }]), ControlError::TopicLength);

    let counter = NamedCount { name: "busy", count: 0 };
    let many = [counter; MAX_LISTED_COUNTERS + 1];
    let of = |counters| Control::Counters(Counters { request: 1, count: 1, counters: List::of(counters) });
    assert!(encode(&of(&many[1..])).is_ok());
    assert_refused(&of(&many), ControlError::TooMany);
    for name in ["", "Busy", "too busy", "ü", &"x".repeat(MAX_COUNTER_NAME + 1)] {
        let misnamed = [NamedCount { name, count: 0 }];
        let counters = Counters { request: 1, count: 1, counters: List::of(&misnamed) };
        assert_refused(&Control::Counters(counters), ControlError::CounterName);
    }

    // Batch, index, term, durability, then a list that claims 2^32 - 1 items: refused before any is read.
    let claims = [1, 1, 1, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0x0F];
    assert_eq!(Control::decode(Kind::Receipt, &claims), Err(ControlError::TooMany));
}

#[test]
fn undefined_values_are_refused() {
    // A subscription, the topic "t", then where to begin.
    assert!(Control::decode(Kind::Subscribe, &[1, 1, b't', 0]).is_ok());
    assert_eq!(Control::decode(Kind::Subscribe, &[1, 1, b't', 3]), Err(ControlError::UndefinedValue));
    assert_eq!(Control::decode(Kind::Subscribe, &[1, 1, 0xFF, 0]), Err(ControlError::NotUtf8));
    // A request, then an option.
    assert_eq!(Control::decode(Kind::Topic, &[1, 2]), Err(ControlError::UndefinedValue));
    assert_eq!(Control::decode(Kind::Ping, &[0xFF; 11]), Err(ControlError::BadVarint));
    assert_eq!(Control::decode(Kind::Batch, &[]), Err(ControlError::NotControl));
}

#[test]
fn what_breaks_a_rule_is_refused_by_the_reader_too() {
    // A subscription, the empty topic; a term, node 0; an append of 33 entries; a receipt of 65 events.
    assert_eq!(Control::decode(Kind::Subscribe, &[1, 0, 0]), Err(ControlError::TopicLength));
    assert_eq!(Control::decode(Kind::LeaderChanged, &[1, 1, 0]), Err(ControlError::OutOfRange));
    let append = [&[1, 2][..], &[0; 16], &[1, 4, 0, 0, 33, 0]].concat();
    assert_eq!(Control::decode(Kind::Peer, &append), Err(ControlError::OutOfRange));
    assert_eq!(Control::decode(Kind::Receipt, &[1, 1, 1, 0, 1, 1, 0, 64, 0, 0]), Err(ControlError::OutOfRange));
    // The request 2^63.
    let request = [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01];
    let topic = [&request[..], &[0]].concat();
    assert_eq!(Control::decode(Kind::Topic, &topic), Err(ControlError::OutOfRange));
}

#[test]
fn a_number_may_be_written_longer_than_need_be() {
    assert_eq!(Control::decode(Kind::Ping, &[0x87, 0x80, 0x00]), Ok(Control::Ping(Ping { number: 7 })));
}

#[test]
fn the_largest_of_every_message_fits_a_control_frame() {
    let refused = Some(RunRefusal::SequenceGap { expected: Sequence(MAX_COUNTER) });
    let receipt = RunReceipt {
        duplicates: 64,
        duplicate_offset: Some(Offset(MAX_COUNTER)),
        accepted: 0,
        first_offset: Offset(MAX_COUNTER),
        refused,
    };
    let mut parts = Parts {
        numbers: [MAX_COUNTER; 6],
        small: u32::MAX,
        nodes: [u16::MAX; 2],
        id: [0xFF; 16],
        flag: true,
        variant: 0,
        topic: "x".repeat(127),
        text: "x".repeat(255),
        counter: "x".repeat(MAX_COUNTER_NAME),
        receipts: vec![receipt; 64],
        addresses: vec!["x".repeat(255); 8],
    };
    let mut longest = 0;
    for variant in 0..13 {
        parts.variant = variant;
        let lists = lists(&parts);
        for message in messages(&parts, &lists) {
            let len = encode(&message).expect("it fits").len();
            longest = longest.max(len - OVERHEAD);
            let mut short = vec![0; len - 1];
            assert_eq!(message.encode(ShardId(0), &mut short, CRC), Err(EncodeError::BufferTooSmall));
        }
    }
    assert!(longest <= MAX_CONTROL_PAYLOAD && longest > MAX_CONTROL_PAYLOAD / 2, "{longest} bytes");
}
