//! Permissions against a reference of ten lines.

use aim_common::permission::{ObjectScope, Permission};
use proptest::prelude::*;

/// The rule in its simplest words, on the text itself.
fn reference(granted: &str, resource: &str, verb: &str, object: ObjectScope<'_>) -> bool {
    let parts: Vec<&str> = granted.splitn(3, ':').collect();
    let [r, v, s] = parts[..] else { return false };
    (r == "*" || r == resource)
        && (v == "*" || v == verb)
        && (s == "*"
            || (s == "own" && object.owned)
            || object.groups.iter().any(|group| s == format!("group:{group}")))
}

const WORDS: &[&str] =
    &["*", "hosts", "host", "hosts.x", "read", "reads", "h", "read-secrets", "own", "group"];
const SCOPES: &[&str] = &["*", "own", "group:a", "group:ab", "group:own", "group:hosts"];

/// A small generator of numbers for a million cheap pairs; its quality does not matter.
fn next(state: &mut u64) -> usize {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    usize::try_from(*state >> 33).unwrap()
}

#[test]
fn rba_02_a_million_random_pairs_agree_with_the_reference() {
    let mut state = 20_261_123;
    let mut allowed = 0_u32;
    let mut pick = |from: &[&'static str]| from[next(&mut state) % from.len()];
    for round in 0..1_000_000 {
        let granted = format!("{}:{}:{}", pick(WORDS), pick(WORDS), pick(SCOPES));
        let permission: Permission = granted.parse().unwrap();
        let (resource, verb) = (pick(&WORDS[1..]), pick(&WORDS[1..]));
        let groups: Vec<String> =
            SCOPES[2..2 + round % 3].iter().map(|scope| scope.replace("group:", "")).collect();
        let object = ObjectScope { owned: round % 2 == 0, groups: &groups };
        let expected = reference(&granted, resource, verb, object);
        assert_eq!(
            permission.allows(resource, verb, object),
            expected,
            "{granted} {resource}:{verb} {object:?}"
        );
        allowed += u32::from(expected);
    }
    assert!(
        (10_000..500_000).contains(&allowed),
        "{allowed} of a million were allowed: the pairs prove little"
    );
}

#[test]
fn rba_02_malformed_permissions_are_refused_when_written() {
    for text in [
        "",
        ":",
        "::",
        "hosts",
        "hosts:*",
        "hosts:read",
        "hosts:read:",
        ":read:*",
        "hosts::*",
        "hosts:read:*:*",
        "hosts:read:x",
        "hosts:read:own:own",
        "hosts:read:group:",
        "hosts:read:group:*",
        "hosts:read:group:a:b",
        "Hosts:read:*",
        "hosts:READ:*",
        "hosts:read:Own",
        " hosts:read:*",
        "hosts:read:* ",
        "hosts: read:*",
        "hosts:read:*\n",
        "hоsts:read:*",
        "hosts:rea\u{200b}d:*",
        "**:read:*",
        "host*:read:*",
        "1hosts:read:*",
        "hosts\0:read:*",
    ] {
        assert!(text.parse::<Permission>().is_err(), "{text:?}");
    }
    assert!(format!("{}:read:*", "a".repeat(65)).parse::<Permission>().is_err());
}

#[test]
fn rba_02_segments_match_whole() {
    let hosts: Permission = "hosts:read:*".parse().unwrap();
    let any = ObjectScope { owned: true, groups: &[] };
    assert!(hosts.allows("hosts", "read", any));
    assert!(!hosts.allows("hosts", "read-secrets", any));
    assert!(!hosts.allows("hosts", "*", any));
    assert!(!hosts.allows("*", "read", any));
}

fn any_permission() -> impl Strategy<Value = Permission> {
    let word = prop::sample::select(WORDS);
    (word.clone(), word, prop::sample::select(SCOPES))
        .prop_map(|(resource, verb, scope)| format!("{resource}:{verb}:{scope}").parse().unwrap())
}

proptest! {
    /// Whoever may hand out a permission can do all that it allows (RBA-04).
    #[test]
    fn rba_04_what_includes_another_allows_all_of_it(
        mine in any_permission(),
        theirs in any_permission(),
        resource in prop::sample::select(&WORDS[1..]),
        verb in prop::sample::select(&WORDS[1..]),
        owned in any::<bool>(),
        groups in prop::collection::vec("a|ab|own", 0..3),
    ) {
        let object = ObjectScope { owned, groups: &groups };
        if mine.includes(&theirs) && theirs.allows(resource, verb, object) {
            prop_assert!(mine.allows(resource, verb, object), "{mine} {theirs}");
        }
    }

    #[test]
    fn permissions_are_read_as_written(permission in any_permission(), text in "\\PC{0,40}") {
        prop_assert_eq!(permission.to_string().parse::<Permission>().unwrap(), permission);
        if let Ok(parsed) = text.parse::<Permission>() {
            prop_assert_eq!(parsed.to_string(), text);
        }
    }
}
