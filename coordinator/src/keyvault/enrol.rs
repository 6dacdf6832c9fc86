//! Enrolment: a token and a certificate request become a node with an identity, in one transaction.

use std::net::IpAddr;

use aim_common::api::keyvault::{EnrolRequest, EnrolResponse};
use aim_common::enrolment::TokenPurpose;
use aim_common::identity::{NodeId, NodeName};
use aim_common::units::EpochMs;

use super::KeyVault;
use super::ca::IssuedCertificate;
use super::csr::{self, CsrError};
use super::error::{Requester, VaultError};
use super::identities::{KnownCertificate, KnownNode};
use super::news::NodeNews;
use super::public_key::NodePublicKey;
use super::tokens::{PresentedToken, Use};
use crate::entropy;
use crate::store::audit::Decision;
use crate::store::enrolment::{Claim, Enrolled, NewCertificate};
use aim_common::protocol::CloseCode;

/// A node to be made.
pub(super) struct NewNode<'a> {
    pub(super) name: &'a NodeName,
    pub(super) key: &'a NodePublicKey,
    pub(super) replace: bool,
}

impl KeyVault {
    /// Redeems an agent token.
    pub async fn enrol(
        &self,
        request: &EnrolRequest,
        source: IpAddr,
        requester: &Requester,
    ) -> Result<EnrolResponse, VaultError> {
        self.admit(source)?;
        self.check_fence()?;
        let key = match csr::public_key_of_pem(&request.csr) {
            Ok(key) => key,
            Err(error) => return Err(self.refuse_csr(error, &request.node, source, requester).await?),
        };
        let presented = PresentedToken::parse(&request.token, &request.nonce, &request.signature);
        let wanted = Use {
            purpose: TokenPurpose::AgentEnrol,
            node: Some(&request.node),
            public_key: Some(key.fingerprint()),
            source,
        };
        let good = self.examine(presented.as_ref(), &wanted, requester).await?;
        let node = NewNode { name: &request.node, key: &key, replace: good.stored.replace };
        let token = format!("token:{}", good.stored.id);
        match self.admit_node(Claim::Token(&good.hash), &node, &token, requester).await {
            Ok(response) => {
                self.redeemed(&good).await?;
                Ok(response)
            }
            Err(VaultError::Refused) => Err(self.refuse_late(&good, &wanted, requester).await?),
            Err(error) => Err(error),
        }
    }

    /// Issues, stores and announces a node; a lost claim is [`VaultError::Refused`], which the caller counts and records.
    pub(super) async fn admit_node(
        &self,
        claim: Claim<'_>,
        node: &NewNode<'_>,
        by: &str,
        requester: &Requester,
    ) -> Result<EnrolResponse, VaultError> {
        let now = self.clock.now();
        let id = NodeId::from_random(entropy::random_bytes()?);
        let issued = self.ca.issue_node(id, node.key, self.node_lifetime_ms(), now)?;
        let certificate = new_certificate(id, 1, node.key, &issued, now);
        let detail = serde_json::json!({
            "name": node.name,
            "by": by,
            "serial": issued.serial,
            "public_key_sha256": node.key.fingerprint(),
            "generation": 1,
            "replace": node.replace,
        });
        let record = self.audit(requester, "node.enrol", format!("node:{id}"), Decision::Allowed, detail);
        let conflict = match self.store.enrol(claim, node.name, node.replace, &certificate, &record).await? {
            Enrolled::Done { superseded } => {
                self.announce(id, node.name, &certificate, superseded);
                return Ok(self.identity(id, node.name, &issued.pem));
            }
            Enrolled::ClaimLost => return Err(VaultError::Refused),
            Enrolled::NameTaken => format!(
                "a living node is named {} already; revoke it, or use a token that says replace",
                node.name
            ),
            Enrolled::KeyUsed => {
                "this key is recorded already; remove the agent's key file so that it makes a new one"
                    .to_owned()
            }
        };
        let detail = serde_json::json!({
            "name": node.name,
            "by": by,
            "public_key_sha256": node.key.fingerprint(),
            "reason": conflict,
        });
        let target = format!("name:{}", node.name);
        self.store
            .audit_append(&self.audit(requester, "node.enrol", target, Decision::Denied, detail))
            .await?;
        Err(VaultError::Conflict(conflict))
    }

    fn announce(
        &self,
        id: NodeId,
        name: &NodeName,
        certificate: &NewCertificate,
        superseded: Option<NodeId>,
    ) {
        if let Some(former) = superseded {
            self.identities.write().remove_node(former);
            self.sessions.close_node(former, CloseCode::Refused);
            self.tell(NodeNews::Superseded(former));
        }
        {
            let mut registry = self.identities.write();
            registry.add_node(KnownNode {
                id,
                name: name.clone(),
                active_generation: 0,
                newest_generation: 0,
                last_issued: EpochMs(0),
                quarantined: false,
            });
            registry.add_certificate(known(certificate), certificate.issued_at);
        }
        self.tell(NodeNews::Enrolled(id));
    }

    /// Records a refused certificate request (PKI-02, PKI-19).
    pub(super) async fn refuse_csr(
        &self,
        error: CsrError,
        node: &NodeName,
        source: IpAddr,
        requester: &Requester,
    ) -> Result<VaultError, VaultError> {
        self.failures.failed(source, self.clock.monotonic());
        let detail = serde_json::json!({ "name": node, "reason": error.to_string() });
        let record =
            self.audit(requester, "certificate.request", format!("name:{node}"), Decision::Denied, detail);
        self.store.audit_append(&record).await?;
        Ok(error.into())
    }

    /// What a node is told of its identity.
    pub(super) fn identity(&self, node_id: NodeId, name: &NodeName, leaf_pem: &str) -> EnrolResponse {
        EnrolResponse {
            node_id,
            node_name: name.clone(),
            trust_domain: self.ca.trust_domain().clone(),
            certificate_chain: self.ca.chain_pem(leaf_pem),
            roots: self.ca.bundle_pem(),
            link_addresses: self.addresses.link.clone(),
            https_addresses: self.addresses.https.clone(),
        }
    }

    /// Life of a node's certificate.
    pub(super) fn node_lifetime_ms(&self) -> i64 {
        i64::from(self.config.node_certificate_minutes) * 60 * 1000
    }
}

/// The row of an issued certificate.
pub(super) fn new_certificate(
    node: NodeId,
    generation: i64,
    key: &NodePublicKey,
    issued: &IssuedCertificate,
    now: EpochMs,
) -> NewCertificate {
    NewCertificate {
        serial: issued.serial.clone(),
        node,
        generation,
        public_key: key.fingerprint(),
        pem: issued.pem.clone(),
        not_before: issued.not_before,
        not_after: issued.not_after,
        issued_at: now,
    }
}

/// The registry's entry of a stored certificate.
pub(super) fn known(certificate: &NewCertificate) -> KnownCertificate {
    KnownCertificate {
        serial: certificate.serial.clone(),
        node: certificate.node,
        generation: certificate.generation,
        public_key: certificate.public_key,
        not_before: certificate.not_before,
        not_after: certificate.not_after,
    }
}
