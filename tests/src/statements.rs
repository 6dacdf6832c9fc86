//! docs/security.md: the statements of docs/security-statements.toml, each beside the tests that carry its ID.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// The groups in the document's order, with their titles.
const GROUPS: &[(&str, &str)] = &[
    ("ENR", "Enrolment tokens"),
    ("PKI", "Certificates"),
    ("QUI", "The link"),
    ("IDN", "Node identity"),
    ("AUT", "Login and sessions"),
    ("RBA", "Roles and permissions"),
    ("API", "HTTP"),
    ("WEB", "Pages"),
    ("INJ", "Decoders and injection"),
    ("LOG", "Logs and audit"),
    ("SUP", "Supply chain and construction"),
];
/// Folders of the workspace that hold tests.
const FOLDERS: &[&str] = &["agent", "cli", "common", "coordinator", "tests"];
/// Between these lines the document is generated.
const BEGIN: &str = "<!-- generated from security-statements.toml and the names of the tests: begin -->";
const END: &str = "<!-- generated: end -->";

/// One statement.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    /// What holds, in our words.
    pub statement: String,
    /// In which way the proof covers less.
    pub narrowed: Option<String>,
    /// Why it is not there yet, and with what it comes.
    pub later: Option<String>,
}

/// Tests by the ID that their name begins with.
pub type Tests = BTreeMap<String, Vec<TestPlace>>;

/// A test and where it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TestPlace {
    /// Its file, from the workspace's root.
    pub file: String,
    /// Its name.
    pub name: String,
}

/// The workspace's root.
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Every Rust file of the workspace, from its root, with its text.
pub fn sources() -> Vec<(String, String)> {
    let root = workspace();
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = FOLDERS.iter().map(|folder| root.join(folder)).collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let name = path.strip_prefix(&root).unwrap().display().to_string();
                found.push((name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

/// The statements as committed.
pub fn statements() -> BTreeMap<String, Statement> {
    let file = workspace().join("docs/security-statements.toml");
    toml::from_str(&fs::read_to_string(file).unwrap()).unwrap()
}

/// All tests whose names begin with an ID.
pub fn tests() -> Tests {
    let mut tests = Tests::new();
    for (file, text) in sources() {
        for name in test_names(&text) {
            for id in ids_of(name) {
                tests.entry(id).or_default().push(TestPlace { file: file.clone(), name: name.to_owned() });
            }
        }
    }
    for places in tests.values_mut() {
        places.sort();
    }
    tests
}

/// Names of functions under a test attribute, and of entries that a macro of a test file makes into such functions.
fn test_names(text: &str) -> impl Iterator<Item = &str> {
    let mut attribute = false;
    text.lines().filter_map(move |line| {
        let line = line.trim();
        if line.starts_with("#[") || line.starts_with("//") {
            attribute |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
            return None;
        }
        let was_test = std::mem::take(&mut attribute);
        let declaration = line.strip_prefix("async ").unwrap_or(line);
        match declaration.strip_prefix("fn ") {
            Some(function) => was_test.then(|| word(function)),
            None => line.ends_with(';').then(|| line.split_once(": ")).flatten().map(|(name, _)| word(name)),
        }
    })
}

fn word(text: &str) -> &str {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap_or_default()
}

/// `enr_03_concurrent…` carries ENR-03; a name may carry several IDs, the first at its start.
fn ids_of(name: &str) -> Vec<String> {
    let words: Vec<&str> = name.split('_').collect();
    let ids = words.windows(2).enumerate().filter_map(|(at, pair)| {
        let [group, number] = pair else { return None };
        let known = GROUPS.iter().any(|(known, _)| known.eq_ignore_ascii_case(group));
        let is_number = number.len() == 2 && number.bytes().all(|b| b.is_ascii_digit());
        (known && is_number).then(|| (at, format!("{}-{number}", group.to_uppercase())))
    });
    let ids: Vec<(usize, String)> = ids.collect();
    let at_start = ids.first().is_some_and(|(at, _)| *at == 0);
    if at_start { ids.into_iter().map(|(_, id)| id).collect() } else { Vec::new() }
}

/// What the document must not say: a statement without proof or reason, a test of an unknown statement.
pub fn contradictions(statements: &BTreeMap<String, Statement>, tests: &Tests) -> Vec<String> {
    let mut wrong = Vec::new();
    for (id, statement) in statements {
        let tested = tests.contains_key(id);
        if !tested && statement.later.is_none() {
            wrong.push(format!("{id}: no test carries its ID; write one, or say `later` with the reason"));
        }
        if tested && statement.later.is_some() {
            wrong.push(format!("{id}: it has tests and says `later`; say `narrowed`, or nothing"));
        }
        if !GROUPS.iter().any(|(group, _)| id.starts_with(group)) {
            wrong.push(format!("{id}: no such group"));
        }
    }
    for id in tests.keys().filter(|id| !statements.contains_key(*id)) {
        wrong.push(format!("{id}: tests carry this ID, but no such statement is known"));
    }
    wrong
}

/// The document with its generated part made anew.
#[track_caller]
pub fn render(document: &str, statements: &BTreeMap<String, Statement>, tests: &Tests) -> String {
    let (before, rest) = document.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    format!("{before}{BEGIN}\n{}{END}{after}", table(statements, tests))
}

fn table(statements: &BTreeMap<String, Statement>, tests: &Tests) -> String {
    let count =
        |status: fn(&Statement) -> bool| statements.values().filter(|statement| status(statement)).count();
    let later = count(|statement| statement.later.is_some());
    let narrowed = count(|statement| statement.narrowed.is_some() && statement.later.is_none());
    let plain = |statement: &Statement| statement.later.is_none() && statement.narrowed.is_none();
    let proven =
        statements.iter().filter(|(id, statement)| plain(statement) && tests.contains_key(*id)).count();
    let mut text =
        format!("{} statements: {proven} proven, {narrowed} narrowed, {later} later.\n", statements.len());
    for (group, title) in GROUPS {
        let _ = write!(
            text,
            "\n### {group}: {title}\n\n| ID | Statement | Status | Tests |\n|---|---|---|---|\n"
        );
        for (id, statement) in statements.iter().filter(|(id, _)| id.starts_with(group)) {
            let _ = writeln!(
                text,
                "| {id} | {} | {} | {} |",
                statement.statement,
                status(statement, tests.contains_key(id)),
                names(tests.get(id))
            );
        }
    }
    text
}

fn status(statement: &Statement, tested: bool) -> String {
    match (&statement.later, &statement.narrowed) {
        (Some(later), _) => format!("later: {later}"),
        (None, _) if !tested => "**no test carries the ID**".to_owned(),
        (None, Some(narrowed)) => format!("narrowed: {narrowed}"),
        (None, None) => "proven".to_owned(),
    }
}

fn names(tests: Option<&Vec<TestPlace>>) -> String {
    let names = tests.into_iter().flatten().map(|test| format!("[`{}`](../{})", test.name, test.file));
    names.collect::<Vec<_>>().join("<br>")
}
