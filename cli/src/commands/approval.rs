//! `aimctl approval`: nodes that ask to be approved.

use aim_common::api::enrolment_requests::EnrolmentRequestView;
use reqwest::Method;

use crate::client::Route;
use crate::context::Context;
use crate::error::CliError;
use crate::output::{self, Cell, Column, Listed, Tone, text};

/// What can be done with requests.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum ApprovalCommand {
    /// List nodes that asked
    List,
    /// Approve a node; compare the key's SHA-256 with what `aim-agent enroll` printed on the node first
    #[command(after_help = "Example: aimctl approval approve 7")]
    Approve {
        /// Number, as the list shows it
        id: i64,
    },
    /// Refuse a node
    Reject {
        /// Number, as the list shows it
        id: i64,
    },
}

impl Listed for EnrolmentRequestView {
    const COLUMNS: &'static [Column<Self>] = &[
        Column::always("ID", |request, _| Cell::new(request.id.to_string())),
        Column::always("NODE", |request, _| Cell::new(request.node.as_str())),
        Column::always("STATE", |request, _| {
            let tone = if request.state == "pending" { Tone::Warn } else { Tone::Plain };
            Cell::new(&request.state).tone(tone)
        }),
        Column::if_room(1, "AGE", |request, view| Cell::new(text::ago(request.requested_at, view.now))),
        Column::if_room(2, "FROM", |request, _| Cell::new(&request.source)),
        Column::if_room(3, "DECIDED BY", |request, _| Cell::or_none(request.decided_by.as_ref())),
        Column::always("KEY SHA-256", |request, _| Cell::new(&request.public_key_sha256)),
        Column::wide("SAYS OF ITSELF", |request, _| Cell::new(request.inventory.to_string())),
    ];

    fn name(&self) -> String {
        self.id.to_string()
    }
}

/// Runs it.
pub(crate) async fn run(context: &Context, command: ApprovalCommand) -> Result<(), CliError> {
    let client = context.client().await?;
    let (id, verb, done) = match command {
        ApprovalCommand::List => {
            let rows = client.list(Route::v1(["enrolment-requests"]), None).await?;
            return context.output.list::<EnrolmentRequestView>(rows, Context::view(&client));
        }
        ApprovalCommand::Approve { id } => (id, "approve", "approved"),
        ApprovalCommand::Reject { id } => (id, "reject", "rejected"),
    };
    let route = Route::v1(["enrolment-requests", &id.to_string(), verb]);
    client.change(Method::POST, route, None::<&()>).await?;
    output::note(&format!("request {id} is {done}"));
    Ok(())
}
