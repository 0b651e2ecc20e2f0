//! Prints the generated parts of `docs/protocol.md`, checks them, or writes them.

use eventstream_protocol_spec::{BLOCKS, renew};
use std::fs;
use std::process::ExitCode;

const USAGE: &str = "\
usage: eventstream-protocol-spec             print the generated tables
       eventstream-protocol-spec check FILE  is every generated part of FILE as it should be?
       eventstream-protocol-spec write FILE  put them into FILE";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments[..] {
        [] => {
            BLOCKS.iter().for_each(|block| println!("{}:\n\n{}", block.name, (block.text)()));
            Ok(())
        }
        ["check", file] => check(file),
        ["write", file] => write(file),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn check(file: &str) -> Result<(), String> {
    let (document, renewed) = read(file)?;
    if document == renewed {
        Ok(())
    } else {
        Err(format!("{file}: a generated part is stale; `eventstream-protocol-spec write {file}` renews it"))
    }
}

fn write(file: &str) -> Result<(), String> {
    let (_, renewed) = read(file)?;
    fs::write(file, renewed).map_err(|error| format!("{file}: {error}"))
}

/// The document as it is, and as it should be.
fn read(file: &str) -> Result<(String, String), String> {
    let document = fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?;
    let renewed = renew(&document).map_err(|error| format!("{file}: {error}"))?;
    Ok((document, renewed))
}
