//! Programs as child processes that never outlive their test.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::wait::until;

/// Longest wait for a killed program; a slow machine needs a moment.
const GONE: Duration = Duration::from_secs(20);

/// A program of this workspace, built beside the running test.
pub fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    // target/debug/deps/TEST: the programs are one folder up.
    let path = test.ancestors().nth(2).unwrap().join(name);
    assert!(path.exists(), "{} is missing: run cargo build --workspace first", path.display());
    path
}

/// A command of a program with a clean environment; the kernel kills it when the test's thread ends.
pub fn command(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program).env_clear();
    command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C");
    command
}

/// A program that runs until it is stopped; its output goes to a file.
#[derive(Debug)]
pub struct Program {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Program {
    /// Starts it in a process group of its own; the output is appended to the log.
    pub fn start(name: &str, command: Command, log: &Path) -> Self {
        let errors = OpenOptions::new().create(true).append(true).open(log).unwrap();
        Self::start_into(name, command, log, errors.into())
    }

    /// The same with its errors, and so its log, going elsewhere.
    pub fn start_into(name: &str, mut command: Command, log: &Path, errors: Stdio) -> Self {
        let output = OpenOptions::new().create(true).append(true).open(log).unwrap();
        let child = command.process_group(0).stdin(Stdio::null()).stdout(output).stderr(errors).spawn();
        let child = child.unwrap_or_else(|error| panic!("starting {name}: {error}"));
        Self { name: name.to_owned(), child, log: log.to_owned() }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn as_pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Sends a signal to the program alone.
    pub fn signal(&self, signal: Signal) {
        // A program that has ended already cannot get it.
        let _ = kill_process(self.as_pid(), signal);
    }

    /// It has not ended yet.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait(&mut self, deadline: Duration) -> ExitStatus {
        let name = self.name.clone();
        until(&format!("{name} ends"), deadline, || self.child.try_wait().unwrap())
    }

    /// SIGKILL to the whole group, helpers included.
    pub fn kill(&mut self) {
        let _ = kill_process_group(self.as_pid(), Signal::KILL);
        self.wait(GONE);
    }

    /// SIGTERM, and its exit code.
    #[track_caller]
    pub fn terminate(&mut self, deadline: Duration) -> Option<i32> {
        self.signal(Signal::TERM);
        self.wait(deadline).code()
    }

    /// A line of `/proc/PID/status`, without its name: `VmRSS` gives `1234 kB`.
    #[track_caller]
    pub fn status(&self, name: &str) -> String {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or_else(|| panic!("no {name} in {text}")).trim().to_owned()
    }

    /// The same as a number of KiB.
    #[track_caller]
    pub fn status_kib(&self, name: &str) -> u64 {
        self.status(name).trim_end_matches(" kB").parse().unwrap()
    }

    /// Everything it wrote so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = kill_process_group(self.as_pid(), Signal::KILL);
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().rev().take(40).collect();
            eprintln!("--- last lines of {} ({})", self.name, self.log.display());
            lines.iter().rev().for_each(|line| eprintln!("{line}"));
        }
    }
}

/// How a program ended that was expected to end by itself.
#[derive(Debug)]
pub struct Finished {
    /// Exit code; minus the signal's number where a signal ended it.
    pub code: i32,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

impl Finished {
    /// Fails the test unless the exit code is 0; gives the output.
    #[track_caller]
    pub fn success(self) -> String {
        assert_eq!(self.code, 0, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self.stdout
    }
}

/// Runs a command to its end.
#[track_caller]
pub fn run(command: &mut Command, deadline: Duration) -> Finished {
    let (out, errors) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
    let described = format!("{command:?} ends");
    command.process_group(0).stdin(Stdio::null());
    command.stdout(out.try_clone().unwrap()).stderr(errors.try_clone().unwrap());
    let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let mut program = Program { name: described, child, log: PathBuf::new() };
    let status = program.wait(deadline);
    let code = status.code().unwrap_or_else(|| -status.signal().unwrap_or_default());
    Finished { code, stdout: text(out), stderr: text(errors) }
}

fn text(mut file: File) -> String {
    let mut bytes = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}
