//! Rules that the sources themselves must keep.

use std::collections::BTreeMap;
use std::fs;

use aim_tests::statements::{sources, workspace};

/// Sources of the programs, without their tests.
fn program_sources() -> impl Iterator<Item = (String, String)> {
    sources().into_iter().filter_map(|(file, text)| {
        let program = ["agent/src/", "cli/src/", "common/src/", "coordinator/src/"];
        let is_program = program.iter().any(|folder| file.starts_with(folder));
        let is_test = file.ends_with("/tests.rs") || file.contains("/tests/");
        let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default().to_owned();
        (is_program && !is_test).then_some((file, text))
    })
}

/// Lines of program sources that hold any of these, as `file:line: text`.
fn lines_with(forbidden: &[&str]) -> Vec<String> {
    let found = program_sources().flat_map(|(file, text)| {
        let lines = text.lines().zip(1..).filter(|(line, _)| !line.trim_start().starts_with("//"));
        let hits = lines.filter(|(line, _)| forbidden.iter().any(|word| line.contains(word)));
        hits.map(|(line, number)| format!("{file}:{number}: {}", line.trim())).collect::<Vec<_>>()
    });
    found.collect()
}

/// sqlx takes only literal SQL, except through these and through its builder.
#[test]
fn inj_05_no_sql_is_made_from_text() {
    let found = lines_with(&["AssertSqlSafe", "raw_sql", "SqlStr::", "into_sql_str"]);
    assert!(found.is_empty(), "SQL made at run time:\n{}", found.join("\n"));
    let mut statements = 0;
    for (file, text) in program_sources().filter(|(_, text)| text.contains("sqlx::")) {
        statements += text.matches("sqlx::query").count();
        let built = text.matches("QueryBuilder::new(").count();
        assert_eq!(
            built,
            text.matches("let mut query = QueryBuilder::new(").count(),
            "{file}: name builders `query`"
        );
        // Without blanks, so that a chain over several lines is seen as one.
        let dense: String = text.split_whitespace().collect();
        let calls = [
            "QueryBuilder::new(",
            "query.push(",
            "query.push_unseparated(",
            ").push(",
            ").push_unseparated(",
        ];
        for call in calls.into_iter().filter(|_| built > 0) {
            for (at, _) in dense.match_indices(call) {
                let argument: String = dense.get(at + call.len()..).unwrap().chars().take(60).collect();
                assert!(argument.starts_with('"'), "{file}: {call}{argument}: something else than a literal");
            }
        }
    }
    assert!(statements > 10, "only {statements} statements were looked at");
}

#[test]
fn sup_02_every_crate_inherits_the_lints_and_none_is_switched_off() {
    let root = workspace();
    let manifest: toml::Table = fs::read_to_string(root.join("Cargo.toml")).unwrap().parse().unwrap();
    let lints = &manifest["workspace"]["lints"];
    assert_eq!(lints["rust"]["unsafe_code"].as_str(), Some("forbid"));
    for lint in ["unwrap_used", "expect_used", "panic", "todo", "unimplemented"] {
        assert!(lints["clippy"].get(lint).is_some(), "{lint} is not asked for");
    }
    for member in manifest["workspace"]["members"].as_array().unwrap() {
        let member = member.as_str().unwrap();
        let text = fs::read_to_string(root.join(member).join("Cargo.toml")).unwrap();
        let inherits = text.parse::<toml::Table>().unwrap()["lints"].get("workspace").is_some();
        assert!(inherits || member == "tests/fake-nvml", "{member} does not inherit the lints");
    }
    // Where a peer's bytes arrive, an index is one panic away.
    for file in ["common/src/lib.rs", "coordinator/src/fleet/mod.rs", "agent/src/link/mod.rs"] {
        let text = fs::read_to_string(root.join(file)).unwrap();
        assert!(text.contains("#![warn(clippy::indexing_slicing, clippy::string_slice)]"), "{file}");
    }
    let off = lines_with(&[
        "allow(clippy::indexing_slicing",
        "allow(clippy::string_slice",
        "allow(unsafe_code",
        "allow(clippy::unwrap",
        "allow(clippy::expect",
        "allow(clippy::panic",
    ]);
    assert!(off.is_empty(), "{}", off.join("\n"));
}

/// Sums over a peer's numbers must not wrap silently where the tests do not run.
#[test]
fn inj_09_overflow_checks_are_on_in_released_programs() {
    let manifest: toml::Table = fs::read_to_string(workspace().join("Cargo.toml")).unwrap().parse().unwrap();
    let profiles = manifest["profile"].as_table().unwrap();
    assert_eq!(profiles["release"]["overflow-checks"].as_bool(), Some(true));
    for (name, profile) in profiles {
        let checks = profile.get("overflow-checks").and_then(toml::Value::as_bool);
        assert_ne!(checks, Some(false), "profile {name}");
    }
}

/// What is tested and what is released is the same code: no feature and no build profile opens a door.
#[test]
fn sup_04_released_code_is_the_code_that_is_tested() {
    let found = lines_with(&["debug_assertions", "cfg!(", "cfg(not(test", "cfg_attr(not(test"]);
    assert!(found.is_empty(), "{}", found.join("\n"));
    for member in ["agent", "cli", "common", "coordinator"] {
        let text = fs::read_to_string(workspace().join(member).join("Cargo.toml")).unwrap();
        let manifest: toml::Table = text.parse().unwrap();
        let features = manifest.get("features").and_then(toml::Value::as_table).cloned().unwrap_or_default();
        // Schemas of the API's types, on in the coordinator always.
        assert!(features.keys().all(|name| name == "openapi"), "{member}: {features:?}");
    }
}

/// Versions below these have advisories that reach what we use.
const FLOORS: &[(&str, (u64, u64, u64))] = &[
    ("quinn-proto", (0, 11, 15)),
    ("rustls", (0, 23, 45)),
    ("rustls-webpki", (0, 103, 13)),
    ("h2", (0, 4, 16)),
    ("sqlx", (0, 8, 1)),
    ("time", (0, 3, 47)),
    ("tracing-subscriber", (0, 3, 20)),
    ("tokio", (1, 44, 2)),
    ("ring", (0, 17, 12)),
    ("bcrypt", (0, 19, 2)),
];

#[test]
fn sup_01_locked_versions_are_above_the_advisories_and_from_one_source() {
    let lock: toml::Table = fs::read_to_string(workspace().join("Cargo.lock")).unwrap().parse().unwrap();
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for package in lock["package"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        versions.entry(name).or_default().push(package["version"].as_str().unwrap());
        if let Some(source) = package.get("source") {
            assert_eq!(
                source.as_str(),
                Some("registry+https://github.com/rust-lang/crates.io-index"),
                "{name}"
            );
            assert!(package.get("checksum").is_some(), "{name} has no checksum");
        }
    }
    for (name, floor) in FLOORS {
        for version in &versions[name] {
            let numbers: Vec<u64> =
                version.split(['.', '-', '+']).take(3).map(|number| number.parse().unwrap()).collect();
            assert!((numbers[0], numbers[1], numbers[2]) >= *floor, "{name} {version} is below {floor:?}");
        }
    }
    for name in ["rustls", "ring", "quinn-proto"] {
        assert_eq!(versions[name].len(), 1, "two versions of {name}");
    }
    for name in ["rsa", "openssl", "openssl-sys", "native-tls", "rustls-pemfile"] {
        assert!(!versions.contains_key(name), "{name} is in the tree");
    }
}
