//! `aim-coordinator serve`: sockets first, then the object graph, then the tasks; and the way back.

pub(crate) mod state_dir;

mod sockets;

use std::fs::File;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;

use self::sockets::{Plain, listener, local};
use crate::api;
use crate::api::layers::host::KnownHosts;
use crate::api::server::{HttpServer, tls};
use crate::app::{App, SharedApp};
use crate::audit::{Audit, Keeper, Witness, WitnessError};
use crate::auth::{Auth, JwtError, bootstrap};
use crate::clock::{SharedClock, SystemClock};
use crate::conditions::Conditions;
use crate::config::Config;
use crate::fleet::{self, Fleet};
use crate::host_control;
use crate::inventory::Inventory;
use crate::keyvault::{KeyVault, KeyVaultError, KeyVaultParts, PublicAddresses};
use crate::private_file;
use crate::seal::{SealError, SealingKey};
use crate::store::{Store, StoreError};
use crate::supervise::{TaskDied, Tasks};

/// The key file that seals secrets in the database; it lies outside the database.
pub const SEALING_KEY: &str = "seal.key";
/// Longest PostgreSQL URL.
const MAX_URL_BYTES: u64 = 4096;
/// How often old sessions are deleted.
const HOUSEKEEPING: Duration = Duration::from_hours(1);

/// Why the coordinator did not start; each is for the operator to mend, hence exit code 78.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("{key} = {address}: cannot listen: {source}; is another program on this port?")]
    Listen {
        /// The setting.
        key: &'static str,
        /// Its value.
        address: String,
        /// Why.
        source: std::io::Error,
    },
    /// The state directory or a file in it cannot be used.
    #[error("{}: {reason}", path.display())]
    State {
        /// The path.
        path: PathBuf,
        /// What is wrong and what to do.
        reason: String,
    },
    /// The database cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// HTTPS cannot be set up.
    #[error(transparent)]
    Tls(#[from] tls::TlsError),
    /// The CA, a key file or the journal cannot be used.
    #[error(transparent)]
    KeyVault(#[from] KeyVaultError),
    /// The key that seals secrets in the database cannot be used.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The key that signs the audit trail's checkpoints cannot be used.
    #[error(transparent)]
    Witness(#[from] WitnessError),
    /// The signing key of access tokens cannot be used.
    #[error(transparent)]
    Jwt(#[from] JwtError),
    /// The link cannot be opened.
    #[error(transparent)]
    Link(#[from] fleet::LinkError),
    /// Anything else.
    #[error("{0:#}")]
    Other(#[from] anyhow::Error),
}

/// A running coordinator.
pub struct Running {
    /// Where HTTPS listens.
    pub https_addr: SocketAddr,
    /// Where the QUIC link listens.
    pub link_addr: SocketAddr,
    /// The object graph.
    pub app: SharedApp,
    /// The tasks.
    pub tasks: Tasks,
    /// Released last.
    _lock: File,
}

impl Running {
    /// Waits until a task ends by itself, which none may.
    pub async fn first_death(&mut self) -> TaskDied {
        self.tasks.first_death().await
    }

    /// Ends everything: running requests first, the database last.
    pub async fn shutdown(self) {
        self.tasks.shutdown().await;
        self.app.store.close().await;
    }
}

/// Builds and starts everything that the configuration asks for.
pub async fn start(config: Config) -> Result<Running, StartError> {
    // Libraries that ask for the process's provider get the same one as ours; a second call changes nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
    state_dir::prepare(&config.state_dir)?;
    let lock = state_dir::lock(&config.state_dir)?;
    let sockets = sockets::bind(&config)?;
    let (https_addr, link_addr) = (local(sockets.https.local_addr())?, local(sockets.link.local_addr())?);

    let clock: SharedClock = Arc::new(SystemClock::new());
    let store = open_store(&config).await?;
    let conditions = Arc::new(Conditions::default());
    let stop = CancellationToken::new();
    let mut tasks = Tasks::new(stop.clone());
    let inventory = Inventory::load(
        store.clone(),
        Arc::clone(&clock),
        Arc::clone(&conditions),
        config.retention.events_days,
        &mut tasks,
    )
    .await?;
    let fleet = Fleet::new(Arc::clone(&clock), Arc::clone(&inventory));
    let host_name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let keyvault = KeyVault::open(KeyVaultParts {
        state_dir: &config.state_dir,
        config: config.keyvault.clone(),
        addresses: PublicAddresses::of(&config, &host_name, https_addr.port(), link_addr.port()),
        store: store.clone(),
        clock: Arc::clone(&clock),
        conditions: Arc::clone(&conditions),
        sessions: fleet.clone(),
    });
    let keyvault = Arc::new(keyvault.await?);
    let news = keyvault.subscribe();
    tasks.spawn("news", fleet::news::follow(Arc::clone(&inventory), store.clone(), news, stop.clone()));
    tasks.spawn("keyvault", Arc::clone(&keyvault).run(stop.clone()));
    let seal = SealingKey::load_or_create(&config.state_dir.join(SEALING_KEY))?;
    let password_file = config.auth.initial_password_file.as_deref();
    bootstrap::first_start(&store, password_file, &config.state_dir, clock.now()).await?;
    let witness = Arc::new(Witness::load_or_create(&config)?);
    let audit = Arc::new(Audit::new(store.clone(), Arc::clone(&clock), Arc::clone(&witness)));
    let fence = Arc::clone(&keyvault);
    let keeper = Keeper {
        store: store.clone(),
        clock: Arc::clone(&clock),
        conditions: Arc::clone(&conditions),
        witness,
        days: config.retention.audit_days,
        is_fenced: Box::new(move || fence.fence().fenced),
    };
    tasks.spawn("audit", keeper.run(stop.clone()));
    let auth = Auth::open(
        &config,
        store.clone(),
        Arc::clone(&clock),
        Arc::clone(&audit),
        Arc::clone(&conditions),
        &seal,
    )
    .await?;
    let app: SharedApp = Arc::new(App {
        config: Arc::new(config),
        clock: Arc::clone(&clock),
        store,
        conditions,
        audit,
        auth,
        keyvault: Arc::clone(&keyvault),
        inventory,
        fleet: Arc::clone(&fleet),
        http_metrics: api::metrics::HttpMetrics::default(),
    });

    fleet::start(&fleet, &keyvault, sockets.link, &mut tasks)?;
    let tls = tls::server_config(keyvault.server_certificate().subscribe(), &app.config.https.certificates)?;
    let router = api::router::build(SharedApp::clone(&app), known_hosts(&app.config));
    let server = HttpServer::new(router, tls, &app.config.https.trusted_proxies, clock, stop);
    tasks.spawn("https", server.clone().serve_https(listener(sockets.https)?));
    match sockets.plain {
        Some(Plain::Tcp(socket)) => tasks.spawn("plain", server.serve_plain_tcp(listener(socket)?)),
        Some(Plain::Unix(socket)) => {
            socket.set_nonblocking(true).map_err(anyhow::Error::from)?;
            let socket = UnixListener::from_std(socket).map_err(anyhow::Error::from)?;
            tasks.spawn("plain", server.serve_plain_unix(socket));
        }
        None => {}
    }
    match host_control::bind(&app.config.state_dir) {
        Ok(socket) => tasks.spawn("host", host_control::serve(socket, keyvault, tasks.stop_token())),
        // A path too long for a unix socket is no reason to leave a fleet alone; the API revokes as well.
        Err(error) => tracing::warn!(%error, "commands on this host cannot reach the running coordinator"),
    }
    tasks.spawn("housekeeping", housekeeping(SharedApp::clone(&app), tasks.stop_token()));
    tracing::info!(%https_addr, %link_addr, "the coordinator is up");
    Ok(Running { https_addr, link_addr, app, tasks, _lock: lock })
}

/// What has to be forgotten in time.
async fn housekeeping(app: SharedApp, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(HOUSEKEEPING)).await.is_some() {
        if let Err(error) = app.auth.forget_old_sessions().await {
            tracing::warn!(%error, "old sessions could not be deleted; tried again in an hour");
        }
    }
}

/// The database that the configuration names.
pub async fn open_store(config: &Config) -> Result<Store, StartError> {
    let Some(file) = &config.database.postgres_url_file else {
        return Ok(Store::open_sqlite(&config.sqlite_path()).await?);
    };
    let refused =
        |reason| StartError::State { path: file.clone(), reason: format!("the PostgreSQL URL: {reason}") };
    // It may hold a password.
    let url = private_file::read(file, MAX_URL_BYTES).map_err(|error| refused(error.to_string()))?;
    let url = std::str::from_utf8(&url).map_err(|error| refused(error.to_string()))?;
    Ok(Store::open_postgres(url.trim()).await?)
}

/// Every name by which clients may reach the API.
fn known_hosts(config: &Config) -> KnownHosts {
    let names = config.https.public_names.iter().cloned();
    let advertised = config.https.advertise.iter().filter_map(|address| {
        address.parse::<http::uri::Authority>().ok().map(|authority| authority.host().to_owned())
    });
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    KnownHosts::new(
        names.chain(advertised).chain([host, config.keyvault.trust_domain.coordinator_server_name()]),
    )
}
