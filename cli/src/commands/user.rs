//! `aimctl user`.

use std::path::PathBuf;

use aim_common::api::auth::ChangePasswordRequest;
use aim_common::api::users::{CreateUserRequest, UpdateUserRequest, User};
use reqwest::Method;

use crate::client::{Client, Route};
use crate::context::{Context, confirm, read_password};
use crate::error::CliError;
use crate::output::{self, Cell, Column, Listed, Tone, text};

/// What can be done with users.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum UserCommand {
    /// List users
    List,
    /// Create a user; the password is asked for, or read from a file
    #[command(after_help = "Example: aimctl user create zhang --role sre --group lab1")]
    Create {
        /// User name: 1 to 64 of a-z 0-9 . _ -
        name: String,
        /// Role to give; may be repeated
        #[arg(long = "role", value_name = "ROLE")]
        roles: Vec<String>,
        /// Group to put the user in; may be repeated
        #[arg(long = "group", value_name = "GROUP")]
        groups: Vec<String>,
        /// Read the password from the first line of this file; - is standard input
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
    },
    /// Change roles or groups, disable or enable; what is not given stays
    Update(UpdateArgs),
    /// Delete a user; ends all sessions of the user
    Delete {
        /// User name
        name: String,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
    /// Set a password: your own, or as administrator another user's
    Password {
        /// User name [default: yourself]
        name: Option<String>,
        /// Read the new password from the first line of this file; - is standard input
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
        /// Read your present password from the first line of this file
        #[arg(long, value_name = "FILE", conflicts_with = "name")]
        current_password_file: Option<PathBuf>,
    },
}

/// Arguments of `user update`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  aimctl user update zhang --role sre --role engineer   these roles from now on
  aimctl user update zhang --no-roles
  aimctl user update zhang --disable                    all sessions of the user end at once")]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub(crate) struct UpdateArgs {
    /// User name
    name: String,
    /// All roles from now on; may be repeated
    #[arg(long = "role", value_name = "ROLE")]
    roles: Vec<String>,
    /// No role from now on
    #[arg(long, conflicts_with = "roles")]
    no_roles: bool,
    /// All groups from now on; may be repeated
    #[arg(long = "group", value_name = "GROUP")]
    groups: Vec<String>,
    /// No group from now on
    #[arg(long, conflicts_with = "groups")]
    no_groups: bool,
    /// Let the user log in again
    #[arg(long)]
    enable: bool,
    /// End all sessions and let the user not log in
    #[arg(long, conflicts_with = "enable")]
    disable: bool,
}

impl Listed for User {
    const COLUMNS: &'static [Column<Self>] = &[
        Column::always("NAME", |user, _| Cell::new(&user.username)),
        Column::always("STATE", |user, _| {
            if user.enabled { Cell::new("enabled") } else { Cell::new("disabled").tone(Tone::Warn) }
        }),
        Column::always("ROLES", |user, _| Cell::or_none(non_empty(&user.roles))),
        Column::if_room(1, "GROUPS", |user, _| Cell::or_none(non_empty(&user.groups))),
        Column::if_room(2, "LAST LOGIN", |user, view| {
            Cell::or_none(user.last_login_at.map(|at| text::ago(at, view.now)))
        }),
        Column::wide("CREATED", |user, _| Cell::new(user.created_at.to_rfc3339())),
        Column::wide("ID", |user, _| Cell::new(user.id.to_string())),
    ];

    fn name(&self) -> String {
        self.username.clone()
    }
}

fn non_empty(words: &[String]) -> Option<String> {
    (!words.is_empty()).then(|| words.join(","))
}

/// Runs it.
pub(crate) async fn run(context: &Context, command: UserCommand) -> Result<(), CliError> {
    let client = context.client().await?;
    match command {
        UserCommand::List => {
            let rows = client.list(Route::v1(["users"]), None).await?;
            context.output.list::<User>(rows, Context::view(&client))
        }
        UserCommand::Create { name, roles, groups, password_file } => {
            let prompt = format!("Password of the new user {name} (12 to 72 bytes): ");
            let password = read_password(password_file.as_deref(), &prompt, true)?;
            let request = CreateUserRequest { username: name.clone(), password, roles, groups };
            client.change(Method::POST, Route::v1(["users"]), Some(&request)).await?;
            output::note(&format!("user {name} is created"));
            Ok(())
        }
        UserCommand::Update(args) => update(&client, args).await,
        UserCommand::Delete { name, yes } => {
            confirm(yes, &format!("user {name} will be deleted"))?;
            client.delete(Route::v1(["users", &name])).await?;
            output::note(&format!("user {name} is deleted"));
            Ok(())
        }
        UserCommand::Password { name: Some(name), password_file, .. } => {
            let prompt = format!("New password of {name} (12 to 72 bytes): ");
            let password = read_password(password_file.as_deref(), &prompt, true)?;
            let request = UpdateUserRequest { password: Some(password), ..UpdateUserRequest::default() };
            client.change(Method::PATCH, Route::v1(["users", &name]), Some(&request)).await?;
            output::note(&format!("the password of {name} is set; all sessions of {name} have ended"));
            Ok(())
        }
        UserCommand::Password { name: None, password_file, current_password_file } => {
            let current = read_password(current_password_file.as_deref(), "Your present password: ", false)?;
            let new = read_password(password_file.as_deref(), "Your new password (12 to 72 bytes): ", true)?;
            let request = ChangePasswordRequest { current_password: current, new_password: new };
            client.change(Method::POST, Route::v1(["auth", "password"]), Some(&request)).await?;
            output::note("your password is changed");
            Ok(())
        }
    }
}

async fn update(client: &Client, args: UpdateArgs) -> Result<(), CliError> {
    let all = |words: Vec<String>, none: bool| (none || !words.is_empty()).then_some(words);
    let request = UpdateUserRequest {
        password: None,
        roles: all(args.roles, args.no_roles),
        groups: all(args.groups, args.no_groups),
        enabled: if args.enable { Some(true) } else { args.disable.then_some(false) },
    };
    if request.roles.is_none() && request.groups.is_none() && request.enabled.is_none() {
        return Err(CliError::Usage("nothing to change was given; see aimctl user update --help".to_owned()));
    }
    client.change(Method::PATCH, Route::v1(["users", &args.name]), Some(&request)).await?;
    output::note(&format!("user {} is changed", args.name));
    Ok(())
}
