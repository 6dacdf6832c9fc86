//! The command line.

use clap::{Parser, Subcommand};

use crate::commands::{
    approval, audit, cert, event, fence, login, node, role, salt_key, session, shell, token, user, version,
};
use crate::error::EXIT_CODES;
use crate::output::{ColorChoice, Format};

/// The command line client of AIM: nodes, enrolment, users and audit of one coordinator.
#[derive(Debug, Parser)]
#[command(
    name = "aimctl",
    version,
    propagate_version = true,
    subcommand_required = true,
    arg_required_else_help = true,
    max_term_width = 110,
    after_help = EXIT_CODES,
    after_long_help = format!("{EXAMPLES}\n{EXIT_CODES}")
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  aimctl login https://aim.example:8443 --root-sha256 5f2c…   log in, trusting AIM's own CA by its pin
  aimctl node list                                            every node, its presence and how it does
  aimctl node list --fold                                     the same as folded host lists
  aimctl node watch gpu001                                    one node, live
  aimctl token create --node gpu001 --join-file gpu001.join   a join string for a new node
  aimctl token create --on 'gpu[001-128]' --join-file joins/  one for each of a host list
  aimctl event list --severity critical --since 1d            what broke since yesterday

Files:
  ~/.config/aim/config.toml             profiles: address and trust of each coordinator
  ~/.config/aim/credentials/NAME.json   the session of a profile, mode 0600

Environment:
  AIM_PROFILE     the profile, as --profile
  AIM_CONFIG_DIR  the folder of the files above
  NO_COLOR        no colour
";

/// Options of every command.
#[derive(Debug, clap::Args)]
pub(crate) struct Global {
    /// Which coordinator, by the name given at login [default: the one logged in to last]
    #[arg(long, global = true, env = "AIM_PROFILE", value_name = "NAME", help_heading = "Global options")]
    pub(crate) profile: Option<String>,
    /// How results are shown
    #[arg(
        short,
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "FORMAT",
        help_heading = "Global options"
    )]
    pub(crate) output: Format,
    /// Colour in tables
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "WHEN",
        help_heading = "Global options"
    )]
    pub(crate) color: ColorChoice,
}

/// The nouns.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Log in to a coordinator; the password is asked for, or read from a file
    Login(login::LoginArgs),
    /// End the session
    Logout,
    /// Show who is logged in, with which permissions
    Whoami,
    /// Nodes: what they are, how they do, their labels and identities
    #[command(subcommand, visible_alias = "nodes")]
    Node(node::NodeCommand),
    /// Enrolment tokens
    #[command(subcommand, visible_alias = "tokens")]
    Token(token::TokenCommand),
    /// Nodes that ask to be approved
    #[command(subcommand, visible_alias = "approvals")]
    Approval(approval::ApprovalCommand),
    /// Certificates of nodes, and the CA
    #[command(subcommand, visible_alias = "certs")]
    Cert(cert::CertCommand),
    /// Users
    #[command(subcommand, visible_alias = "users")]
    User(user::UserCommand),
    /// Roles: named sets of permissions
    #[command(subcommand, visible_alias = "roles")]
    Role(role::RoleCommand),
    /// Sessions of users
    #[command(subcommand, visible_alias = "sessions")]
    Session(session::SessionCommand),
    /// Events: what happened, when, to which node
    #[command(subcommand, visible_alias = "events")]
    Event(event::EventCommand),
    /// The audit trail: who did what
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// The fence that a restored database puts up: no enrolment until an operator decides
    #[command(subcommand)]
    Fence(fence::FenceCommand),
    /// The Salt master's public key that the KeyVault hands out
    #[command(subcommand)]
    SaltKey(salt_key::SaltKeyCommand),
    /// Versions and degraded modes of the coordinator
    Version(version::VersionArgs),
    /// Write the completion script of a shell
    #[command(after_help = "Example: aimctl completions bash > /etc/bash_completion.d/aimctl")]
    Completions(shell::CompletionsArgs),
    /// Write the manual pages
    #[command(after_help = "Example: aimctl man | man -l -")]
    Man(shell::ManArgs),
}
