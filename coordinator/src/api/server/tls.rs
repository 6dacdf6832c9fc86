//! The HTTPS server's certificates: the coordinator's own, reloaded live, and the operator's, chosen by server name.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aim_common::tls::provider;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::sync::watch;

use crate::config::OperatorCertificate;

/// Why HTTPS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// An operator's file cannot be read as PEM.
    #[error("https.certificates: {}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// rustls refuses certificate or key.
    #[error("TLS cannot be set up: {0}")]
    Refused(#[from] rustls::Error),
}

/// The certificate shown for each server name.
#[derive(Debug)]
struct Certificates {
    own: watch::Receiver<Arc<CertifiedKey>>,
    operators: HashMap<String, Arc<CertifiedKey>>,
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let of_operator = hello.server_name().and_then(|name| self.operators.get(&name.to_ascii_lowercase()));
        Some(of_operator.cloned().unwrap_or_else(|| Arc::clone(&self.own.borrow())))
    }
}

/// The TLS configuration of the HTTPS listener.
pub fn server_config(
    own: watch::Receiver<Arc<CertifiedKey>>,
    operators: &[OperatorCertificate],
) -> Result<Arc<ServerConfig>, TlsError> {
    let mut by_name = HashMap::new();
    for certificate in operators {
        let key = Arc::new(load(&certificate.certificate_file, &certificate.key_file)?);
        for name in &certificate.names {
            by_name.insert(name.to_ascii_lowercase(), Arc::clone(&key));
        }
    }
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Certificates { own, operators: by_name }));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn load(certificate: &Path, key: &Path) -> Result<CertifiedKey, TlsError> {
    let refuse = |path: &Path, reason: String| TlsError::File { path: path.to_owned(), reason };
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| refuse(certificate, error.to_string()))?;
    if chain.is_empty() {
        return Err(refuse(certificate, "it holds no certificate".to_owned()));
    }
    let key_der = PrivateKeyDer::from_pem_file(key).map_err(|error| refuse(key, error.to_string()))?;
    Ok(CertifiedKey::from_der(chain, key_der, &provider())?)
}
