//! Names and identities at the edge.

use aim_common::identity::{CertificateSerial, NodeId, NodeName, Sha256Digest, SpiffeId, TrustDomain};
use proptest::prelude::*;

/// The rule in its simplest words. Mixed case is shown as given and compared in lower case.
fn is_node_name(text: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c != '.' && c != '-');
    (1..=253).contains(&text.len())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
        && edge(text.chars().next())
        && edge(text.chars().last())
        && !text.contains("..")
}

#[test]
fn idn_06_hostile_node_names_are_refused() {
    for text in [
        "",
        ".",
        "..",
        "-",
        "a..b",
        ".a",
        "a.",
        "-a",
        "a-",
        "a b",
        "a/b",
        "../a",
        "a\0",
        "a\n",
        "\na",
        "a%2e",
        "ä",
        "ａ",
        "a\u{200b}b",
        "\u{202e}a",
        "a:b",
        "a,b",
        "a[1]",
        "*",
        "a'b",
        "a\"b",
        "$a",
        "`a`",
        "a\\b",
    ] {
        assert!(text.parse::<NodeName>().is_err(), "{text:?}");
    }
    assert!("a".repeat(253).parse::<NodeName>().is_ok());
    assert!("a".repeat(254).parse::<NodeName>().is_err());
}

#[test]
fn idn_06_names_are_compared_after_one_normalisation() {
    let (given, other): (NodeName, NodeName) =
        ("GPU-01.Rack_1".parse().unwrap(), "gpu-01.rack_1".parse().unwrap());
    assert_eq!(given.as_str(), "GPU-01.Rack_1");
    assert_eq!(given.canonical(), other.canonical());
    // The one normalisation is its own fixed point.
    assert_eq!(given.canonical().parse::<NodeName>().unwrap().canonical(), given.canonical());
}

proptest! {
    #[test]
    fn idn_06_node_names_are_exactly_those_of_the_rule(text in "[a-zA-Z0-9._-]{0,8}|\\PC{0,8}|[a.-]{250,256}") {
        prop_assert_eq!(text.parse::<NodeName>().is_ok(), is_node_name(&text), "{:?}", text);
    }

    #[test]
    fn idn_06_an_identity_has_one_writing(bytes in any::<[u8; 16]>(), text in "spiffe://[a-z.]{0,6}/(node/)?[0-9a-f-]{0,36}|\\PC{0,60}") {
        let identity = SpiffeId { trust_domain: TrustDomain::default(), node: NodeId::from_random(bytes) };
        let written = identity.to_string();
        prop_assert_eq!(&written.parse::<SpiffeId>().unwrap(), &identity);
        for other in [
            written.to_uppercase(),
            written.replace('-', ""),
            format!("{written}/"),
            format!("{written}?x"),
            format!("{written} "),
            written.replace("/node/", "/node//"),
            written.replace("/node/", "/user/"),
            written.replace("spiffe://", "spiffe://x@"),
            written.replace("aim.internal", "AIM.internal"),
            written.replace("aim.internal", ""),
            written.replace("aim.internal", "aim.internal:1"),
        ] {
            prop_assert!(other.parse::<SpiffeId>().map_or(true, |read| read.to_string() == other && read != identity), "{}", other);
        }
        if let Ok(read) = text.parse::<SpiffeId>() {
            prop_assert_eq!(read.to_string(), text);
        }
    }

    #[test]
    fn identity_parsers_never_panic(text in "\\PC{0,300}") {
        let _ = (text.parse::<TrustDomain>(), text.parse::<CertificateSerial>(), text.parse::<Sha256Digest>(), text.parse::<NodeId>());
    }
}

#[test]
fn trust_domains_are_lower_case_dns_names() {
    for text in
        ["", ".", "a.", ".a", "A", "a_b", "-a", "a-", "a..b", "a/b", &"a".repeat(64), &"a.".repeat(121)]
    {
        assert!(text.parse::<TrustDomain>().is_err(), "{text:?}");
    }
    let domain: TrustDomain = "hpc-1.example".parse().unwrap();
    assert_eq!(domain.coordinator_server_name(), "coordinator.hpc-1.example");
}
