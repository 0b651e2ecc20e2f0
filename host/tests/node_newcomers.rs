//! Connections that do not say who they are: however many they are, whoever says so comes in.

mod node_support;

use core::net::SocketAddr;
use core::time::Duration;
use eventstream_core::config::Parameters;
use eventstream_core::id::NodeId;
use eventstream_core::wire::Refusal;
use eventstream_host::config::{Key, Settings};
use eventstream_host::identity::init;
use eventstream_host::node::memory_plan;
use eventstream_testbed::NodeProcess;
use node_support::{BROKEN, Client, Cluster, Counted, allow_files, free_address, payloads};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, Resource, Rlimit, getpid, pidfd_getfd, pidfd_open, prlimit};
use socket2::SockRef;
use std::net::TcpStream;
use std::process::Command;
use std::sync::mpsc::channel;
use std::{fs, thread};

/// Silent connections.
const CROWD: usize = 10_000;

fn silent(address: SocketAddr) -> Client {
    Client::over(TcpStream::connect_timeout(&address, BROKEN).expect("the node listens"))
}

#[test]
fn peers_and_clients_come_in_while_a_crowd_is_silent() {
    allow_files(CROWD as u64 + 4_000);
    let mut cluster = Cluster::start(3);
    let leader = cluster.leader();
    let (late, address) = ((leader + 1) % 3, cluster.addresses[leader]);
    cluster.stop_node(late);
    let mut counted = Counted::at(&cluster, leader);
    let (tell, half_of_them) = channel();
    let crowd = thread::spawn(move || {
        let come = |number| {
            if number == CROWD / 2 {
                tell.send(()).expect("somebody listens");
            }
            silent(address)
        };
        (0..CROWD).map(come).collect::<Vec<Client>>()
    });
    half_of_them.recv().expect("the crowd comes");
    // The others are still coming.
    cluster.start_node(late);
    let mut client = cluster.client(leader);
    client.open_producer(1);
    client.publish("t", &payloads("x", 1));
    cluster.agree(client.receipt().1);
    let mut crowd = crowd.join().expect("all of them came");
    cluster.stop_node(late);
    cluster.start_node(late);
    let mut client = cluster.client(leader);
    client.open_producer(2);
    client.publish("t", &payloads("y", 1));
    cluster.agree(client.receipt().1);
    assert_eq!(crowd[0].refusal(), Refusal::TooManyConnections, "the oldest is told to come again");
    let (mut pushed_out, mut too_late) = (1, 0);
    for one in &mut crowd[1..] {
        match one.refusal() {
            Refusal::TooManyConnections => pushed_out += 1,
            Refusal::HelloExpected => too_late += 1,
            other => panic!("{other}"),
        }
    }
    counted.assert_rise(&[("newcomer_pushed_out", pushed_out), ("hello_timeout", too_late)], "the whole crowd");
}

#[test]
fn without_a_file_for_one_more_the_oldest_silent_connection_goes() {
    let out = tempfile::tempdir().expect("a directory");
    let address = free_address();
    let nodes = [(NodeId(1), address.to_string().parse().expect("an address"))];
    let dir = init(out.path(), &nodes, Parameters::default()).expect("an identity").remove(0);
    let mut command = Command::new(env!("CARGO_BIN_EXE_eventstream"));
    command.arg("node").arg("--dir").arg(&dir);
    let node = NodeProcess::spawn(command, &dir.join("log.txt"));
    let mut first = (0..4_000)
        .find_map(|_| {
            thread::sleep(Duration::from_millis(5));
            TcpStream::connect(address).ok().map(Client::over)
        })
        .expect("the node listens");
    first.hello();
    let open = fs::read_dir(format!("/proc/{}/fd", node.id())).expect("a running process").count() as u64;
    let few = Rlimit { current: Some(open + 8), maximum: Some(open + 8) };
    prlimit(Pid::from_raw(node.id().cast_signed()), Resource::Nofile, few).expect("a lower limit");
    let mut crowd: Vec<Client> = (0..32).map(|_| silent(address)).collect();
    let mut client = Client::connect(address);
    client.ping(1);
    assert_eq!(client.pong(), 1);
    assert_eq!(crowd[0].refusal(), Refusal::TooManyConnections, "it is told to come again");
    assert!(client.counters()["newcomer_pushed_out"] > 0);
    assert!(node.terminate().success());
}

#[test]
fn the_kernel_buffers_no_more_of_a_client_than_the_plan_says() {
    let cluster = Cluster::start(1);
    let clients: Vec<Client> = (0..5).map(|_| cluster.client(0)).collect();
    let dir = cluster.directories[0].to_string_lossy().into_owned();
    let config = Settings::new().flag(Key::Dir, Some(dir)).check().expect("a configuration");
    let said = memory_plan(&config).kernel_bytes() / config.connections;
    // The node is in this process: its ends of the connections are among the open files.
    let this = pidfd_open(getpid(), PidfdFlags::empty()).expect("a running process");
    let files = fs::read_dir("/proc/self/fd").expect("a running process");
    let numbers = files.filter_map(|file| file.ok()?.file_name().to_str()?.parse().ok());
    let accepted: Vec<usize> = numbers
        .filter_map(|number| {
            let file = pidfd_getfd(&this, number, PidfdGetfdFlags::empty()).ok()?;
            let socket = SockRef::from(&file);
            let is_accepted =
                socket.local_addr().ok()?.as_socket()? == cluster.addresses[0] && socket.peer_addr().is_ok();
            is_accepted.then(|| socket.recv_buffer_size().expect("a size") + socket.send_buffer_size().expect("a size"))
        })
        .collect();
    assert!(accepted.len() >= clients.len(), "{accepted:?}");
    assert!(accepted.iter().all(|&bytes| bytes <= said), "{accepted:?} bytes, and the plan says {said}");
}
