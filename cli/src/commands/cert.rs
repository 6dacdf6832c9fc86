//! `aimctl cert`: certificates of nodes, and the CA.

use aim_common::api::certificates::{CaCertificateView, CaView, CertificateView};

use super::node::{RevokeArgs, revoke};
use crate::client::Route;
use crate::context::Context;
use crate::error::CliError;
use crate::output::{self, Cell, Column, Listed, Tone, View, text};

/// What can be done with certificates.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum CertCommand {
    /// List certificates
    List {
        /// Of this node only, by name or id
        #[arg(long, value_name = "NODE")]
        node: Option<String>,
        /// In this state only: issued, active, superseded, revoked or expired
        #[arg(long)]
        state: Option<String>,
    },
    /// Revoke the identity of nodes, as `node revoke` does
    Revoke(RevokeArgs),
    /// Show the CA; its root's SHA-256 is the pin of `aimctl login`
    Ca {
        /// Write the roots as PEM instead
        #[arg(long)]
        pem: bool,
    },
}

impl Listed for CertificateView {
    const COLUMNS: &'static [Column<Self>] = &[
        Column::always("NODE", |certificate, _| Cell::new(certificate.node_name.as_str())),
        Column::always("STATE", |certificate, _| {
            let tone = match certificate.state.as_str() {
                "active" => Tone::Good,
                "revoked" => Tone::Bad,
                "superseded" | "expired" => Tone::Dim,
                _ => Tone::Plain,
            };
            Cell::new(&certificate.state).tone(tone)
        }),
        Column::always("LEFT", |certificate, view| Cell::new(text::until(certificate.not_after, view.now))),
        Column::if_room(1, "GENERATION", |certificate, _| Cell::new(certificate.generation.to_string())),
        Column::if_room(2, "UNTIL", |certificate, _| Cell::new(certificate.not_after.to_rfc3339())),
        Column::wide("FROM", |certificate, _| Cell::new(certificate.not_before.to_rfc3339())),
        Column::wide("KEY SHA-256", |certificate, _| Cell::new(&certificate.public_key_sha256)),
        Column::if_room(1, "SERIAL", |certificate, _| Cell::new(certificate.serial.as_str())),
    ];

    fn name(&self) -> String {
        self.serial.to_string()
    }
}

/// Runs it.
pub(crate) async fn run(context: &Context, command: CertCommand) -> Result<(), CliError> {
    let client = context.client().await?;
    match command {
        CertCommand::List { node, state } => {
            let route = Route::v1(["certificates"]).query_some("node", node).query_some("state", state);
            let rows = client.list(route, None).await?;
            context.output.list::<CertificateView>(rows, Context::view(&client))
        }
        CertCommand::Revoke(args) => revoke(context, args).await,
        CertCommand::Ca { pem } => {
            let ca = client.get(Route::v1(["ca"])).await?;
            if pem {
                let view: CaView = output::typed(ca)?;
                return output::print(&view.bundle);
            }
            let view = Context::view(&client);
            context.output.one::<CaView>(ca, |ca| ca.trust_domain.clone(), |ca| show_ca(context, ca, view))
        }
    }
}

fn show_ca(context: &Context, ca: &CaView, view: View) -> String {
    let line = |certificate: &CaCertificateView| {
        let left = text::until(certificate.not_after, view.now);
        Cell::new(format!("{} ({left} left) {}", certificate.sha256, certificate.subject))
    };
    let mut pairs = vec![("trust domain", Cell::new(&ca.trust_domain))];
    pairs.extend(ca.roots.iter().map(|root| ("root", line(root))));
    pairs.push(("issuing", line(&ca.issuing)));
    context.output.pairs(pairs)
}
