//! Issuing tokens: for nobody in particular (Salt), for one node, or for each node of a host list.

use std::time::Duration;

use aim_common::api::keyvault::{GenerateTokenRequest, GeneratedToken};
use aim_common::enrolment::{JoinString, NONCE_LEN, Nonce, TokenClaims, TokenId, TokenPurpose};
use aim_common::hostlist::HostList;
use aim_common::identity::{NodeName, Sha256Digest};
use ipnet::IpNet;

use super::Moment;
use crate::entropy;
use crate::keyvault::KeyVault;
use crate::keyvault::error::{Requester, VaultError};
use crate::store::audit::Decision;
use crate::store::tokens::NewToken;

/// Life of one token.
const SINGLE_TTL_SECONDS: u32 = 300;
/// Life of the tokens of a host list: somebody has to carry them to the nodes.
const LIST_TTL_SECONDS: u32 = 3_600;
/// Longest life.
const MAX_TTL_SECONDS: u32 = 24 * 60 * 60;

/// A checked wish for tokens.
#[derive(Debug, Clone)]
pub struct TokenOrder {
    purpose: TokenPurpose,
    /// One token each; a single `None` is a token that is bound to no node.
    nodes: Vec<Option<NodeName>>,
    /// The wish was a host list.
    pub is_list: bool,
    ttl: Duration,
    source: Option<IpNet>,
    public_key: Option<Sha256Digest>,
    replace: bool,
}

impl TokenOrder {
    /// Checks a request.
    pub fn new(purpose: TokenPurpose, request: GenerateTokenRequest) -> Result<Self, VaultError> {
        let agent = purpose == TokenPurpose::AgentEnrol;
        let is_list = request.hosts.is_some();
        let nodes = match (request.node, request.hosts) {
            (Some(_), Some(_)) => return Err(VaultError::invalid("/hosts", "give node or hosts, not both")),
            (Some(node), None) => vec![Some(node)],
            (None, Some(hosts)) => HostList::parse(&hosts)
                .map_err(|error| VaultError::invalid("/hosts", error.to_string()))?
                .into_iter()
                .map(Some)
                .collect(),
            (None, None) if agent => {
                return Err(VaultError::invalid(
                    "/node",
                    "an agent token is bound to a node: give node or hosts",
                ));
            }
            (None, None) => vec![None],
        };
        let ttl_seconds =
            request.ttl_seconds.unwrap_or(if is_list { LIST_TTL_SECONDS } else { SINGLE_TTL_SECONDS });
        if !(1..=MAX_TTL_SECONDS).contains(&ttl_seconds) {
            return Err(VaultError::invalid("/ttl_seconds", "a token lives 1 to 86400 seconds"));
        }
        let source = request.source_cidr.as_deref().map(parse_range).transpose()?;
        let public_key = request.public_key_sha256.as_deref().map(str::parse).transpose().map_err(|_| {
            VaultError::invalid("/public_key_sha256", "it is not a SHA-256: give 64 hexadecimal digits")
        })?;
        if public_key.is_some() && (is_list || !agent) {
            return Err(VaultError::invalid(
                "/public_key_sha256",
                "only the token of one agent is bound to a key",
            ));
        }
        if request.replace && !agent {
            return Err(VaultError::invalid("/replace", "only agent tokens replace a node"));
        }
        let ttl = Duration::from_secs(ttl_seconds.into());
        Ok(Self { purpose, nodes, is_list, ttl, source, public_key, replace: request.replace })
    }
}

fn parse_range(text: &str) -> Result<IpNet, VaultError> {
    let range =
        text.parse::<IpNet>().or_else(|_| text.parse().map(|address: std::net::IpAddr| address.into()));
    range.map_err(|_| {
        VaultError::invalid("/source_cidr", "it is not an address range: write 10.1.0.0/16 or fd00::/8")
    })
}

impl KeyVault {
    /// Issues all tokens of the order, or none.
    pub async fn issue_tokens(
        &self,
        order: &TokenOrder,
        requester: &Requester,
    ) -> Result<Vec<GeneratedToken>, VaultError> {
        self.check_fence()?;
        let now = self.moment();
        let mut issued = Vec::with_capacity(order.nodes.len());
        let mut rows = Vec::with_capacity(order.nodes.len());
        for node in &order.nodes {
            let (token, row) = self.make_token(order, node.as_ref(), now, requester)?;
            issued.push(token);
            rows.push(row);
        }
        let names = order.nodes.iter().flatten().map(NodeName::as_str);
        let detail = serde_json::json!({
            "purpose": order.purpose.as_str(),
            "count": rows.len(),
            "ttl_seconds": order.ttl.as_secs(),
            "source_cidr": order.source.map(|range| range.to_string()),
            "public_key_sha256": order.public_key.map(|key| key.to_string()),
            "replace": order.replace,
        });
        let target = HostList::fold(names);
        let record = self.audit(requester, "token.create", target, Decision::Allowed, detail);
        let limit = i64::from(self.config.outstanding_tokens_max);
        if !self.store.tokens_insert(&rows, limit, &record).await? {
            return Err(VaultError::TooMany { retry_after_seconds: 60 });
        }
        for row in &rows {
            self.deadlines.of(&row.storage_hash, row.expires_at, now);
        }
        Ok(issued)
    }

    fn make_token(
        &self,
        order: &TokenOrder,
        node: Option<&NodeName>,
        now: Moment,
        requester: &Requester,
    ) -> Result<(GeneratedToken, NewToken), VaultError> {
        let ttl_ms = i64::try_from(order.ttl.as_millis()).unwrap_or(i64::MAX);
        let claims = TokenClaims {
            purpose: order.purpose,
            token: TokenId::from_random(entropy::random_bytes()?),
            nonce: Nonce::from_random(entropy::random_bytes::<NONCE_LEN>()?),
            expires: now.wall.plus_ms(ttl_ms),
            node: node.cloned(),
        };
        let signature = self.token_key.sign(&claims);
        let row = NewToken {
            storage_hash: Sha256Digest::from_bytes(self.token_key.storage_hash(&claims.token)),
            purpose: order.purpose,
            node: node.cloned(),
            source: order.source,
            public_key: order.public_key,
            replace: order.replace,
            created_at: now.wall,
            expires_at: claims.expires,
            created_by: requester.actor.clone(),
        };
        let join = match node {
            Some(node) if order.purpose == TokenPurpose::AgentEnrol => Some(JoinString {
                addresses: self.addresses.https.clone(),
                root_sha256: self.ca.pin(),
                trust_domain: self.ca.trust_domain().clone(),
                token: claims.token.clone(),
                signature: signature.clone(),
                nonce: claims.nonce.clone(),
                node: node.clone(),
            }),
            _ => None,
        };
        let token = GeneratedToken {
            token: claims.token.expose(),
            signature: signature.expose(),
            nonce: claims.nonce.expose(),
            expires_at: claims.expires,
            node: node.cloned(),
            join: join.map(|join| join.to_secret().expose().to_owned()),
        };
        Ok((token, row))
    }
}
