//! The command line of the coordinator.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use aim_coordinator::clock::{Clock, SystemClock};
use aim_coordinator::config::Config;
use aim_coordinator::{host_commands, log, private_memory, serve};
use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

/// A setting, a file or a port that the operator has to mend (EX_CONFIG); systemd does not restart on it.
const EX_CONFIG: u8 = 78;
/// A fault of ours (EX_SOFTWARE); systemd restarts on it.
const EX_SOFTWARE: u8 = 70;
/// After the death of a task the process is gone within 5 s (QUI-14).
const AFTER_DEATH: Duration = Duration::from_secs(4);

/// The AIM coordinator.
#[derive(Debug, Parser)]
#[command(name = "aim-coordinator", version, arg_required_else_help = true)]
struct Cli {
    /// Configuration file.
    #[arg(long, global = true, env = "AIM_COORDINATOR_CONFIG")]
    config: Option<PathBuf>,
    /// Prints the default configuration and ends.
    #[arg(long)]
    print_default_config: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the coordinator.
    Serve {
        /// File (0600) that gets the first password of admin instead of the terminal.
        #[arg(long)]
        initial_password_file: Option<PathBuf>,
    },
    /// Looks at the configuration.
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// The Salt master's public key, which enrolment hands to nodes.
    SaltKey {
        #[command(subcommand)]
        command: SaltKeyCommand,
    },
    /// Ends a node's identity, with or without a running coordinator.
    Revoke {
        /// Id or name of the node.
        node: String,
        /// Why; kept in the audit trail.
        #[arg(long)]
        reason: String,
    },
    /// Looks at the audit trail.
    Audit {
        #[command(subcommand)]
        command: AuditCommand,
    },
    /// Helps a user who cannot log in.
    User {
        #[command(subcommand)]
        command: UserCommand,
    },
}

#[derive(Debug, Subcommand)]
enum SaltKeyCommand {
    /// Imports the key; prints its fingerprint, to be compared with that of the master.
    Import {
        /// PEM file (`/etc/salt/pki/master/master.pub`).
        file: PathBuf,
        /// Takes the place of a different key.
        #[arg(long)]
        replace: bool,
    },
}

#[derive(Debug, Subcommand)]
enum AuditCommand {
    /// Checks that no record was changed, removed or put in; ends with 1 where one was.
    Verify,
}

#[derive(Debug, Subcommand)]
enum UserCommand {
    /// Gives the user a new random password, shown once, enables it and ends its sessions.
    ResetPassword {
        /// The user's name.
        username: String,
    },
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Reads the configuration and says what is wrong with it.
    Check,
}

fn main() -> ExitCode {
    // Before anything secret is read; `serve` says later what the system did not allow.
    let not_private = private_memory::keep();
    match run(Cli::parse(), &not_private) {
        Ok(code) => code,
        Err(error) => fail(EX_SOFTWARE, &format!("{error:#}")),
    }
}

#[expect(clippy::print_stderr, reason = "the program's last words are for the terminal")]
fn fail(code: u8, message: &str) -> ExitCode {
    eprintln!("aim-coordinator: {message}");
    ExitCode::from(code)
}

#[expect(clippy::print_stdout, reason = "output of a command")]
fn run(cli: Cli, not_private: &[String]) -> anyhow::Result<ExitCode> {
    if cli.print_default_config {
        print!("{}", Config::print_default()?);
        return Ok(ExitCode::SUCCESS);
    }
    let mut config = match Config::load(cli.config.as_deref()) {
        Ok(config) => config,
        Err(error) => return Ok(fail(EX_CONFIG, &error.to_string())),
    };
    match cli.command {
        None => Ok(fail(EX_CONFIG, "say what to do: see --help")),
        Some(Command::Config { command: ConfigCommand::Check }) => {
            println!("the configuration is usable");
            Ok(ExitCode::SUCCESS)
        }
        Some(Command::Serve { initial_password_file }) => {
            config.auth.initial_password_file = initial_password_file.or(config.auth.initial_password_file);
            serve_until_signal(config, not_private)
        }
        Some(Command::SaltKey { command: SaltKeyCommand::Import { file, replace } }) => {
            let now = SystemClock::new().now();
            let key = block_on(host_commands::salt_key_import(&config, &file, replace, now))?;
            println!("imported {}", key.fingerprint);
            Ok(ExitCode::SUCCESS)
        }
        Some(Command::Revoke { node, reason }) => {
            let revoked = block_on(host_commands::revoke(&config, node, reason))?;
            println!("revoked {}; live sessions cut: {}", revoked.node_id, revoked.sessions_closed);
            Ok(ExitCode::SUCCESS)
        }
        Some(Command::Audit { command: AuditCommand::Verify }) => {
            let verification = block_on(host_commands::audit_verify(&config))?;
            println!("{}", verification.detail);
            Ok(if verification.intact { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Some(Command::User { command: UserCommand::ResetPassword { username } }) => {
            let now = SystemClock::new().now();
            let password = block_on(host_commands::reset_password(&config, &username, now))?;
            println!("user={username} password={} (shown this once)", *password);
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Runs a command that ends by itself.
fn block_on<T>(command: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(command)
}

fn serve_until_signal(config: Config, not_private: &[String]) -> anyhow::Result<ExitCode> {
    let log = match log::start(&config.log.filter) {
        Ok(log) => log,
        Err(error) => return Ok(fail(EX_CONFIG, &error)),
    };
    // Not by `fail`: a reader that does not read must not keep a dead coordinator from ending.
    let end = |code, reason: &str| {
        log.last_words(reason);
        Ok(ExitCode::from(code))
    };
    for reason in not_private {
        tracing::warn!("{reason}");
    }
    raise_descriptor_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut running = match serve::start(config).await {
            Ok(running) => running,
            Err(error) => return end(EX_CONFIG, &error.to_string()),
        };
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
        let died = tokio::select! {
            died = running.first_death() => Some(died),
            _ = terminate.recv() => None,
            _ = interrupt.recv() => None,
        };
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
        // Half alive is worse than gone: what does not end with the dead task in time is left to the process's end.
        let limit = died.is_some().then_some(AFTER_DEATH);
        tokio::select! {
            () = running.shutdown() => {}
            () = async { tokio::time::sleep(limit.unwrap_or_default()).await }, if limit.is_some() => {}
            // A second signal does not wait.
            _ = terminate.recv() => return end(EX_SOFTWARE, "stopped at once by a second signal"),
            _ = interrupt.recv() => return end(EX_SOFTWARE, "stopped at once by a second signal"),
        }
        match died {
            Some(died) => end(EX_SOFTWARE, &died.to_string()),
            None => Ok(ExitCode::SUCCESS),
        }
    })
}

/// Each connection takes a descriptor, and the usual limit of 1,024 is below the server's own of 4,096 (API-01).
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::warn!(%error, "the limit of open files could not be raised");
    }
}
