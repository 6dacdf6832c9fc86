//! docs/security.md says what is proven, and nothing else.

use std::fs;

use aim_tests::statements::{contradictions, render, statements, tests, workspace};

#[test]
fn every_statement_is_proven_narrowed_or_later() {
    let wrong = contradictions(&statements(), &tests());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_document_is_as_generated() {
    let file = workspace().join("docs/security.md");
    let document = fs::read_to_string(&file).unwrap();
    let generated = render(&document, &statements(), &tests());
    if std::env::var_os("AIM_WRITE_DOCS").is_some() {
        fs::write(&file, &generated).unwrap();
    }
    let again = fs::read_to_string(&file).unwrap();
    assert!(
        again == generated,
        "{} is stale: run AIM_WRITE_DOCS=1 cargo test -p aim-tests --test security_document",
        file.display()
    );
}
