//! The approval queue: nodes without a token wait until a person compared their key's fingerprint. Off by default.

use std::net::IpAddr;

use aim_common::api::keyvault::{ApprovalRequest, ApprovalResponse};
use aim_common::identity::NodeId;

use super::KeyVault;
use super::csr;
use super::enrol::NewNode;
use super::error::{Requester, VaultError};
use crate::store::audit::Decision;
use crate::store::enrolment::Claim;
use crate::store::enrolment_requests::{NewRequest, RequestState};

/// Requests that wait at once; beyond that the queue is full (ENR-16).
const MAX_PENDING: i64 = 1_000;
/// A request that nobody decided about is forgotten after a day.
const PENDING_LIFE_MS: i64 = 24 * 60 * 60 * 1000;
/// What a node may say of itself.
const MAX_INVENTORY_BYTES: usize = 16 * 1024;
/// When a waiting node asks again.
const RETRY_AFTER_SECONDS: u32 = 10;

impl KeyVault {
    /// Puts a node into the queue, or tells it where it stands.
    pub async fn request_approval(
        &self,
        request: &ApprovalRequest,
        source: IpAddr,
        requester: &Requester,
    ) -> Result<ApprovalResponse, VaultError> {
        if !self.config.approval_queue {
            return Err(VaultError::NotFound("the approval queue"));
        }
        self.admit(source)?;
        self.check_fence()?;
        let inventory = request.inventory.to_string();
        if inventory.len() > MAX_INVENTORY_BYTES {
            return Err(VaultError::invalid("/inventory", "it is larger than 16 KiB"));
        }
        let key = match csr::public_key_of_pem(&request.csr) {
            Ok(key) => key,
            Err(error) => return Err(self.refuse_csr(error, &request.node, source, requester).await?),
        };
        let pending = ApprovalResponse::Pending {
            public_key_sha256: key.fingerprint().to_string(),
            retry_after_seconds: RETRY_AFTER_SECONDS,
        };
        match self.store.enrolment_request_of_key(&key.fingerprint()).await? {
            Some(known) if known.node_name.canonical() != request.node.canonical() => {
                Err(VaultError::invalid(
                    "/node",
                    "this key asked for another name before; ask for the same name, or make a new key",
                ))
            }
            Some(known) => match known.state {
                RequestState::Pending => Ok(pending),
                RequestState::Rejected => Ok(ApprovalResponse::Rejected),
                RequestState::Approved => {
                    let certificate = self.store.certificate_of_key(&key.fingerprint()).await?;
                    let certificate = certificate.filter(|certificate| certificate.living);
                    let certificate = certificate.ok_or(VaultError::Refused)?;
                    let identity = self.identity(certificate.node, &certificate.name, &certificate.pem);
                    Ok(ApprovalResponse::Approved { identity: Box::new(identity) })
                }
            },
            None => {
                let row = NewRequest {
                    node_name: request.node.clone(),
                    csr_pem: request.csr.clone(),
                    public_key: key.fingerprint(),
                    source: source.to_string(),
                    requested_at: self.clock.now(),
                    inventory,
                };
                let detail = serde_json::json!({ "public_key_sha256": key.fingerprint() });
                let target = format!("name:{}", request.node);
                let record = self.audit(requester, "enrolment.request", target, Decision::Allowed, detail);
                if self.store.enrolment_request_add(&row, MAX_PENDING, &record).await? {
                    Ok(pending)
                } else {
                    Err(VaultError::TooMany { retry_after_seconds: 60 })
                }
            }
        }
    }

    /// Makes the node of a pending request.
    pub async fn approve(&self, id: i64, requester: &Requester) -> Result<NodeId, VaultError> {
        self.check_fence()?;
        let not_found = VaultError::NotFound("the pending request");
        let Some(request) = self.store.enrolment_request(id).await? else { return Err(not_found) };
        let key = csr::public_key_of_pem(&request.csr_pem)?;
        let node = NewNode { name: &request.node_name, key: &key, replace: false };
        let claim = Claim::Request { id, decided_by: &requester.actor };
        let by = format!("request:{id}");
        match self.admit_node(claim, &node, &by, requester).await {
            Ok(identity) => Ok(identity.node_id),
            Err(VaultError::Refused) => Err(not_found),
            Err(other) => Err(other),
        }
    }

    /// Refuses a pending request for good.
    pub async fn reject(&self, id: i64, requester: &Requester) -> Result<(), VaultError> {
        let target = format!("request:{id}");
        let record =
            self.audit(requester, "enrolment.reject", target, Decision::Allowed, serde_json::json!({}));
        if self.store.enrolment_request_reject(id, &record).await? {
            Ok(())
        } else {
            Err(VaultError::NotFound("the pending request"))
        }
    }

    /// Forgets requests that nobody decided about.
    pub(super) async fn sweep_requests(&self) -> Result<(), VaultError> {
        let horizon = self.clock.now().plus_ms(-PENDING_LIFE_MS);
        self.store.enrolment_requests_forget(horizon).await?;
        Ok(())
    }
}
