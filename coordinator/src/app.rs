//! The object graph that handlers and tasks share.

use std::sync::Arc;

use crate::api::metrics::HttpMetrics;
use crate::audit::Audit;
use crate::auth::Auth;
use crate::clock::SharedClock;
use crate::conditions::Conditions;
use crate::config::Config;
use crate::fleet::Fleet;
use crate::inventory::Inventory;
use crate::keyvault::KeyVault;
use crate::store::Store;

/// What axum handlers get as their state.
pub type SharedApp = Arc<App>;

/// Everything that lives as long as the process. Built by `serve`, and by tests with port 0.
pub struct App {
    /// The settings.
    pub config: Arc<Config>,
    /// The clock.
    pub clock: SharedClock,
    /// The database.
    pub store: Store,
    /// The coordinator's degraded modes.
    pub conditions: Arc<Conditions>,
    /// Records refusals.
    pub audit: Arc<Audit>,
    /// Logins and sessions.
    pub auth: Auth,
    /// Tokens, certificates, identities.
    pub keyvault: Arc<KeyVault>,
    /// The nodes, their values and their history.
    pub inventory: Arc<Inventory>,
    /// The nodes' sessions.
    pub fleet: Arc<Fleet>,
    /// What the HTTP server counts.
    pub http_metrics: HttpMetrics,
}
