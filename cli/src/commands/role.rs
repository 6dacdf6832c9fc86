//! `aimctl role`: named sets of permissions.

use aim_common::api::roles::{PutRoleRequest, Role};
use aim_common::permission::Permission;
use reqwest::Method;

use crate::client::Route;
use crate::context::{Context, confirm};
use crate::error::CliError;
use crate::output::{self, Cell, Column, Listed};

/// What can be done with roles.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum RoleCommand {
    /// List roles
    List,
    /// Show one role's permissions
    Show {
        /// Its name
        name: String,
    },
    /// Create or replace a role; you must hold all that it grants
    #[command(after_help = "\
A permission is resource:verb:scope; * is a whole segment, the scope is *, own or group:NAME.
Example: aimctl role put lab1-operator hosts:read:* hosts:update:group:lab1")]
    Put {
        /// Its name
        name: String,
        /// What it grants
        #[arg(required = true, value_name = "PERMISSION")]
        permissions: Vec<Permission>,
    },
    /// Delete a role
    Delete {
        /// Its name
        name: String,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
}

impl Listed for Role {
    const COLUMNS: &'static [Column<Self>] = &[
        Column::always("NAME", |role, _| Cell::new(&role.name)),
        Column::if_room(1, "KIND", |role, _| Cell::new(if role.template { "template" } else { "own" })),
        Column::always("PERMISSIONS", |role, _| Cell::new(permissions(role))),
    ];

    fn name(&self) -> String {
        self.name.clone()
    }
}

fn permissions(role: &Role) -> String {
    role.permissions.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

/// Runs it.
pub(crate) async fn run(context: &Context, command: RoleCommand) -> Result<(), CliError> {
    let client = context.client().await?;
    match command {
        RoleCommand::List => {
            let rows = client.whole_list(Route::v1(["roles"])).await?;
            context.output.list::<Role>(rows, Context::view(&client))
        }
        RoleCommand::Show { name } => {
            let role = client.get(Route::v1(["roles", &name])).await?;
            context.output.one::<Role>(
                role,
                |role| role.name.clone(),
                |role| {
                    let mut lines = String::new();
                    for permission in &role.permissions {
                        lines.push_str(Cell::new(permission.to_string()).text());
                        lines.push('\n');
                    }
                    lines
                },
            )
        }
        RoleCommand::Put { name, permissions } => {
            let request = PutRoleRequest { permissions };
            client.change(Method::PUT, Route::v1(["roles", &name]), Some(&request)).await?;
            output::note(&format!("role {name} is in force"));
            Ok(())
        }
        RoleCommand::Delete { name, yes } => {
            confirm(yes, &format!("role {name} will be deleted"))?;
            client.delete(Route::v1(["roles", &name])).await?;
            output::note(&format!("role {name} is deleted"));
            Ok(())
        }
    }
}
