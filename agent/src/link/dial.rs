//! One attempt at a session, and one that runs beside a session which serves meanwhile.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use quinn::Endpoint;

use super::connection::{LinkError, Opened, connect};
use super::{HelloFacts, Trouble, transport};
use crate::clock::SharedClock;
use crate::identity::Identity;

/// A session with the pair it was opened with.
pub(super) struct Dialled {
    pub(super) endpoint: Endpoint,
    pub(super) opened: Opened,
    pub(super) identity: Arc<Identity>,
    /// The pair is a renewed one, which is proven by this.
    pub(super) is_next: bool,
}

/// Dials one address with one pair, up to Welcome.
pub(super) async fn dial(
    address: SocketAddr,
    identity: Arc<Identity>,
    is_next: bool,
    facts: HelloFacts,
    clock: SharedClock,
) -> Result<Dialled, LinkError> {
    let local = |error: &dyn std::fmt::Display| LinkError::new(Trouble::Local, format!("{address}: {error}"));
    let config = transport::client_config(&identity).map_err(|error| local(&error))?;
    let socket = transport::client_socket(address).map_err(|error| local(&error))?;
    let endpoint = transport::endpoint(socket).map_err(|error| local(&error))?;
    let name = identity.trust_domain.coordinator_server_name();
    let opened = connect(&endpoint, config, address, &name, &facts, clock.now()).await?;
    Ok(Dialled { endpoint, opened, identity, is_next })
}

type Dialling = Pin<Box<dyn Future<Output = Result<Dialled, LinkError>> + Send>>;

/// The session that shall take over from the one that serves, so that the node is never away between the two.
#[derive(Default)]
pub(super) struct Successor(Option<Dialling>);

impl Successor {
    /// Dials; what was being dialled is given up.
    pub(super) fn begin(
        &mut self,
        dialling: impl Future<Output = Result<Dialled, LinkError>> + Send + 'static,
    ) {
        self.0 = Some(Box::pin(dialling));
    }

    /// It is being dialled.
    pub(super) const fn is_under_way(&self) -> bool {
        self.0.is_some()
    }

    /// The session, or why there is none; never, while nothing is dialled. Cancel-safe.
    pub(super) async fn dialled(&mut self) -> Result<Dialled, LinkError> {
        let Some(dialling) = &mut self.0 else { return std::future::pending().await };
        let dialled = dialling.await;
        self.0 = None;
        dialled
    }
}
