//! What tests with mounts of their own share.

use std::path::Path;
use std::process::Command;

const INSIDE: &str = "AIM_TEST_HAS_OWN_MOUNTS";

/// Runs the named test once more in a mount namespace of its own, so that nothing else on the machine meets its
/// mounts. True inside; outside, false after the test passed there. Needs root.
pub(crate) fn has_own_mounts(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let status = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "--"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1")
        .status()
        .unwrap_or_else(|error| panic!("this test needs `unshare` of util-linux: {error}"));
    assert!(status.success(), "{test} failed in its own mount namespace (which needs root)");
    false
}

/// Runs a command of the system's, which must succeed.
pub(crate) fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("this test needs `{program}`: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
}

/// The path as text.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
