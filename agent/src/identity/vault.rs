//! The KeyVault over HTTPS: every request goes to a server whose chain leads to the pinned or known root and whose name is
//! the coordinator's, whatever address was dialled. A connection is verified before the first byte of a request.

use std::error::Error as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use aim_common::api::problem::Problem;
use aim_common::identity::{Sha256Digest, TrustDomain};
use aim_common::tls::{PinnedRootVerifier, provider};
use rustls::{CertificateError, ClientConfig};
use rustls_pki_types::CertificateDer;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::certificate::root_store;

/// A request, from dialling to the last byte of the answer (issue: 10 s).
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for one connection and its handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest answer: a chain and eight roots with much room.
const MAX_ANSWER: usize = 256 * 1024;

/// How the coordinator is known.
#[derive(Debug, Clone)]
pub enum Trust {
    /// By the SHA-256 of its root certificate.
    Pin(Sha256Digest),
    /// By its roots.
    Roots(Vec<CertificateDer<'static>>),
}

/// Why there is no answer, or a refusal.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The server is not the coordinator that is trusted: nothing was sent to it.
    #[error(
        "{address} is not the coordinator this node trusts ({reason}); nothing was sent to it. Check the address, and that the join string is from this coordinator"
    )]
    Untrusted {
        /// The address.
        address: String,
        /// What the verifier said.
        reason: String,
    },
    /// The server's certificate is not good at this machine's time.
    #[error(
        "the certificate of {address} is not good at this machine's time ({reason}); set the clock and try again"
    )]
    Clock {
        /// The address.
        address: String,
        /// What the verifier said.
        reason: String,
    },
    /// Nothing was sent: no connection.
    #[error("cannot reach {address}: {reason}")]
    Unreachable {
        /// The address, or all of them.
        address: String,
        /// Why.
        reason: String,
    },
    /// A request may have arrived, and no answer came.
    #[error("{address} gave no answer: {reason}")]
    Unanswered {
        /// The address.
        address: String,
        /// Why.
        reason: String,
    },
    /// The coordinator refused.
    #[error("the coordinator refused ({status} {code}): {detail}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The problem's code.
        code: String,
        /// What it says.
        detail: String,
    },
    /// The answer is not what the interface promises.
    #[error("{address} answered with something else than AIM's interface promises: {reason}")]
    Malformed {
        /// The address.
        address: String,
        /// What is wrong.
        reason: String,
    },
    /// No TLS configuration can be made of the roots.
    #[error("cannot set up TLS: {0}")]
    Tls(String),
}

impl VaultError {
    /// Another address may do better, and no request was sent to this one.
    fn is_before_sending(&self) -> bool {
        matches!(self, Self::Untrusted { .. } | Self::Clock { .. } | Self::Unreachable { .. })
    }
}

/// A client of the KeyVault.
#[derive(Debug, Clone)]
pub struct VaultClient {
    addresses: Vec<String>,
    server_name: String,
    tls: ClientConfig,
}

impl VaultClient {
    /// For these addresses (`host:port`), tried in order.
    pub fn new(addresses: Vec<String>, domain: &TrustDomain, trust: &Trust) -> Result<Self, VaultError> {
        let failed = |error: rustls::Error| VaultError::Tls(error.to_string());
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(failed)?;
        let tls = match trust {
            Trust::Pin(pin) => builder
                .dangerous()
                .with_custom_certificate_verifier(PinnedRootVerifier::new(*pin))
                .with_no_client_auth(),
            Trust::Roots(roots) => builder
                .with_root_certificates(Arc::new(root_store(roots).map_err(failed)?))
                .with_no_client_auth(),
        };
        Ok(Self { addresses, server_name: domain.coordinator_server_name(), tls })
    }

    /// Sends the request to the first address that is the coordinator. An address is passed over only while nothing was
    /// sent to it: a request that may have arrived is never repeated elsewhere.
    pub async fn post<Q: Serialize + Sync, A: DeserializeOwned>(
        &self,
        path: &str,
        request: &Q,
    ) -> Result<A, VaultError> {
        let mut worst: Option<VaultError> = None;
        for address in &self.addresses {
            match self.post_to(address, path, request).await {
                Err(error) if error.is_before_sending() => {
                    tracing::warn!(%address, %error, "this address of the coordinator cannot be used");
                    // A wrong coordinator is the finding that matters; "unreachable" must not hide it.
                    let keep = matches!(worst, Some(VaultError::Untrusted { .. } | VaultError::Clock { .. }))
                        && matches!(error, VaultError::Unreachable { .. });
                    if !keep {
                        worst = Some(error);
                    }
                }
                done => return done,
            }
        }
        Err(worst.unwrap_or(VaultError::Unreachable {
            address: "the coordinator".into(),
            reason: "no address is known".into(),
        }))
    }

    async fn post_to<Q: Serialize + Sync, A: DeserializeOwned>(
        &self,
        address: &str,
        path: &str,
        request: &Q,
    ) -> Result<A, VaultError> {
        let unreachable = |reason: String| VaultError::Unreachable { address: address.to_owned(), reason };
        let addrs: Vec<SocketAddr> =
            tokio::net::lookup_host(address).await.map_err(|error| unreachable(error.to_string()))?.collect();
        let port = addrs.first().ok_or_else(|| unreachable("the name has no address".into()))?.port();
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(self.tls.clone())
            .resolve_to_addrs(&self.server_name, &addrs)
            .no_proxy()
            .https_only(true)
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(REQUEST_TIMEOUT)
            .build()
            .map_err(|error| VaultError::Tls(error.to_string()))?;
        let url = format!("https://{}:{port}{path}", self.server_name);
        let answer =
            client.post(url).json(request).send().await.map_err(|error| classify(address, &error))?;
        read_answer(address, answer).await
    }
}

async fn read_answer<A: DeserializeOwned>(
    address: &str,
    mut answer: reqwest::Response,
) -> Result<A, VaultError> {
    let status = answer.status();
    let malformed = |reason: String| VaultError::Malformed { address: address.to_owned(), reason };
    let mut body = Vec::new();
    while let Some(chunk) = answer
        .chunk()
        .await
        .map_err(|error| VaultError::Unanswered { address: address.to_owned(), reason: chain_of(&error) })?
    {
        if body.len() + chunk.len() > MAX_ANSWER {
            return Err(malformed(format!("more than {MAX_ANSWER} bytes")));
        }
        body.extend_from_slice(&chunk);
    }
    if status.is_success() {
        return serde_json::from_slice(&body)
            .map_err(|error| malformed(format!("line {} column {}", error.line(), error.column())));
    }
    let status = status.as_u16();
    match serde_json::from_slice::<Problem>(&body) {
        Ok(problem) => Err(VaultError::Refused { status, code: problem.code, detail: problem.detail }),
        Err(_) if status >= 500 => {
            Err(VaultError::Unanswered { address: address.to_owned(), reason: format!("HTTP {status}") })
        }
        Err(_) => Err(malformed(format!("HTTP {status} without a problem description"))),
    }
}

fn classify(address: &str, error: &reqwest::Error) -> VaultError {
    let address = address.to_owned();
    let reason = chain_of(error);
    match rustls_error(error) {
        Some(rustls::Error::InvalidCertificate(cause)) if is_about_time(cause) => {
            VaultError::Clock { address, reason }
        }
        Some(rustls::Error::InvalidCertificate(_)) => VaultError::Untrusted { address, reason },
        _ if error.is_connect() => VaultError::Unreachable { address, reason },
        _ => VaultError::Unanswered { address, reason },
    }
}

fn is_about_time(cause: &CertificateError) -> bool {
    matches!(
        cause,
        CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. }
    )
}

/// The TLS library's error somewhere below; `io::Error` hides what it wraps from `source`.
fn rustls_error(error: &reqwest::Error) -> Option<&rustls::Error> {
    let mut next = error.source();
    while let Some(current) = next {
        if let Some(found) = current.downcast_ref::<rustls::Error>() {
            return Some(found);
        }
        next = match current.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => current.source(),
        };
    }
    None
}

/// The whole chain of reasons in one line, without the URL.
fn chain_of(error: &reqwest::Error) -> String {
    let mut reasons = Vec::new();
    let mut next = error.source();
    while let Some(current) = next {
        reasons.push(current.to_string());
        next = current.source();
    }
    reasons.dedup();
    if reasons.is_empty() {
        if error.is_timeout() { "timed out".into() } else { "failed".into() }
    } else {
        reasons.join(": ")
    }
}
