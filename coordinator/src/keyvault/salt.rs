//! The Salt master's public key: imported by people, handed out for tokens, its bytes never changed.

use std::net::IpAddr;

use aim_common::api::salt::MasterKeyView;
use aim_common::enrolment::TokenPurpose;
use aim_common::identity::Sha256Digest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use x509_parser::prelude::FromDer;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::KeyVault;
use super::error::{Requester, VaultError};
use super::journal::Record;
use super::tokens::{PresentedToken, Use};
use crate::store::Store;
use crate::store::audit::Decision;
use crate::store::salt::SaltKeyRow;

/// Largest key file; an RSA key of 16,384 bits has 3 KiB.
const MAX_PEM_BYTES: usize = 16 * 1024;

/// A Salt master's public key with its file's exact bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SaltMasterKey {
    pem: String,
    fingerprint: String,
}

impl SaltMasterKey {
    /// Checks that the file holds exactly one public key.
    pub fn parse(pem: &str) -> Result<Self, VaultError> {
        let refuse = |detail: &str| Err(VaultError::invalid("/pem", detail));
        if pem.len() > MAX_PEM_BYTES {
            return refuse("the file is larger than 16 KiB; give /etc/salt/pki/master/master.pub");
        }
        if pem.contains("PRIVATE KEY") {
            return refuse(
                "the file holds a private key; give the public one, /etc/salt/pki/master/master.pub",
            );
        }
        // Salt itself drops blank lines, then the first and the last one, and hashes the rest with its line feeds.
        let lines: Vec<&str> = pem.split_inclusive('\n').filter(|line| !line.trim().is_empty()).collect();
        let [first, body @ .., last] = lines.as_slice() else {
            return refuse("the file holds no key in PEM");
        };
        let framed = ["PUBLIC KEY", "RSA PUBLIC KEY"].iter().any(|label| {
            first.trim_end() == format!("-----BEGIN {label}-----")
                && last.trim_end() == format!("-----END {label}-----")
        });
        let text: String = body.iter().flat_map(|line| line.trim().chars()).collect();
        let Ok(der) = STANDARD.decode(&text) else {
            return refuse("the file does not hold exactly one public key in PEM");
        };
        // RSA PUBLIC KEY is PKCS#1: a SEQUENCE of two numbers instead of a SubjectPublicKeyInfo.
        let is_key = if first.contains("RSA") {
            der.first() == Some(&0x30)
        } else {
            SubjectPublicKeyInfo::from_der(&der).is_ok_and(|(rest, _)| rest.is_empty())
        };
        if !framed || !is_key {
            return refuse("the file does not hold exactly one public key in PEM");
        }
        let digest = Sha256Digest::of(body.concat().as_bytes());
        let pairs: Vec<String> = digest.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { pem: pem.to_owned(), fingerprint: pairs.join(":") })
    }

    /// SHA-256 as Salt's `master_finger` wants it.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }
}

fn view(row: SaltKeyRow) -> Result<MasterKeyView, VaultError> {
    let key = SaltMasterKey::parse(&row.pem)?;
    Ok(MasterKeyView {
        fingerprint: key.fingerprint,
        pem: row.pem,
        imported_at: row.imported_at,
        imported_by: row.imported_by,
    })
}

/// Imports the key; a different one is there already unless `replace` says so. Works with and without a running server.
pub async fn import_salt_key(
    store: &Store,
    pem: &str,
    replace: bool,
    at: aim_common::units::EpochMs,
    requester: &Requester,
) -> Result<MasterKeyView, VaultError> {
    let key = SaltMasterKey::parse(pem)?;
    let record = crate::store::audit::NewAuditRecord {
        at,
        actor: requester.actor.clone(),
        source: requester.source.clone(),
        action: "salt.master_key_import",
        target: format!("salt-master-key:{}", key.fingerprint),
        decision: Decision::Allowed,
        detail: serde_json::json!({ "replace": replace }),
        request_id: requester.request_id.clone(),
    };
    let row = SaltKeyRow { pem: key.pem, imported_at: at, imported_by: requester.actor.clone() };
    if store.salt_key_put(&row, replace, &record).await? {
        view(row)
    } else {
        Err(VaultError::Conflict(
            "a different Salt master key is there already; compare the fingerprints, then import with replace"
                .to_owned(),
        ))
    }
}

impl KeyVault {
    /// Imports the Salt master's public key.
    pub async fn put_salt_key(
        &self,
        pem: &str,
        replace: bool,
        requester: &Requester,
    ) -> Result<MasterKeyView, VaultError> {
        import_salt_key(&self.store, pem, replace, self.clock.now(), requester).await
    }

    /// The imported key.
    pub async fn salt_key(&self) -> Result<Option<MasterKeyView>, VaultError> {
        self.store.salt_key().await?.map(view).transpose()
    }

    /// Hands the key out for a token, in base64 of its exact bytes. Without a key the token is not consumed.
    pub async fn redeem_salt_token(
        &self,
        presented: Option<&PresentedToken>,
        source: IpAddr,
        requester: &Requester,
    ) -> Result<String, VaultError> {
        self.admit(source)?;
        self.check_fence()?;
        let wanted = Use { purpose: TokenPurpose::SaltMasterPub, node: None, public_key: None, source };
        let good = self.examine(presented, &wanted, requester).await?;
        let Some(key) = self.store.salt_key().await? else {
            return Err(VaultError::Unavailable(
                "no Salt master key was imported yet; import it with PUT /api/v1/salt/master-key, then use the same \
                 token again",
            ));
        };
        let detail = serde_json::json!({
            "purpose": wanted.purpose.as_str(),
            "node": good.stored.node.as_ref().map(ToString::to_string),
        });
        let target = format!("token:{}", good.stored.id);
        let record = self.audit(requester, "token.redeem", target, Decision::Allowed, detail);
        if !self.store.token_redeem(&good.hash, &record).await? {
            return Err(self.refuse_late(&good, &wanted, requester).await?);
        }
        self.redeemed(&good).await?;
        Ok(STANDARD.encode(key.pem))
    }

    /// The database says that the token is redeemed; from now on the journal says so too.
    pub(super) async fn redeemed(&self, good: &super::tokens::GoodToken) -> Result<(), VaultError> {
        self.deadlines.forget(&good.hash);
        self.remember_redeemed(good.hash, good.stored.expires_at);
        let record = Record::Redeemed { token: good.hash, expires_at: good.stored.expires_at };
        Ok(self.journal.append(&record).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by openssl; the fingerprint by `grep -v ---- key | sha256sum`.
    const PEM: &str = include_str!("testdata/salt-master.pub");

    #[test]
    fn the_fingerprint_is_what_salt_shows() {
        let key = SaltMasterKey::parse(PEM).unwrap();
        assert_eq!(key.fingerprint(), include_str!("testdata/salt-master.fingerprint").trim());
        let without_last_line_feed = SaltMasterKey::parse(PEM.trim_end()).unwrap();
        assert_eq!(without_last_line_feed.fingerprint(), key.fingerprint());
        assert_eq!(without_last_line_feed.pem, PEM.trim_end(), "the bytes stay as they are");
    }

    #[test]
    fn enr_18_exactly_one_public_key_is_taken() {
        let twice = format!("{PEM}{PEM}");
        let private = PEM.replace("PUBLIC", "PRIVATE");
        let damaged = PEM.replacen("MII", "!!!", 1);
        let cut = PEM.lines().take(3).collect::<Vec<_>>().join("\n");
        let shortened: Vec<&str> =
            PEM.split_inclusive('\n').enumerate().filter(|(at, _)| *at != 2).map(|(_, line)| line).collect();
        for (what, pem) in [
            ("two keys", twice),
            ("private key", private),
            ("damaged", damaged),
            ("cut", cut),
            ("a line missing", shortened.concat()),
            ("text before", format!("hello\n{PEM}")),
            ("empty", String::new()),
            ("huge", "A".repeat(MAX_PEM_BYTES + 1)),
        ] {
            assert!(SaltMasterKey::parse(&pem).is_err(), "{what}");
        }
    }
}
