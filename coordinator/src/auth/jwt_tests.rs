//! What a forger tries, against the one key ring.

use jsonwebtoken::{EncodingKey, Header};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const NOW: EpochMs = EpochMs(1_800_000_000_000);

fn ring() -> KeyRing {
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
    KeyRing { current: Key::from_pkcs8(pkcs8.as_ref()).unwrap(), former: None }
}

fn user() -> UserId {
    UserId::from_random([7; 16])
}

fn claims() -> Value {
    let seconds = NOW.0 / 1000;
    json!({"iss": ISSUER, "aud": AUDIENCE, "sub": user(), "sid": "s", "jti": "j",
        "iat": seconds, "nbf": seconds, "exp": seconds + 600})
}

/// Signed by the ring's own key: only what the token says can be wrong.
fn signed(ring: &KeyRing, claims: &Value) -> String {
    let header = Header { kid: Some(ring.current.id.clone()), ..Header::new(ALGORITHM) };
    jsonwebtoken::encode(&header, claims, &ring.current.signs).unwrap()
}

/// Signed by the ring's own key over a header of any text.
fn with_header(ring: &KeyRing, header: &str) -> String {
    let claims = URL_SAFE_NO_PAD.encode(claims().to_string());
    let message = format!("{}.{claims}", URL_SAFE_NO_PAD.encode(header));
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &ring.current.signs, ALGORITHM).unwrap();
    format!("{message}.{signature}")
}

#[test]
fn aut_01_one_algorithm_and_no_key_from_the_token() {
    assert_eq!(Validation::new(ALGORITHM).algorithms, [Algorithm::ES256], "one entry");
    let ring = ring();
    let kid = ring.current.id.clone();
    assert!(
        ring.verify(&with_header(&ring, &json!({"typ": "JWT", "alg": "ES256", "kid": kid}).to_string()), NOW)
            .is_ok()
    );
    let hostile = [
        json!({"typ": "JWT", "alg": "none", "kid": kid}),
        json!({"typ": "JWT", "alg": "NoNe", "kid": kid}),
        json!({"typ": "JWT", "alg": "es256", "kid": kid}),
        json!({"typ": "JWT", "alg": "HS256", "kid": kid}),
        json!({"typ": "JWT", "alg": "RS256", "kid": kid}),
        json!({"typ": "JWT", "alg": "PS256", "kid": kid}),
        json!({"typ": "JWT", "alg": "ES384", "kid": kid}),
        json!({"typ": "JWT", "kid": kid}),
        json!({"typ": "JWT", "alg": "ES256"}),
        json!({"typ": "JWT", "alg": "ES256", "kid": "../../etc/passwd"}),
        json!({"typ": "JWT", "alg": "ES256", "kid": "' OR 1=1 --"}),
        json!({"typ": "JWT", "alg": "ES256", "kid": kid, "jwk": {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}}),
        json!({"typ": "JWT", "alg": "ES256", "kid": kid, "jku": "https://evil.example.org/keys"}),
        json!({"typ": "JWT", "alg": "ES256", "kid": kid, "x5u": "https://evil.example.org/cert"}),
        json!({"typ": "JWT", "alg": "ES256", "kid": kid, "crit": ["exp"]}),
    ];
    for header in hostile {
        let token = with_header(&ring, &header.to_string());
        assert_eq!(ring.verify(&token, NOW), Err(InvalidToken), "{header}");
        let unsigned = token.rsplit_once('.').unwrap().0;
        assert_eq!(ring.verify(&format!("{unsigned}."), NOW), Err(InvalidToken), "{header} unsigned");
    }
}

#[test]
fn aut_01_the_public_key_is_no_secret_of_hs256() {
    let ring = ring();
    let header = json!({"typ": "JWT", "alg": "HS256", "kid": ring.current.id});
    let secret = EncodingKey::from_secret(ring.current.verifies.try_get_as_bytes().unwrap());
    let message = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header.to_string()),
        URL_SAFE_NO_PAD.encode(claims().to_string())
    );
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &secret, Algorithm::HS256).unwrap();
    assert_eq!(ring.verify(&format!("{message}.{signature}"), NOW), Err(InvalidToken));
}

#[test]
fn aut_02_every_claim_is_required_and_checked() {
    let ring = ring();
    assert!(ring.verify(&signed(&ring, &claims()), NOW).is_ok());
    for claim in ["iss", "aud", "sub", "sid", "jti", "iat", "nbf", "exp"] {
        let mut without = claims();
        without.as_object_mut().unwrap().remove(claim);
        assert_eq!(ring.verify(&signed(&ring, &without), NOW), Err(InvalidToken), "without {claim}");
    }
    let seconds = NOW.0 / 1000;
    for (claim, value) in [
        ("iss", json!("somebody")),
        ("aud", json!("aim-console")),
        ("sub", json!("not an id")),
        ("exp", json!(seconds)),
        ("exp", json!(seconds + 100_000)),
        ("nbf", json!(seconds + 31)),
        ("iat", json!(seconds + 31)),
        ("exp", json!("9999999999")),
    ] {
        let mut changed = claims();
        changed[claim] = value.clone();
        assert_eq!(ring.verify(&signed(&ring, &changed), NOW), Err(InvalidToken), "{claim} = {value}");
    }
}

#[test]
fn aut_02_a_token_ends_with_its_time() {
    let ring = ring();
    let (token, ends) = ring.issue(user(), "s", NOW).unwrap();
    assert!(ends.since_ms(NOW) <= 15 * 60 * 1000, "AUT-05: at most 15 minutes");
    assert!(ring.verify(&token, ends.plus_ms(-1)).is_ok());
    assert_eq!(ring.verify(&token, ends), Err(InvalidToken));
    assert_eq!(ring.verify(&token, NOW.plus_ms(-31_000)), Err(InvalidToken));
}

#[test]
fn aut_03_duplicate_keys_and_huge_tokens_are_refused() {
    let ring = ring();
    let kid = &ring.current.id;
    let doubled = format!(r#"{{"typ":"JWT","alg":"none","alg":"ES256","kid":"{kid}"}}"#);
    assert_eq!(ring.verify(&with_header(&ring, &doubled), NOW), Err(InvalidToken));
    let mut long = claims();
    long["jti"] = json!("j".repeat(1_000_000));
    assert_eq!(ring.verify(&signed(&ring, &long), NOW), Err(InvalidToken));
    assert_eq!(ring.verify(&".".repeat(1_000_000), NOW), Err(InvalidToken));
    assert_eq!(ring.verify("", NOW), Err(InvalidToken));
}

proptest! {
    #[test]
    fn aut_03_no_change_of_a_token_passes(at in 0_usize..600, flip in 1_u8..=255) {
        let ring = ring();
        let (token, _) = ring.issue(user(), "s", NOW).unwrap();
        let mut bytes = token.clone().into_bytes();
        let at = at % bytes.len();
        bytes[at] ^= flip;
        if let Ok(changed) = String::from_utf8(bytes) {
            // The last character of a base64 text may carry unused bits; then it must not decode at all.
            prop_assert_eq!(ring.verify(&changed, NOW), Err(InvalidToken));
        }
        prop_assert_eq!(ring.verify(&token[..at], NOW), Err(InvalidToken));
    }
}

#[tokio::test]
async fn aut_11_the_former_key_is_accepted_while_the_new_one_signs() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open_sqlite(&directory.path().join("test.db")).await.unwrap();
    let seal = SealingKey::load_or_create(&directory.path().join("seal.key")).unwrap();
    let first = KeyRing::load(&store, &seal, NOW).await.unwrap();
    let (token, _) = first.issue(user(), "s", NOW).unwrap();
    let again = KeyRing::load(&store, &seal, NOW).await.unwrap();
    assert_eq!(again.current.id, first.current.id, "a restart keeps the key");

    let later = NOW.plus_ms(ROTATE_AFTER_MS + 1);
    let rotated = KeyRing::load(&store, &seal, later).await.unwrap();
    assert_ne!(rotated.current.id, first.current.id);
    assert!(rotated.verify(&token, NOW).is_ok(), "two keys overlap");
    let twice = KeyRing::load(&store, &seal, later.plus_ms(ROTATE_AFTER_MS + 1)).await.unwrap();
    assert_eq!(twice.verify(&token, NOW), Err(InvalidToken), "and no more than two");

    let other = SealingKey::load_or_create(&directory.path().join("other.key")).unwrap();
    assert!(KeyRing::load(&store, &other, later).await.is_err(), "the database alone does not sign");
}
