//! Access tokens: ES256 and nothing else, bound to a session that the database knows.

use aim_common::identity::UserId;
use aim_common::units::EpochMs;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::entropy::random_bytes;
use crate::seal::{SealError, SealingKey};
use crate::store::{Store, StoreError};

/// How long an access token lives.
pub(super) const ACCESS_MS: i64 = 10 * 60 * 1000;
/// The only algorithm (AUT-01).
const ALGORITHM: Algorithm = Algorithm::ES256;
const ISSUER: &str = "aim-coordinator";
const AUDIENCE: &str = "aim-api";
/// Clocks of two coordinators may differ by this.
const LEEWAY_S: i64 = 5;
/// Ours are some 400 bytes; longer ones are not looked at (AUT-03).
const MAX_TOKEN: usize = 1024;
/// A signing key is replaced when it is this old; the former one is accepted until then again.
const ROTATE_AFTER_MS: i64 = 90 * 24 * 3600 * 1000;
const CURRENT: &str = "jwt-signing-key";
const FORMER: &str = "jwt-signing-key-former";

/// Why there is no signing key.
#[derive(Debug, thiserror::Error)]
pub enum JwtError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The sealed key cannot be opened.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The key is not a P-256 key.
    #[error("the signing key of access tokens is not usable: {0}")]
    Key(String),
}

/// The token is not valid; why is nobody's business.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct InvalidToken;

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Claims {
    /// Issuer.
    pub iss: String,
    /// Audience.
    pub aud: String,
    /// The user's id.
    pub sub: UserId,
    /// The session's id.
    pub sid: String,
    /// The token's own id.
    pub jti: String,
    /// Issued at, seconds.
    pub iat: i64,
    /// Not before, seconds.
    pub nbf: i64,
    /// Ends, seconds.
    pub exp: i64,
}

struct Key {
    id: String,
    signs: EncodingKey,
    verifies: DecodingKey,
}

/// The signing key, and the former one while its tokens may still live.
pub(super) struct KeyRing {
    current: Key,
    former: Option<Key>,
}

impl std::fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeyRing({})", self.current.id)
    }
}

impl Key {
    fn from_pkcs8(pkcs8: &[u8]) -> Result<Self, JwtError> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8, &SystemRandom::new())
            .map_err(|error| JwtError::Key(error.to_string()))?;
        let public = pair.public_key().as_ref();
        let id: String = hex::encode(Sha256::digest(public)).chars().take(16).collect();
        Ok(Self { id, signs: EncodingKey::from_ec_der(pkcs8), verifies: DecodingKey::from_ec_der(public) })
    }
}

impl KeyRing {
    /// Opens the keys in the database; makes the first one, and a new one when the present one is old.
    pub(super) async fn load(store: &Store, seal: &SealingKey, now: EpochMs) -> Result<Self, JwtError> {
        match store.sealed_at(CURRENT).await? {
            None => store.seal_once(CURRENT, &fresh(seal)?, now).await?,
            Some(made) if now.since_ms(made) > ROTATE_AFTER_MS => {
                // The former text was sealed under the name of the current one; open() below knows.
                store.reseal(CURRENT, FORMER, &fresh(seal)?, now).await?;
            }
            Some(_) => {}
        }
        let open = |sealed: String| Key::from_pkcs8(&seal.open(CURRENT, &sealed)?);
        let current = store
            .sealed(CURRENT)
            .await?
            .ok_or_else(|| JwtError::Key("it vanished from the database".to_owned()))?;
        Ok(Self { current: open(current)?, former: store.sealed(FORMER).await?.map(open).transpose()? })
    }

    /// A token for this session, and when it ends.
    pub(super) fn issue(
        &self,
        user: UserId,
        session: &str,
        now: EpochMs,
    ) -> Result<(String, EpochMs), crate::api::problem::ApiError> {
        let seconds = now.0.div_euclid(1000);
        let ends = EpochMs(seconds * 1000).plus_ms(ACCESS_MS);
        let claims = Claims {
            iss: ISSUER.to_owned(),
            aud: AUDIENCE.to_owned(),
            sub: user,
            sid: session.to_owned(),
            jti: hex::encode(random_bytes::<16>()?),
            iat: seconds,
            nbf: seconds,
            exp: ends.0.div_euclid(1000),
        };
        let header = Header { kid: Some(self.current.id.clone()), ..Header::new(ALGORITHM) };
        let token = jsonwebtoken::encode(&header, &claims, &self.current.signs)
            .map_err(crate::api::problem::ApiError::internal)?;
        Ok((token, ends))
    }

    /// What a valid token says.
    pub(super) fn verify(&self, token: &str, now: EpochMs) -> Result<Claims, InvalidToken> {
        if token.len() > MAX_TOKEN || token.bytes().filter(|byte| *byte == b'.').take(3).count() != 2 {
            return Err(InvalidToken);
        }
        let key = self.key_of(token)?;
        let mut validation = Validation::new(ALGORITHM);
        validation.set_required_spec_claims(&["exp", "nbf", "iss", "aud", "sub"]);
        validation.set_issuer(&[ISSUER]);
        validation.set_audience(&[AUDIENCE]);
        // Times are judged below, by the coordinator's one clock.
        validation.validate_exp = false;
        let claims = jsonwebtoken::decode::<Claims>(token, &key.verifies, &validation)
            .map_err(|_| InvalidToken)?
            .claims;
        let seconds = now.0.div_euclid(1000);
        let lives = claims.nbf <= seconds + LEEWAY_S
            && claims.iat <= seconds + LEEWAY_S
            && seconds < claims.exp
            && claims.exp - claims.iat <= ACCESS_MS / 1000;
        if lives { Ok(claims) } else { Err(InvalidToken) }
    }

    /// The key that the header names; a header that says more than ours do is refused whole.
    fn key_of(&self, token: &str) -> Result<&Key, InvalidToken> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct OurHeader {
            typ: String,
            alg: String,
            kid: String,
        }
        let encoded = token.split('.').next().ok_or(InvalidToken)?;
        let bytes = URL_SAFE_NO_PAD.decode(encoded).map_err(|_| InvalidToken)?;
        let header: OurHeader = serde_json::from_slice(&bytes).map_err(|_| InvalidToken)?;
        if header.alg != "ES256" || header.typ != "JWT" {
            return Err(InvalidToken);
        }
        [Some(&self.current), self.former.as_ref()]
            .into_iter()
            .flatten()
            .find(|key| key.id == header.kid)
            .ok_or(InvalidToken)
    }
}

fn fresh(seal: &SealingKey) -> Result<String, JwtError> {
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
        .map_err(|_| JwtError::Key("the kernel gave no random bytes".to_owned()))?;
    Ok(seal.seal(CURRENT, pkcs8.as_ref())?)
}

#[cfg(test)]
#[path = "jwt_tests.rs"]
mod tests;
