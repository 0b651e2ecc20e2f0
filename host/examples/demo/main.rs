//! The main job on real input: publishes a log through three nodes, kills their leader on the way, and compares what
//! each node holds with the input, line by line. `make demo` runs it.
//!
//! A program and not a script around the command line, because it has to see every acknowledgement: the leader is to be
//! killed between 30 and 70 % of them, with publishes in flight, and the outage is measured from the kill to the first
//! acknowledgement of the next leader.

mod input;
mod nodes;
mod publish;
mod read_back;

use eventstream_host::clock::Clock;
use input::Input;
use nodes::Nodes;
use std::process::ExitCode;

type Error = Box<dyn core::error::Error>;

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = runtime.map_err(Error::from).and_then(|runtime| runtime.block_on(demo()));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: FAILED: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn demo() -> Result<(), Error> {
    let clock = Clock::start();
    let input = Input::choose(std::env::args_os().nth(1).map(Into::into))?;
    println!("input: {input}");

    let mut nodes = Nodes::start(3).await?;
    println!("data:  {}", nodes.dir().display());
    let leader = nodes.wait_for_leader(clock).await?;
    println!("three nodes run, node {leader} leads");

    let published = publish::publish(clock, &input, &mut nodes).await?;
    println!("{published}");

    nodes.restart(published.killed())?;
    nodes.wait_until_equal(clock).await?;
    println!("node {} runs again and has caught up: all nodes have the same state", published.killed());

    let verdict = read_back::compare(&input, &nodes).await?;
    nodes.stop().await?;
    println!("\n{verdict}");
    let (events, held_by) = (input.lines.len(), nodes.addresses().len());
    let (doubled, lost, disordered) = (verdict.doubled(), verdict.lost(), verdict.disordered());
    println!(
        "events   {events}, each on {held_by} nodes; duplicates {doubled}, losses {lost}, out of order {disordered}"
    );
    println!(
        "outage   {:.1} ms, from SIGKILL to the first event that the next leader acknowledged",
        published.outage_ms
    );
    println!("data     {} (remove it when you have seen it)", nodes.dir().display());
    if verdict.is_perfect() { Ok(()) } else { Err("what the nodes hold is not what was published".into()) }
}
