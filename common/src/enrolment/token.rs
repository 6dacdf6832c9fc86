//! The one-time token: a UUID, a nonce, and an HMAC over everything it is bound to.

use std::str::FromStr;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use uuid::Uuid;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::identity::NodeName;
use crate::units::EpochMs;

/// Bytes of a nonce.
pub const NONCE_LEN: usize = 16;
/// Version byte in front of the MAC's input.
const MAC_VERSION: u8 = 1;

/// Why a text is not a part of a token. It never repeats the text.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the {0} is malformed")]
pub struct TokenFormatError(pub &'static str);

/// A text that must not be shown: no `Debug`, `Display`, `PartialEq` or `Serialize` (ENR-11).
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Secret(String);

impl Secret {
    /// Takes the text.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text, for the one place that sends or checks it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// What a token is for; a token of one purpose is refused for another (ENR-09).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TokenPurpose {
    /// Read the Salt master's public key.
    SaltMasterPub,
    /// Enrol an agent.
    AgentEnrol,
}

impl TokenPurpose {
    /// The word in the MAC's input, the database and the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SaltMasterPub => "salt-master-pub",
            Self::AgentEnrol => "agent-enrol",
        }
    }
}

impl FromStr for TokenPurpose {
    type Err = TokenFormatError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::SaltMasterPub, Self::AgentEnrol]
            .into_iter()
            .find(|purpose| purpose.as_str() == text)
            .ok_or(TokenFormatError("purpose"))
    }
}

/// The token itself: a random UUID. Secret until it is redeemed.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct TokenId([u8; 16]);

impl TokenId {
    /// A version 4 UUID from 16 random bytes.
    pub fn from_random(bytes: [u8; 16]) -> Self {
        Self(uuid::Builder::from_random_bytes(bytes).into_uuid().into_bytes())
    }

    /// The hyphenated text, for the answer to whoever issued it and for the join string.
    pub fn expose(&self) -> String {
        Uuid::from_bytes(self.0).hyphenated().to_string()
    }

    /// The 16 bytes, for the MAC and the keyed hash.
    pub fn expose_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl FromStr for TokenId {
    type Err = TokenFormatError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let uuid = Uuid::try_parse(text).map_err(|_| TokenFormatError("token"))?;
        if uuid.hyphenated().to_string() != text {
            return Err(TokenFormatError("token"));
        }
        Ok(Self(uuid.into_bytes()))
    }
}

/// 16 random bytes, never accepted twice.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Nonce([u8; NONCE_LEN]);

impl Nonce {
    /// Wraps random bytes.
    pub const fn from_random(bytes: [u8; NONCE_LEN]) -> Self {
        Self(bytes)
    }

    /// Lower-case hexadecimal.
    pub fn expose(&self) -> String {
        hex::encode(self.0)
    }

    /// The bytes.
    pub fn expose_bytes(&self) -> &[u8; NONCE_LEN] {
        &self.0
    }
}

impl FromStr for Nonce {
    type Err = TokenFormatError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; NONCE_LEN];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| TokenFormatError("nonce"))?;
        if text.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(TokenFormatError("nonce"));
        }
        Ok(Self(bytes))
    }
}

/// The HMAC-SHA256 of a token's claims.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct TokenSignature([u8; 32]);

impl TokenSignature {
    /// Lower-case hexadecimal.
    pub fn expose(&self) -> String {
        hex::encode(self.0)
    }
}

impl FromStr for TokenSignature {
    type Err = TokenFormatError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| TokenFormatError("signature"))?;
        if text.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(TokenFormatError("signature"));
        }
        Ok(Self(bytes))
    }
}

/// Everything the MAC covers.
#[derive(Clone)]
pub struct TokenClaims {
    /// What it is for.
    pub purpose: TokenPurpose,
    /// The token.
    pub token: TokenId,
    /// The nonce.
    pub nonce: Nonce,
    /// From this moment on it is refused.
    pub expires: EpochMs,
    /// The node it is bound to; `None` where any node may use it (Salt only).
    pub node: Option<NodeName>,
}

impl TokenClaims {
    /// The MAC's input: the version, then each field with its length as u32 big endian in front (ENR-08).
    ///
    /// The node's name enters in its canonical form; an unbound token has the length `u32::MAX` and no bytes there.
    pub fn mac_input(&self) -> Vec<u8> {
        fn field(input: &mut Vec<u8>, bytes: &[u8]) {
            // Every field is far below 4 GiB by its type.
            let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX - 1);
            input.extend_from_slice(&len.to_be_bytes());
            input.extend_from_slice(bytes);
        }
        let mut input = vec![MAC_VERSION];
        field(&mut input, self.purpose.as_str().as_bytes());
        field(&mut input, self.token.expose_bytes());
        field(&mut input, self.nonce.expose_bytes());
        field(&mut input, &self.expires.0.to_be_bytes());
        match &self.node {
            Some(node) => field(&mut input, node.canonical().as_bytes()),
            None => input.extend_from_slice(&u32::MAX.to_be_bytes()),
        }
        input
    }
}

/// The KeyVault's HMAC key: 32 random bytes.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct TokenKey([u8; 32]);

impl TokenKey {
    /// Wraps the key's bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    fn mac(&self, input: &[u8]) -> Hmac<Sha256> {
        // HMAC takes keys of any length, so that this cannot fail with 32 bytes.
        #[expect(clippy::expect_used, reason = "HMAC accepts every key length")]
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC accepts every key length");
        mac.update(input);
        mac
    }

    /// Signs the claims.
    pub fn sign(&self, claims: &TokenClaims) -> TokenSignature {
        TokenSignature(self.mac(&claims.mac_input()).finalize().into_bytes().into())
    }

    /// Checks a signature in constant time.
    #[must_use]
    pub fn verify(&self, claims: &TokenClaims, signature: &TokenSignature) -> bool {
        self.mac(&claims.mac_input()).verify_slice(&signature.0).is_ok()
    }

    /// The keyed hash under which the database knows a token: HMAC over a domain label and the token (ENR-14).
    pub fn storage_hash(&self, token: &TokenId) -> [u8; 32] {
        let mut input = b"aim token row v1".to_vec();
        input.extend_from_slice(token.expose_bytes());
        self.mac(&input).finalize().into_bytes().into()
    }
}

/// Secrets cannot be shown, compared in a hurry, or written out (ENR-11): none of these compiles.
///
/// ```compile_fail,E0277
/// let secret = aim_common::enrolment::Secret::new(String::new());
/// format!("{secret:?}");
/// ```
/// ```compile_fail,E0277
/// let secret = aim_common::enrolment::Secret::new(String::new());
/// format!("{secret}");
/// ```
/// ```compile_fail,E0369
/// let secret = aim_common::enrolment::Secret::new(String::new());
/// let _ = secret == secret;
/// ```
/// ```compile_fail,E0369
/// fn same(one: aim_common::enrolment::TokenSignature, other: aim_common::enrolment::TokenSignature) -> bool {
///     one == other
/// }
/// ```
/// ```compile_fail,E0277
/// fn shown(token: aim_common::enrolment::TokenId, nonce: aim_common::enrolment::Nonce) -> String {
///     format!("{token:?} {nonce:?}")
/// }
/// ```
/// ```compile_fail,E0277
/// fn shown(key: aim_common::enrolment::TokenKey, claims: aim_common::enrolment::TokenClaims) -> String {
///     format!("{key:?} {claims:?}")
/// }
/// ```
#[cfg(doctest)]
pub mod enr_11_secrets_are_not_shown {}
