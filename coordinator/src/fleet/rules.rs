//! Which kind of message may travel in which direction on which stream (IDN-03). The match has no default: a new kind
//! does not compile without its row.

use aim_common::protocol::Kind;

/// What a stream is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Role {
    /// Hello, Welcome, acknowledgements: bidirectional, one in a session.
    Control,
    /// Reports: unidirectional, one in a session.
    Samples,
    /// Events and inventory: unidirectional, one in a session.
    Durable,
    /// One request for a certificate and its answer: bidirectional.
    Renewal,
}

impl Role {
    /// The agent opens it with both directions.
    pub(super) const fn is_bidirectional(self) -> bool {
        matches!(self, Self::Control | Self::Renewal)
    }
}

/// Who may send a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sender {
    /// The node's agent, about itself only: no message names a node.
    Agent,
    /// The coordinator; from an agent it is a violation.
    Coordinator,
    /// Both.
    Either,
}

/// The row of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rule {
    /// The stream it travels on.
    pub role: Role,
    /// Who may send it.
    pub sender: Sender,
}

/// The table.
pub(super) const fn rule(kind: Kind) -> Rule {
    let (role, sender) = match kind {
        Kind::Hello => (Role::Control, Sender::Agent),
        Kind::Welcome | Kind::Ack | Kind::LiveMode => (Role::Control, Sender::Coordinator),
        Kind::Goodbye => (Role::Control, Sender::Either),
        Kind::SeriesTable
        | Kind::GaugeReport
        | Kind::NodeConditions
        | Kind::GpuProcesses
        | Kind::PathLoss => (Role::Samples, Sender::Agent),
        Kind::SpoolBatch => (Role::Durable, Sender::Agent),
        Kind::RenewRequest => (Role::Renewal, Sender::Agent),
        Kind::RenewResponse => (Role::Renewal, Sender::Coordinator),
    };
    Rule { role, sender }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who may say what on which stream, as docs/protocol.md has it.
    const AGREED: &[(Kind, Role, Sender)] = &[
        (Kind::Hello, Role::Control, Sender::Agent),
        (Kind::Welcome, Role::Control, Sender::Coordinator),
        (Kind::Goodbye, Role::Control, Sender::Either),
        (Kind::Ack, Role::Control, Sender::Coordinator),
        (Kind::LiveMode, Role::Control, Sender::Coordinator),
        (Kind::SeriesTable, Role::Samples, Sender::Agent),
        (Kind::GaugeReport, Role::Samples, Sender::Agent),
        (Kind::NodeConditions, Role::Samples, Sender::Agent),
        (Kind::GpuProcesses, Role::Samples, Sender::Agent),
        (Kind::PathLoss, Role::Samples, Sender::Agent),
        (Kind::SpoolBatch, Role::Durable, Sender::Agent),
        (Kind::RenewRequest, Role::Renewal, Sender::Agent),
        (Kind::RenewResponse, Role::Renewal, Sender::Coordinator),
    ];

    #[test]
    fn idn_03_who_may_send_which_message_is_as_agreed() {
        let table: Vec<_> =
            Kind::ALL.iter().map(|kind| (*kind, rule(*kind).role, rule(*kind).sender)).collect();
        assert_eq!(table, AGREED);
    }
}
