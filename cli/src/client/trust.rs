//! TLS: the coordinator proves who it is by the pinned root or by a CA file; there is no third way.

use std::path::Path;
use std::sync::Arc;

use aim_common::tls::{PinnedRootVerifier, provider};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::error::CliError;
use crate::profile::Trust;

/// The TLS configuration that follows from a profile's trust.
pub(super) fn client_config(trust: &Trust) -> Result<ClientConfig, CliError> {
    let versions = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|error| CliError::Failed(format!("preparing TLS: {error}")))?;
    let mut config = match trust {
        // "Dangerous" is rustls' word for any verifier but its own: this one verifies in full, from the pinned root.
        Trust::Pin { root_sha256, .. } => versions
            .dangerous()
            .with_custom_certificate_verifier(PinnedRootVerifier::new(*root_sha256))
            .with_no_client_auth(),
        Trust::CaFile { ca_file } => {
            versions.with_root_certificates(Arc::new(read_roots(ca_file)?)).with_no_client_auth()
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

fn read_roots(path: &Path) -> Result<RootCertStore, CliError> {
    let refuse = |detail: String| CliError::Config { path: path.to_owned(), line: 1, detail };
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(path)
        .map_err(|error| refuse(format!("the CA file cannot be read: {error}")))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| refuse(format!("the CA file is not PEM: {error}")))?;
        roots
            .add(certificate)
            .map_err(|error| refuse(format!("a certificate of the CA file is not usable: {error}")))?;
    }
    if roots.is_empty() {
        return Err(refuse("the CA file holds no certificate".to_owned()));
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ca_file_without_a_certificate_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let ca_file = folder.path().join("ca.pem");
        assert!(client_config(&Trust::CaFile { ca_file: ca_file.clone() }).is_err());
        std::fs::write(&ca_file, "nothing").unwrap();
        let error = client_config(&Trust::CaFile { ca_file }).unwrap_err();
        assert!(error.to_string().contains("ca.pem:1: "), "{error}");
    }
}
