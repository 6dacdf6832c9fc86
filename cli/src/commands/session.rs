//! `aimctl session`: who is logged in where.

use aim_common::api::auth::Session;

use crate::client::Route;
use crate::context::Context;
use crate::error::CliError;
use crate::output::{self, Cell, Column, Listed, Tone, text};

/// What can be done with sessions.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum SessionCommand {
    /// List your open sessions
    List {
        /// Of all users
        #[arg(long)]
        all: bool,
    },
    /// End sessions at once
    Revoke {
        /// Ids, as the list shows them
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
    },
}

impl Listed for Session {
    const COLUMNS: &'static [Column<Self>] = &[
        Column::always("ID", |session, _| Cell::new(&session.id)),
        Column::always("USER", |session, _| {
            let cell = Cell::new(&session.username);
            if session.current { cell.tone(Tone::Good) } else { cell }
        }),
        Column::if_room(1, "FROM", |session, _| Cell::new(&session.source)),
        Column::if_room(2, "AGE", |session, view| Cell::new(text::ago(session.created_at, view.now))),
        Column::if_room(3, "REFRESHED", |session, view| Cell::new(text::ago(session.refreshed_at, view.now))),
        Column::if_room(4, "LEFT", |session, view| Cell::new(text::until(session.expires_at, view.now))),
        Column::if_room(
            5,
            "CURRENT",
            |session, _| if session.current { Cell::new("yes") } else { Cell::none() },
        ),
    ];

    fn name(&self) -> String {
        self.id.clone()
    }
}

/// Runs it.
pub(crate) async fn run(context: &Context, command: SessionCommand) -> Result<(), CliError> {
    let client = context.client().await?;
    match command {
        SessionCommand::List { all } => {
            let route = Route::v1(["sessions"]).query_some("all", all.then_some("true"));
            let rows = client.whole_list(route).await?;
            context.output.list::<Session>(rows, Context::view(&client))
        }
        SessionCommand::Revoke { ids } => {
            for id in ids {
                client.delete(Route::v1(["sessions", &id])).await?;
                output::note(&format!("session {id} has ended"));
            }
            Ok(())
        }
    }
}
