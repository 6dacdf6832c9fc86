//! What `make run` promises, by the script behind it: one line once everything is up, a clean stop, the same line again.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use aim_tests::process::program;
use aim_tests::{Aimctl, ports, until};
use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;

/// A first start makes a CA, hashes a password and enrols; a loaded machine needs a while.
const READY: Duration = Duration::from_mins(3);
/// Agent and coordinator stop one after the other, 20 s each before the script kills them.
const STOPPED: Duration = Duration::from_mins(1);

struct Run {
    dir: PathBuf,
    child: Child,
}

impl Run {
    fn start(dir: &Path, https: u16, link: u16) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/dev/run.sh");
        let programs = program("aimctl");
        let stdout = File::create(dir.join("stdout")).unwrap();
        let stderr = File::create(dir.join("stderr")).unwrap();
        // A test that runs in the background of a shell has inherited that Ctrl-C is ignored.
        let child = Command::new("env")
            .arg("--default-signal=INT")
            .arg(script)
            .env("AIM_RUN_DIR", dir.join("run"))
            .env("AIM_RUN_BIN_DIR", programs.parent().unwrap())
            .env("AIM_RUN_HTTPS_PORT", https.to_string())
            .env("AIM_RUN_LINK_PORT", link.to_string())
            .env("AIM_CONFIG_DIR", dir.join("aimctl"))
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .unwrap();
        Self { dir: dir.to_owned(), child }
    }

    fn text(&self, file: &str) -> String {
        fs::read_to_string(self.dir.join(file)).unwrap()
    }

    /// The one line.
    #[track_caller]
    fn ready(&mut self) -> String {
        until("the ready line", READY, || {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "make run ended: {}", self.text("stderr"));
            Some(self.text("stdout")).filter(|text| text.ends_with('\n'))
        })
    }

    /// Ctrl-C.
    #[track_caller]
    fn interrupt(mut self) {
        kill_process_group(Pid::from_child(&self.child), Signal::INT).unwrap();
        let status = until("make run ends", STOPPED, || self.child.try_wait().unwrap());
        assert!(status.success(), "{status}: {}", self.text("stderr"));
    }
}

impl Drop for Run {
    /// SIGTERM lets the script stop what it started; as root, the agent's folder is outside the test's.
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            let _ = kill_process_group(Pid::from_child(&self.child), Signal::TERM);
            let _ = self.child.wait();
        }
    }
}

/// As root, the agent's part of the state is in a folder that its own user can reach.
struct AgentHome(PathBuf);

impl Drop for AgentHome {
    fn drop(&mut self) {
        if let Ok(home) = fs::read_to_string(&self.0) {
            let _ = fs::remove_dir_all(home.trim());
        }
    }
}

#[test]
fn make_run_prints_one_line_stops_cleanly_and_finds_its_state_again() {
    let dir = TempDir::new().unwrap();
    let _agent_home = AgentHome(dir.path().join("run/agent-home"));
    let (https, link) = (ports::free(), ports::free());
    let mut first = Run::start(dir.path(), https, link);
    let line = first.ready();
    let expected = format!("AIM ready: https://127.0.0.1:{https} user=admin password=");
    assert!(line.starts_with(&expected) && line.lines().count() == 1, "{line:?}");

    let aimctl = Aimctl::new(&dir.path().join("aimctl"));
    let nodes = aimctl.json(&["node", "list"]);
    assert_eq!(nodes.as_array().map(Vec::len), Some(1), "{nodes}");
    assert_eq!(nodes[0]["presence"]["state"], "present", "{nodes}");
    first.interrupt();

    let mut second = Run::start(dir.path(), https, link);
    assert_eq!(second.ready(), line, "another line the second time");
    let again = aimctl.json(&["node", "list"]);
    assert_eq!(again[0]["id"], nodes[0]["id"], "the machine was enrolled anew");
    let absences = aimctl.run(&["event", "list", "--kind", "node.absent"]).success();
    assert!(absences.contains("agent stopped"), "{absences}");
    second.interrupt();
}
