use std::net::SocketAddr;

use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use super::{ConfigError, parse, read, to_toml};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Program {
    name: String,
    https: Https,
    link: Link,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Https {
    listen: SocketAddr,
    timeout_s: u16,
    public_names: Vec<String>,
}

#[derive(Debug, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Link {
    enabled: bool,
}

impl Default for Program {
    fn default() -> Self {
        Self { name: "aim".to_owned(), https: Https::default(), link: Link::default() }
    }
}

impl Default for Https {
    fn default() -> Self {
        Self { listen: ([127, 0, 0, 1], 8443).into(), timeout_s: 10, public_names: Vec::new() }
    }
}

fn load(text: &str, environment: &[(&str, &str)]) -> Result<Program, String> {
    let environment = environment.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    parse("aim.toml", text, "AIM_TEST", environment).map_err(|error| error.to_string())
}

fn refusal(text: &str, environment: &[(&str, &str)]) -> String {
    load(text, environment).unwrap_err()
}

#[test]
fn an_empty_file_gives_the_defaults_and_the_defaults_are_a_file() {
    assert_eq!(load("", &[]), Ok(Program::default()));
    assert_eq!(load(&to_toml(&Program::default()).unwrap(), &[]), Ok(Program::default()));
}

#[test]
fn a_misspelt_key_is_refused_with_its_place_and_the_near_name() {
    assert_eq!(
        refusal("name = \"x\"\n\n[https]\n  lisen = \"[::]:1\"\n", &[]),
        "aim.toml:4:3: unknown key \"lisen\" in [https]; did you mean \"listen\"?"
    );
    assert_eq!(
        refusal("https.zzz = 1", &[]),
        "aim.toml:1:7: unknown key \"zzz\" in [https]; known keys: listen, timeout_s, public_names"
    );
    assert_eq!(
        refusal("[htps]\nlisten = 1", &[]),
        "aim.toml:1:2: unknown key \"htps\" at the top level; did you mean \"https\"?"
    );
}

#[test]
fn wrong_types_and_values_are_refused_with_their_place() {
    assert_eq!(
        refusal("[https]\ntimeout_s = \"ten\"", &[]),
        "aim.toml:2:13: invalid type: string \"ten\", expected u16 in [https]"
    );
    assert!(refusal("[https]\ntimeout_s = 70000", &[]).starts_with("aim.toml:2:13: invalid value"));
    assert!(
        refusal("[https]\nlisten = \"nowhere\"", &[]).starts_with("aim.toml:2:10: invalid socket address")
    );
    assert!(refusal("https = 3", &[]).starts_with("aim.toml:1:9: invalid type"));
    assert!(refusal("[https]\npublic_names = [\"a\", 3]", &[]).starts_with("aim.toml:2:22: "));
    assert!(refusal("a = = 1", &[]).starts_with("aim.toml:1:5: "));
    assert!(refusal("name = \"a\"\nname = \"b\"", &[]).starts_with("aim.toml:2:1: duplicate key"));
}

#[test]
fn the_environment_overrides_and_is_checked_alike() {
    let loaded = load(
        "[https]\ntimeout_s = 1",
        &[
            ("AIM_TEST__HTTPS__TIMEOUT_S", "30"),
            ("AIM_TEST__HTTPS__PUBLIC_NAMES", "[\"a\", \"b\"]"),
            ("AIM_TEST__HTTPS__LISTEN", "[::1]:443"),
            ("AIM_TEST__LINK__ENABLED", "true"),
            ("AIM_TEST__NAME", "2026-11-23"),
            ("AIM_TEST_JOIN", "not ours"),
            ("AIM_TESTS__NAME", "not ours"),
        ],
    );
    let https = Https {
        listen: "[::1]:443".parse().unwrap(),
        timeout_s: 30,
        public_names: vec!["a".to_owned(), "b".to_owned()],
    };
    assert_eq!(loaded, Ok(Program { name: "2026-11-23".to_owned(), https, link: Link { enabled: true } }));
    assert_eq!(
        refusal("", &[("AIM_TEST__HTTPS__LISEN", "x")]),
        "environment variable AIM_TEST__HTTPS__LISEN: unknown key \"lisen\" in [https]; did you mean \"listen\"?"
    );
    assert!(
        refusal("", &[("AIM_TEST__HTTPS__TIMEOUT_S", "1\nname = 2")])
            .starts_with("environment variable AIM_TEST__HTTPS__TIMEOUT_S: invalid type: string")
    );
    assert_eq!(
        refusal("name = \"x\"", &[("AIM_TEST__NAME__FIRST", "x")]),
        "environment variable AIM_TEST__NAME__FIRST: \"name\" is a value and not a section"
    );
    assert!(refusal("", &[("AIM_TEST__", "x")]).starts_with("environment variable AIM_TEST__: "));
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let error = read(std::path::Path::new("/nonexistent/aim.toml")).unwrap_err();
    assert!(matches!(error, ConfigError::Unreadable { .. }));
    assert!(error.to_string().starts_with("/nonexistent/aim.toml: cannot read"));
}

#[test]
fn inj_02_deep_toml_is_refused() {
    let levels = 100_000;
    for text in [
        format!("a = {}{}", "[".repeat(levels), "]".repeat(levels)),
        format!("a = {}1{}", "{ a = ".repeat(levels), " }".repeat(levels)),
        format!("[{}a]", "a.".repeat(levels)),
        format!("{}a = 1", "a.".repeat(levels)),
        format!("a = {{ {}a = 1 }}", "a.".repeat(levels)),
        format!("{}\"a\" = 1", "\"a\".".repeat(levels)),
        format!("[{}'a']", "'a' . ".repeat(levels)),
    ] {
        refusal(&text, &[]);
    }
    assert_eq!(
        refusal(&format!("name = {}{}", "[".repeat(17), "]".repeat(17)), &[]),
        "aim.toml:1:24: sections and lists nest at most 16 deep"
    );
    let deep = format!("AIM_TEST{}", "__A".repeat(levels));
    refusal("", &[(&deep, "1")]);
    // What is not TOML is a plain string.
    assert!(load("", &[("AIM_TEST__NAME", &"[".repeat(levels))]).is_ok());
}

proptest! {
    #[test]
    fn no_text_panics(text in "[a-z\\[\\]=\".,{}# \\n0-9é]{0,80}", value in "\\PC{0,20}") {
        let _ = load(&text, &[("AIM_TEST__HTTPS__LISTEN", &value)]);
    }
}
