//! The coordinator's keys are its user's alone: on disk, and in the memory of its process.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use aim_tests::process::{command, program};
use aim_tests::{Coordinator, Program, until};
use tempfile::TempDir;

/// Whom root becomes here: no user of the machine has this number.
const NOBODY: u32 = 65_534;
const READY: Duration = Duration::from_mins(1);

/// `serve` as somebody who is not root.
fn serve_command(dir: &Path, coordinator: &Coordinator) -> Command {
    let password = coordinator.config_path().with_file_name("admin.password");
    let arguments = |mut command: Command| {
        command.arg("--config").arg(coordinator.config_path());
        command.args(["serve", "--initial-password-file"]).arg(&password);
        command
    };
    if !rustix::process::geteuid().is_root() {
        return arguments(command(&program("aim-coordinator")));
    }
    // A copy where that user can reach it.
    let copy = dir.join("aim-coordinator");
    fs::copy(program("aim-coordinator"), &copy).unwrap();
    fs::set_permissions(dir, fs::Permissions::from_mode(0o711)).unwrap();
    let folder = coordinator.config_path().parent().unwrap().to_owned();
    chown(&folder, Some(NOBODY), Some(NOBODY)).unwrap();
    let mut as_nobody = command(Path::new("setpriv"));
    as_nobody.args([format!("--reuid={NOBODY}"), format!("--regid={NOBODY}")]);
    // A change of the user clears the wish to die with the test, so that it is said again.
    as_nobody.args(["--clear-groups", "--pdeathsig", "KILL", "--"]).arg(copy);
    arguments(as_nobody)
}

#[test]
fn pki_13_the_running_coordinator_leaves_no_core_file_and_lets_nobody_look_into_it() {
    let dir = TempDir::new().unwrap();
    let coordinator = Coordinator::prepare(dir.path(), |_| ());
    let command = serve_command(dir.path(), &coordinator);
    let mut running = Program::start("aim-coordinator", command, &coordinator.log_path());
    until("the coordinator is up", READY, || {
        assert!(running.is_running(), "{}", running.log());
        running.log().contains("the coordinator is up").then_some(())
    });
    let process = Path::new("/proc").join(running.pid().to_string());
    // The kernel gives these files to root where a process is not dumpable, and to its user otherwise.
    let user = fs::metadata(&process).unwrap().uid();
    assert_ne!(user, 0, "the coordinator runs as root");
    assert_eq!(
        fs::metadata(process.join("environ")).unwrap().uid(),
        0,
        "its memory can be dumped by its user"
    );
    let limits = fs::read_to_string(process.join("limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "{core}");

    let state = coordinator.state_dir();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode(&state), mode(&state.join("ca"))), (0o700, 0o700));
    for name in ["ca/root.key", "ca/issuing.key", "token.key", "seal.key", "keyvault.journal"] {
        let file = state.join(name);
        assert_eq!((mode(&file), fs::metadata(&file).unwrap().uid()), (0o600, user), "{name}");
    }
    assert_eq!(running.terminate(READY), Some(0), "{}", running.log());
}
