//! Who is who: node ids and names, the trust domain, SPIFFE identities, boots, spools, certificates.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// How far certificates are back-dated, so that clocks may differ (PKI-17).
pub const BACK_DATE_MS: i64 = 15 * 60 * 1000;

/// Why a text is not an identity of the named sort.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum IdentityError {
    /// The text is not a UUID.
    #[error("{what} {text:?} is not a UUID; expected 8-4-4-4-12 hexadecimal digits")]
    NotUuid {
        /// Which id was parsed.
        what: &'static str,
        /// The text as given, cut to 64 characters.
        text: String,
    },
    /// The text is not a node name.
    #[error("node name {text:?} is not usable: {reason}; use 1 to 253 characters of A-Z a-z 0-9 . _ -")]
    NodeName {
        /// The text as given, cut to 64 characters.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The text is not a trust domain.
    #[error("trust domain {text:?} is not usable: {reason}; use a lower-case DNS name such as aim.internal")]
    TrustDomain {
        /// The text as given, cut to 64 characters.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The text is not a node identity of the form `spiffe://DOMAIN/node/ID`.
    #[error("{text:?} is not a node identity; expected spiffe://TRUST-DOMAIN/node/NODE-ID")]
    Spiffe {
        /// The text as given, cut to 128 characters.
        text: String,
    },
}

/// Cuts hostile text before it is put into a message.
fn excerpt(text: &str, limit: usize) -> String {
    text.chars().take(limit).collect()
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// Wraps a UUID.
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// Makes a version 4 UUID from 16 random bytes given by the caller.
            pub fn from_random(bytes: [u8; 16]) -> Self {
                Self(uuid::Builder::from_random_bytes(bytes).into_uuid())
            }

            /// The UUID inside.
            pub const fn as_uuid(&self) -> &Uuid {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = IdentityError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::try_parse(text)
                    .map(Self)
                    .map_err(|_| IdentityError::NotUuid { what: $what, text: excerpt(text, 64) })
            }
        }
    };
}

uuid_id!(
    /// A node's identity: made by the coordinator at enrolment, random, never reused.
    NodeId,
    "node id"
);
uuid_id!(
    /// Linux's id of one boot, `/proc/sys/kernel/random/boot_id`.
    BootId,
    "boot id"
);
uuid_id!(
    /// The id of one spool on one node: random at the spool's creation, so that a new spool repeats no key.
    SpoolId,
    "spool id"
);
uuid_id!(
    /// A user of the coordinator.
    UserId,
    "user id"
);

/// A node's label: 1 to 253 characters of `[A-Za-z0-9._-]`, shown as given, unique ignoring case.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(try_from = "String", into = "String")]
pub struct NodeName(String);

impl NodeName {
    /// Longest name, that of a DNS name.
    pub const MAX_LEN: usize = 253;

    /// The name as given.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The form that is compared and made unique: ASCII lower case.
    pub fn canonical(&self) -> String {
        self.0.to_ascii_lowercase()
    }
}

impl FromStr for NodeName {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = |reason| Err(IdentityError::NodeName { text: excerpt(text, 64), reason });
        if text.is_empty() {
            return refuse("it is empty");
        }
        if text.len() > Self::MAX_LEN {
            return refuse("it is longer than 253 bytes");
        }
        if !text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-')) {
            return refuse("it has a character outside A-Z a-z 0-9 . _ -");
        }
        if text.starts_with(['.', '-']) || text.ends_with(['.', '-']) {
            return refuse("it begins or ends with a dot or dash");
        }
        if text.contains("..") {
            return refuse("it has two dots in a row");
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for NodeName {
    type Error = IdentityError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<NodeName> for String {
    fn from(name: NodeName) -> Self {
        name.0
    }
}

impl AsRef<str> for NodeName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The SPIFFE trust domain of one AIM installation; frozen when the CA is made.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TrustDomain(String);

impl TrustDomain {
    /// The name as given.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The DNS name in the coordinator's certificate, whatever address is dialled.
    pub fn coordinator_server_name(&self) -> String {
        format!("coordinator.{}", self.0)
    }
}

impl Default for TrustDomain {
    fn default() -> Self {
        Self("aim.internal".to_owned())
    }
}

impl FromStr for TrustDomain {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = |reason| Err(IdentityError::TrustDomain { text: excerpt(text, 64), reason });
        // 242 leaves room for "coordinator." within a DNS name.
        if text.is_empty() || text.len() > 240 {
            return refuse("it is empty or longer than 240 bytes");
        }
        for label in text.split('.') {
            let known = label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
            if label.is_empty()
                || label.len() > 63
                || !known
                || label.starts_with('-')
                || label.ends_with('-')
            {
                return refuse("a label is not 1 to 63 of a-z 0-9 - without dash at its ends");
            }
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for TrustDomain {
    type Error = IdentityError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<TrustDomain> for String {
    fn from(domain: TrustDomain) -> Self {
        domain.0
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A node's SPIFFE identity, `spiffe://<trust domain>/node/<node id>`.
///
/// Source of the form: SPIFFE-ID specification, section 2.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SpiffeId {
    /// The trust domain.
    pub trust_domain: TrustDomain,
    /// The node.
    pub node: NodeId,
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}/node/{}", self.trust_domain, self.node)
    }
}

impl FromStr for SpiffeId {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused = || IdentityError::Spiffe { text: excerpt(text, 128) };
        let rest = text.strip_prefix("spiffe://").ok_or_else(refused)?;
        let (domain, path) = rest.split_once('/').ok_or_else(refused)?;
        let id = path.strip_prefix("node/").ok_or_else(refused)?;
        let node: NodeId = id.parse().map_err(|_| refused())?;
        // Only the one canonical spelling of a UUID is an identity.
        if node.to_string() != id {
            return Err(refused());
        }
        let trust_domain = domain.parse().map_err(|_| refused())?;
        Ok(Self { trust_domain, node })
    }
}

/// A certificate's serial number, lower-case hexadecimal without separators.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(transparent)]
pub struct CertificateSerial(String);

impl CertificateSerial {
    /// From the raw bytes in the certificate.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self(hex::encode(bytes))
    }

    /// The hexadecimal text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for CertificateSerial {
    type Err = hex::FromHexError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self::from_bytes(&hex::decode(text)?))
    }
}

impl fmt::Display for CertificateSerial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A SHA-256 digest: of a certificate, a public key (SPKI) or an inventory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sha256Digest([u8; 32]);

impl Sha256Digest {
    /// Hashes the bytes.
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::Digest;
        Self(sha2::Sha256::digest(bytes).into())
    }

    /// Wraps a finished digest.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Sha256Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl FromStr for Sha256Digest {
    type Err = hex::FromHexError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes)?;
        Ok(Self(bytes))
    }
}

// Hexadecimal in JSON, 32 raw bytes on the wire.
impl Serialize for Sha256Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Sha256Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
            text.parse().map_err(serde::de::Error::custom)
        } else {
            <[u8; 32]>::deserialize(deserializer).map(Self)
        }
    }
}
