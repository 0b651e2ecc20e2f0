//! One binary for everything: each command in a file of its own.

mod bench;
mod cluster;
mod init;
mod node;
mod output;
mod progress;
mod publish;
mod status;
mod subscribe;
mod verify;

use clap::{Parser, Subcommand};
use core::fmt;
use core::time::Duration;
use eventstream_host::client::{Client, ConnectError, Options};
use eventstream_host::tls::{Credential, Tls, TlsFiles};
use output::Output;
use std::path::PathBuf;
use std::process::ExitCode;

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed: the message says what failed, and what to do
  2  the command or a configuration is wrong; nothing was done
  3  the cluster cannot be reached
  4  partly done, or the outcome is unknown: the message says how to go on";

/// EventStreamCore: a replicated event log for places without an operations team.
#[derive(Debug, Parser)]
#[command(name = "eventstream", version, after_help = EXIT_CODES)]
struct Cli {
    /// Print results as JSON, one object per line.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Init(init::Args),
    Node(node::Args),
    Cluster(cluster::Args),
    Publish(publish::Args),
    Subscribe(subscribe::Args),
    Status(status::Args),
    Bench(bench::Args),
    Verify(verify::Args),
}

/// The nodes of a local cluster, where no servers are named.
const DEFAULT_SERVERS: &str = "127.0.0.1:9001,127.0.0.1:9002,127.0.0.1:9003";

/// The servers of a client's command.
#[derive(Debug, clap::Args)]
struct Servers {
    /// Nodes of the cluster, HOST:PORT. One is enough to publish; a subscription reads from these alone
    #[arg(
        long,
        value_name = "A,B,C",
        env = "EVENTSTREAM_SERVERS",
        value_delimiter = ',',
        default_value = DEFAULT_SERVERS
    )]
    servers: Vec<String>,
    /// Seconds to wait for an answer
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    patience: u64,
    #[command(flatten)]
    secrets: Secrets,
}

impl Servers {
    /// The client of these servers.
    fn client(&self) -> Result<Client, Failure> {
        Ok(Client::connect_with(&self.servers, self.options()?)?)
    }

    /// How it behaves.
    fn options(&self) -> Result<Options, Failure> {
        Ok(Options { tls: self.secrets.load()?, ..Options::patient(self.patience()) })
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(self.patience)
    }
}

/// What a client's command needs where the nodes speak TLS.
#[derive(Debug, clap::Args)]
struct Secrets {
    /// The certificate of the cluster's authority: connect with TLS
    #[arg(long, value_name = "FILE", env = "EVENTSTREAM_CA", help_heading = "TLS")]
    ca: Option<PathBuf>,
    /// A certificate of the authority, to be let in with
    #[arg(long, value_name = "FILE", env = "EVENTSTREAM_CERT", help_heading = "TLS")]
    cert: Option<PathBuf>,
    /// Its key
    #[arg(long, value_name = "FILE", env = "EVENTSTREAM_KEY", help_heading = "TLS")]
    key: Option<PathBuf>,
    /// A file that holds the cluster's token, to be let in with instead of a certificate
    #[arg(long, value_name = "FILE", env = "EVENTSTREAM_TOKEN_FILE", help_heading = "TLS")]
    token_file: Option<PathBuf>,
}

impl Secrets {
    fn load(&self) -> Result<Option<Tls>, Failure> {
        let usage = |words| Err(Failure::usage(words));
        let Self { ca, cert, key, token_file } = self;
        let credential = match (cert.clone(), key.clone(), token_file.clone()) {
            (None, None, None) => None,
            (Some(certificate), Some(key), None) => Some(Credential::Certificate { certificate, key }),
            (None, None, Some(token)) => Some(Credential::Token(token)),
            (_, _, None) => return usage("--cert and --key belong together: give both"),
            (_, _, Some(_)) => return usage("give --cert and --key, or --token-file, and not both"),
        };
        match (ca.clone(), credential) {
            (None, None) => Ok(None),
            (Some(ca), Some(credential)) => Tls::load(&TlsFiles { ca, credential }).map(Some).map_err(Failure::usage),
            (Some(_), None) => usage("--ca alone lets nobody in: give --cert and --key, or --token-file"),
            (None, Some(_)) => usage("a certificate or a token is shown over TLS only: give --ca too"),
        }
    }
}

/// What a process ends with when it was not done. The numbers are documented in [`EXIT_CODES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exit {
    Failed = 1,
    Usage = 2,
    Unreachable = 3,
    Unknown = 4,
}

/// Why a command was not done, and what to do.
#[derive(Debug)]
struct Failure {
    exit: Exit,
    message: String,
}

impl Failure {
    fn new(exit: Exit, message: impl fmt::Display) -> Self {
        Self { exit, message: message.to_string() }
    }

    fn failed(message: impl fmt::Display) -> Self {
        Self::new(Exit::Failed, message)
    }

    fn usage(message: impl fmt::Display) -> Self {
        Self::new(Exit::Usage, message)
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        Self::usage(error)
    }
}

/// Standard output is gone: whoever read it has seen enough. Anything else about it is a failure.
impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::failed(format_args!("standard output: {error}"))
    }
}

/// Runs the command of this process's arguments.
pub(crate) fn run() -> ExitCode {
    let cli = Cli::parse();
    let output = Output::new(cli.json);
    let result = match cli.command {
        Command::Init(args) => init::run(&args, output),
        Command::Node(args) => node::run(args, output),
        Command::Cluster(args) => cluster::run(&args, output),
        Command::Publish(args) => publish::run(&args, output),
        Command::Subscribe(args) => subscribe::run(&args, output),
        Command::Status(args) => status::run(&args, output),
        Command::Bench(args) => bench::run(&args, output),
        Command::Verify(args) => verify::run(&args, output),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output.failure(&failure);
            ExitCode::from(failure.exit as u8)
        }
    }
}

/// Runs a client's command: everything on one thread.
fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Failure::failed(format_args!("no runtime: {error}")))?.block_on(work)
}
