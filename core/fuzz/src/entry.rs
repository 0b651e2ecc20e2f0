//! Payloads of entries that are no batches: commands and configurations.

use super::Decoder;
use eventstream_core::id::{Incarnation, NodeId, ProducerId};
use eventstream_core::raft::{Configuration, MAX_CONFIGURATION_LEN, Member};
use eventstream_core::replica::{Command, MAX_COMMAND_LEN};

/// The target.
pub const DECODER: Decoder = Decoder { name: "entry", read, seeds };

/// What is decoded can be encoded, and decodes to the same.
pub fn read(data: &[u8]) {
    if let Ok(command) = Command::decode(data) {
        let mut buffer = [0; MAX_COMMAND_LEN];
        let len = command.encode(&mut buffer);
        assert_eq!(Command::decode(&buffer[..len]), Ok(command));
    }
    if let Ok(configuration) = Configuration::decode(data) {
        let encoded = encoded(&configuration);
        assert_eq!(Configuration::decode(&encoded), Ok(configuration));
        assert!(configuration.incoming().count() > 0 && !configuration.to_string().is_empty());
    }
}

fn encoded(configuration: &Configuration) -> Vec<u8> {
    let mut buffer = [0; MAX_CONFIGURATION_LEN];
    let len = configuration.encode(&mut buffer);
    buffer[..len].to_vec()
}

/// Configurations of one and of three members, without and with a witness.
pub fn configurations() -> Vec<Vec<u8>> {
    let members = [1, 2, 300].map(|node| Member { node: NodeId(node), incarnation: Incarnation([node as u8; 16]) });
    let of = |count: usize| Configuration::new(&members[..count]).expect("members with ids of their own");
    let with_witness = of(3).with_witness(NodeId(300)).expect("two disks beside it");
    [of(1), of(3), with_witness].iter().map(encoded).collect()
}

/// A command that opens a producer.
pub fn command(producer: u8) -> Vec<u8> {
    let mut buffer = [0; MAX_COMMAND_LEN];
    let len = Command::OpenProducer { producer: ProducerId([producer; 16]) }.encode(&mut buffer);
    buffer[..len].to_vec()
}

/// Both kinds.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = configurations();
    seeds.push(command(5));
    seeds
}
