//! The command line of EventStreamCore.

mod cli;

fn main() -> std::process::ExitCode {
    cli::run()
}
