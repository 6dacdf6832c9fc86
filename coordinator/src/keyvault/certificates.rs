//! The coordinator's own certificates change by themselves: the server's, and the issuing certificate from the root key.

use super::KeyVault;
use super::ca::{CaCertificate, IssuingRenewal};
use super::error::Requester;
use crate::store::audit::Decision;

/// Name of the condition of an issuing certificate that cannot be renewed.
pub(super) const ISSUING_EXPIRING: &str = "issuing_certificate_expiring";

impl KeyVault {
    /// Makes the next server certificate where it is due; it needs no database.
    pub(super) fn renew_server_certificate(&self) {
        match self.server_certificate.renew_if_due(&self.ca, self.clock.now()) {
            Ok(true) => tracing::info!("made the next server certificate"),
            Ok(false) => {}
            Err(error) => tracing::error!(%error, "the next server certificate could not be made"),
        }
    }

    /// Makes the next issuing certificate where it is due, or says by a condition why it cannot.
    pub(super) async fn renew_issuing(&self) {
        let now = self.clock.now();
        let detail = match self.ca.renew_issuing_if_due(now) {
            Ok(IssuingRenewal::NotDue) => return self.conditions.leave(ISSUING_EXPIRING, "keyvault"),
            Ok(IssuingRenewal::Renewed(certificate)) => {
                self.conditions.leave(ISSUING_EXPIRING, "keyvault");
                return self.issuing_renewed(&certificate).await;
            }
            Ok(IssuingRenewal::RootKeyAway { not_after }) => format!(
                "the issuing certificate ends at {not_after}, and then no node can renew: put root.key back into the \
                 folder of the CA until it is renewed"
            ),
            Ok(IssuingRenewal::RootEnds { not_after }) => {
                format!(
                    "the root of the CA ends at {not_after}, and with it every certificate: make a new CA"
                )
            }
            Err(error) => format!("the issuing certificate cannot be renewed: {error}"),
        };
        self.conditions.enter(ISSUING_EXPIRING, "keyvault", now, &detail);
    }

    async fn issuing_renewed(&self, certificate: &CaCertificate) {
        let now = self.clock.now();
        if let Err(error) = self.server_certificate.renew(&self.ca, now) {
            tracing::error!(%error, "the next server certificate could not be made");
        }
        let detail = serde_json::json!({ "sha256": certificate.sha256, "not_after": certificate.not_after });
        let requester = Requester::coordinator();
        let record = self.audit(&requester, "ca.renew-issuing", "ca".to_owned(), Decision::Allowed, detail);
        if let Err(error) = self.store.audit_append(&record).await {
            tracing::warn!(%error, "the renewal of the issuing certificate could not be recorded");
        }
    }
}
