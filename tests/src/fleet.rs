//! The fleet simulator against a test's coordinator.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::Coordinator;
use crate::process::{Program, command, program};

/// Longest time for a run to settle, say Goodbye and tell its summary.
const END: Duration = Duration::from_mins(4);

/// A running simulator; killed when dropped.
#[derive(Debug)]
pub struct Fleet {
    dir: PathBuf,
    program: Program,
}

impl Fleet {
    /// Starts this many nodes; their identities stay in `dir` for the next run.
    #[track_caller]
    pub fn start(dir: &Path, coordinator: &Coordinator, nodes: u32, arguments: &[&str]) -> Self {
        let dir = dir.join("fleet");
        fs::create_dir_all(&dir).unwrap();
        let password_file = dir.join("password");
        fs::write(&password_file, coordinator.password()).unwrap();
        fs::set_permissions(&password_file, fs::Permissions::from_mode(0o600)).unwrap();
        let mut command = command(&program("aim-fleet"));
        command.args(["--nodes", &nodes.to_string(), "--pin", &coordinator.pin().to_string()]);
        command.args(["--coordinator", &format!("127.0.0.1:{}", coordinator.https_port)]);
        command.arg("--password-file").arg(&password_file);
        command.arg("--state").arg(dir.join("state"));
        command.arg("--ack-log").arg(dir.join("acked.log"));
        command.arg("--summary").arg(dir.join("summary.json"));
        command.args(arguments);
        let program = Program::start("aim-fleet", command, &dir.join("fleet.log"));
        Self { dir, program }
    }

    /// The running program.
    pub fn program(&mut self) -> &mut Program {
        &mut self.program
    }

    /// Waits for its end; gives the exit code and the summary.
    #[track_caller]
    pub fn finish(&mut self) -> (i32, Value) {
        let code = self.program.wait(END).code().unwrap_or(-1);
        let text = fs::read_to_string(self.dir.join("summary.json")).unwrap_or_default();
        (code, serde_json::from_str(&text).unwrap_or_default())
    }

    /// What was acknowledged by its own account: (node, spool, sequence).
    pub fn acknowledged(&self) -> Vec<(String, String, u64)> {
        let log = fs::read_to_string(self.dir.join("acked.log")).unwrap_or_default();
        let line = |line: &str| {
            let mut words = line.split(' ').map(str::to_owned);
            Some((words.next()?, words.next()?, words.next()?.parse().ok()?))
        };
        log.lines().filter_map(line).collect()
    }

    /// The names of its nodes.
    pub fn names(nodes: u32) -> BTreeSet<String> {
        (1..=nodes).map(|number| format!("fleet{number:05}")).collect()
    }
}
