//! `aimctl audit`: who did what.

use aim_common::api::audit::{AuditRecordView, AuditVerification};

use crate::client::Route;
use crate::context::Context;
use crate::error::CliError;
use crate::output::{Cell, Column, Listed, Tone, text, typed};

/// What can be done with the audit trail.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum AuditCommand {
    /// List records, newest first
    #[command(after_help = "Example: aimctl audit list --action node.revoke --limit 20")]
    List {
        /// Of this actor only, such as user:zhang
        #[arg(long)]
        actor: Option<String>,
        /// Of this action only, such as node.revoke
        #[arg(long)]
        action: Option<String>,
        /// With this decision only: allowed, denied or failed
        #[arg(long)]
        decision: Option<String>,
        /// At most so many
        #[arg(short = 'n', long, default_value_t = 100, value_name = "N")]
        limit: usize,
    },
    /// Check the hash chain; exit code 1 where a record was changed, removed or moved
    Verify,
}

impl Listed for AuditRecordView {
    const COLUMNS: &'static [Column<Self>] = &[
        Column::always("SEQ", |record, _| Cell::new(record.sequence.to_string())),
        Column::if_room(2, "AT", |record, _| Cell::new(record.at.to_rfc3339())),
        Column::if_room(4, "AGE", |record, view| Cell::new(text::ago(record.at, view.now))),
        Column::always("ACTOR", |record, _| Cell::new(&record.actor)),
        Column::always("ACTION", |record, _| Cell::new(&record.action)),
        Column::always("DECISION", |record, _| {
            let tone = if record.decision == "allowed" { Tone::Plain } else { Tone::Warn };
            Cell::new(&record.decision).tone(tone)
        }),
        Column::if_room(3, "FROM", |record, _| Cell::or_none(present(&record.source))),
        Column::wide("REQUEST", |record, _| Cell::or_none(present(&record.request_id))),
        Column::wide("DETAIL", |record, _| Cell::new(record.detail.to_string())),
        Column::always("TARGET", |record, _| Cell::or_none(present(&record.target))),
    ];

    fn name(&self) -> String {
        self.sequence.to_string()
    }
}

fn present(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

/// Runs it.
pub(crate) async fn run(context: &Context, command: AuditCommand) -> Result<(), CliError> {
    let client = context.client().await?;
    match command {
        AuditCommand::List { actor, action, decision, limit } => {
            let route = Route::v1(["audit"])
                .query_some("actor", actor)
                .query_some("action", action)
                .query_some("decision", decision);
            let rows = client.list(route, Some(limit)).await?;
            context.output.list::<AuditRecordView>(rows, Context::view(&client))
        }
        AuditCommand::Verify => {
            let answer = client.get(Route::v1(["audit", "verify"])).await?;
            let verification: AuditVerification = typed(answer.clone())?;
            context.output.one::<AuditVerification>(
                answer,
                |verification| verification.checked.to_string(),
                |verification| format!("{}\n", Cell::new(&verification.detail).text()),
            )?;
            if verification.intact {
                Ok(())
            } else {
                Err(CliError::Failed(
                    "the audit trail is damaged; keep the database as it is and find out why".to_owned(),
                ))
            }
        }
    }
}
