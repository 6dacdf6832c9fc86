//! The token's MAC, the join string, and what secret types must not do.

use aim_common::enrolment::{
    JoinError, JoinString, Nonce, Secret, TokenClaims, TokenId, TokenKey, TokenPurpose, TokenSignature,
};
use aim_common::identity::{NodeName, Sha256Digest, TrustDomain};
use aim_common::units::EpochMs;
use proptest::prelude::*;

const PURPOSES: [TokenPurpose; 2] = [TokenPurpose::SaltMasterPub, TokenPurpose::AgentEnrol];

/// Claims as plain values that can be compared and changed.
#[derive(Debug, Clone, PartialEq)]
struct Plain {
    purpose: TokenPurpose,
    token: [u8; 16],
    nonce: [u8; 16],
    expires: i64,
    node: Option<String>,
}

impl Plain {
    fn claims(&self) -> TokenClaims {
        TokenClaims {
            purpose: self.purpose,
            token: uuid::Uuid::from_bytes(self.token).hyphenated().to_string().parse().unwrap(),
            nonce: Nonce::from_random(self.nonce),
            expires: EpochMs(self.expires),
            node: self.node.as_ref().map(|name| name.parse().unwrap()),
        }
    }
}

fn any_claims() -> impl Strategy<Value = Plain> {
    let node = proptest::option::of("[a-z0-9]{1,12}(\\.[a-z0-9]{1,4})?");
    (prop::sample::select(&PURPOSES[..]), any::<[u8; 16]>(), any::<[u8; 16]>(), any::<i64>(), node)
        .prop_map(|(purpose, token, nonce, expires, node)| Plain { purpose, token, nonce, expires, node })
}

/// Every claim set that differs in one bit, the purpose, or the binding.
fn neighbours(claims: &Plain) -> Vec<Plain> {
    let mut all = Vec::new();
    for bit in 0..128 {
        let (mut token, mut nonce) = (claims.clone(), claims.clone());
        token.token[bit / 8] ^= 1 << (bit % 8);
        nonce.nonce[bit / 8] ^= 1 << (bit % 8);
        all.extend([token, nonce]);
    }
    all.extend((0..64).map(|bit| Plain { expires: claims.expires ^ (1 << bit), ..claims.clone() }));
    all.extend(PURPOSES.map(|purpose| Plain { purpose, ..claims.clone() }));
    all.push(Plain { node: None, ..claims.clone() });
    let name = claims.node.clone().unwrap_or_default();
    for at in 0..name.len() * 8 {
        let mut bytes = name.clone().into_bytes();
        bytes[at / 8] ^= 1 << (at % 8);
        let changed = String::from_utf8(bytes).ok().filter(|text| text.parse::<NodeName>().is_ok());
        // A name in other letter case is the same node.
        all.extend(
            changed
                .filter(|text| !text.eq_ignore_ascii_case(&name))
                .map(|node| Plain { node: Some(node), ..claims.clone() }),
        );
    }
    all.retain(|other| other != claims);
    all
}

/// Reads the MAC's input back, which proves that two claim sets never share one.
fn read_back(input: &[u8]) -> Option<Plain> {
    fn field<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
        let (len, tail) = rest.split_first_chunk::<4>()?;
        let len = usize::try_from(u32::from_be_bytes(*len)).ok()?;
        let (bytes, tail) = tail.split_at_checked(len)?;
        *rest = tail;
        Some(bytes)
    }
    let mut rest = input.strip_prefix(&[1])?;
    let purpose = std::str::from_utf8(field(&mut rest)?).ok()?.parse().ok()?;
    let token = field(&mut rest)?.try_into().ok()?;
    let nonce = field(&mut rest)?.try_into().ok()?;
    let expires = i64::from_be_bytes(field(&mut rest)?.try_into().ok()?);
    let node = if rest == u32::MAX.to_be_bytes() {
        None
    } else {
        Some(String::from_utf8(field(&mut rest)?.to_vec()).ok()?)
    };
    Some(Plain { purpose, token, nonce, expires, node })
}

proptest! {
    #[test]
    fn enr_07_any_changed_bit_fails_the_check(claims in any_claims(), key in any::<[u8; 32]>()) {
        let key = TokenKey::new(key);
        let signature = key.sign(&claims.claims());
        prop_assert!(key.verify(&claims.claims(), &signature));
        for other in neighbours(&claims) {
            prop_assert!(!key.verify(&other.claims(), &signature), "{other:?}");
        }
        let bytes = hex::decode(signature.expose()).unwrap();
        for bit in 0..256 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let changed: TokenSignature = hex::encode(changed).parse().unwrap();
            prop_assert!(!key.verify(&claims.claims(), &changed), "signature bit {bit}");
        }
    }

    #[test]
    fn enr_08_the_mac_input_can_be_read_back_in_one_way(claims in any_claims()) {
        prop_assert_eq!(read_back(&claims.claims().mac_input()), Some(claims));
    }

    #[test]
    fn enr_08_different_claims_have_different_mac_inputs(one in any_claims(), other in any_claims()) {
        prop_assert_eq!(one.claims().mac_input() == other.claims().mac_input(), one == other);
        for near in neighbours(&one) {
            prop_assert_ne!(near.claims().mac_input(), one.claims().mac_input());
        }
    }

    #[test]
    fn enr_14_the_stored_hash_depends_on_key_and_token(token in any::<[u8; 16]>(), bit in 0_usize..128, key in any::<[u8; 32]>()) {
        let hash = |key: [u8; 32], token: [u8; 16]| TokenKey::new(key).storage_hash(&TokenId::from_random(token));
        let mut other_key = key;
        other_key[bit / 8] ^= 1 << (bit % 8);
        prop_assert_ne!(hash(key, token), hash(other_key, token));
        let expected = TokenId::from_random(token);
        prop_assert!(!hash(key, token).windows(16).any(|part| part == expected.expose_bytes()));
    }

    #[test]
    fn token_parts_have_one_writing(text in "[0-9a-fA-F-]{0,70}|\\PC{0,70}") {
        if let Ok(token) = text.parse::<TokenId>() { prop_assert_eq!(token.expose(), text.clone()); }
        if let Ok(nonce) = text.parse::<Nonce>() { prop_assert_eq!(nonce.expose(), text.clone()); }
        if let Ok(signature) = text.parse::<TokenSignature>() { prop_assert_eq!(signature.expose(), text.clone()); }
    }
}

/// Compiles only where the type does not implement the trait: with it, the method would be ambiguous.
macro_rules! assert_not_implemented {
    ($($type:ty: $bound:path),* $(,)?) => {
        $({
            trait Ambiguous<A> { fn here() {} }
            impl<T: ?Sized> Ambiguous<()> for T {}
            struct Implemented;
            impl<T: ?Sized + $bound> Ambiguous<Implemented> for T {}
            <$type as Ambiguous<_>>::here();
        })*
    };
}

#[test]
fn enr_11_secret_types_cannot_be_compared_or_shown() {
    macro_rules! secret {
        ($($type:ty),*) => { $(assert_not_implemented!(
            $type: PartialEq, $type: std::fmt::Debug, $type: std::fmt::Display, $type: serde::Serialize
        );)* };
    }
    secret!(Secret, TokenId, Nonce, TokenSignature, TokenKey, TokenClaims, JoinString);
}

/// The one place where signatures meet: the MAC's own comparison, whose time says nothing.
#[test]
fn enr_11_signatures_are_compared_by_the_mac_itself() {
    let source = include_str!("../../src/enrolment/token.rs");
    let verify = source.split_once("pub fn verify(").unwrap().1.split_once("\n    }").unwrap().0;
    assert!(verify.contains(".verify_slice(&signature.0).is_ok()"), "{verify}");
    let code: Vec<&str> = source.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    for comparison in [".0 ==", "== other", ".eq(", "PartialEq for", "PartialOrd for"] {
        assert!(!code.iter().any(|line| line.contains(comparison)), "{comparison} in the secrets' own file");
    }
}

fn join_string() -> JoinString {
    JoinString {
        addresses: vec!["[::1]:8443".to_owned(), "coordinator.example:8443".to_owned()],
        root_sha256: Sha256Digest::of(b"root"),
        trust_domain: TrustDomain::default(),
        token: TokenId::from_random([1; 16]),
        signature: TokenKey::new([2; 32]).sign(
            &Plain {
                purpose: TokenPurpose::AgentEnrol,
                token: [3; 16],
                nonce: [4; 16],
                expires: 5,
                node: None,
            }
            .claims(),
        ),
        nonce: Nonce::from_random([4; 16]),
        node: "gpu001".parse().unwrap(),
    }
}

/// A join string around this JSON.
fn around(json: &str) -> String {
    use base64::Engine;
    format!("aim1.{}", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(json))
}

fn inside(text: &str) -> serde_json::Value {
    use base64::Engine;
    let body = text.strip_prefix("aim1.").unwrap();
    serde_json::from_slice(&base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(body).unwrap()).unwrap()
}

fn refused(text: &str) -> JoinError {
    text.parse::<JoinString>().err().unwrap()
}

#[test]
fn a_join_string_is_read_as_written() {
    let secret = join_string().to_secret();
    let read: JoinString = format!("  {}\n", secret.expose()).parse().unwrap();
    assert_eq!(read.to_secret().expose(), secret.expose());
    assert_eq!(read.addresses, join_string().addresses);
    assert_eq!(read.node, join_string().node);
}

#[test]
fn a_damaged_join_string_is_refused_and_not_repeated() {
    let good = join_string().to_secret().expose().to_owned();
    for at in 5..good.len() {
        let cut = refused(&good[..at]).to_string();
        assert!(cut.contains("copy the whole line"), "{cut}");
    }
    assert_eq!(refused("aim2.abc"), JoinError::Prefix);
    assert_eq!(refused(&format!("aim1.{}", "A".repeat(1 << 20))), JoinError::Damaged("too long"));
    for (key, value) in [
        ("addresses", serde_json::json!([])),
        ("addresses", serde_json::json!(vec!["a:1"; 17])),
        ("extra", serde_json::json!(1)),
        ("token", serde_json::json!("secret-canary")),
        ("nonce", serde_json::json!("secret-canary")),
        ("signature", serde_json::json!("secret-canary")),
        ("node", serde_json::json!("../secret-canary")),
    ] {
        let mut json = inside(&good);
        json[key] = value;
        let error = refused(&around(&json.to_string()));
        assert!(!format!("{error} {error:?}").contains("canary"), "{error}");
    }
}

/// A type without this does not compile here.
fn wiped_at_its_end<T: zeroize::ZeroizeOnDrop>() {}

#[test]
fn log_06_every_type_of_a_secret_is_wiped_after_use() {
    wiped_at_its_end::<Secret>();
    wiped_at_its_end::<TokenId>();
    wiped_at_its_end::<Nonce>();
    wiped_at_its_end::<TokenSignature>();
    wiped_at_its_end::<TokenKey>();
}

#[test]
fn inj_02_deep_json_in_a_join_string_is_refused() {
    // As deep as the length allows, in the place of a known key.
    for deep in ["[".repeat(6000), format!("{{\"addresses\":{}", "[".repeat(6000)), "{\"a\":".repeat(2000)] {
        assert!(matches!(refused(&around(&deep)), JoinError::Damaged(_)));
    }
    // What the parser would still take is refused by its depth.
    let nested = |levels: usize| format!("{{\"addresses\":{}{}}}", "[".repeat(levels), "]".repeat(levels));
    assert_eq!(refused(&around(&nested(32))), JoinError::Damaged("nested too deep"));
    assert_eq!(refused(&around(&nested(31))), JoinError::Damaged("fields missing or unknown"));
}

proptest! {
    #[test]
    fn changed_join_strings_never_panic(at in any::<prop::sample::Index>(), byte in any::<char>()) {
        let good = join_string().to_secret().expose().to_owned();
        let mut characters: Vec<char> = good.chars().collect();
        *at.get_mut(&mut characters) = byte;
        let changed: String = characters.into_iter().collect();
        let _ = changed.parse::<JoinString>();
    }
}
