//! The server's certificate, shared by QUIC and HTTPS and changed while both serve.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use aim_common::units::EpochMs;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::sync::watch;

use super::ca::{Ca, CaError};

/// Gives TLS the current certificate; `ServerConfig::builder()…with_cert_resolver(this)` never needs a reload.
#[derive(Debug)]
pub struct ServerCertificate {
    public_names: Vec<String>,
    current: watch::Sender<Arc<CertifiedKey>>,
    /// Epoch milliseconds.
    renew_at: AtomicI64,
}

impl ServerCertificate {
    /// Makes the first certificate.
    pub fn new(ca: &Ca, public_names: Vec<String>, now: EpochMs) -> Result<Self, CaError> {
        let made = ca.issue_server(&public_names, now)?;
        let renew_at = AtomicI64::new(made.renew_at.0);
        Ok(Self { public_names, current: watch::Sender::new(made.certified), renew_at })
    }

    /// Makes the next one where two thirds of the current one's life are over.
    pub fn renew_if_due(&self, ca: &Ca, now: EpochMs) -> Result<bool, CaError> {
        if now.0 < self.renew_at.load(Ordering::Acquire) {
            return Ok(false);
        }
        self.renew(ca, now)?;
        Ok(true)
    }

    /// Makes the next one now: the issuing certificate changed.
    pub fn renew(&self, ca: &Ca, now: EpochMs) -> Result<(), CaError> {
        let made = ca.issue_server(&self.public_names, now)?;
        self.current.send_replace(made.certified);
        self.renew_at.store(made.renew_at.0, Ordering::Release);
        Ok(())
    }

    /// The current chain and key.
    pub fn current(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.current.borrow())
    }

    /// Follows the changes.
    pub fn subscribe(&self) -> watch::Receiver<Arc<CertifiedKey>> {
        self.current.subscribe()
    }
}

impl ResolvesServerCert for ServerCertificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }
}
