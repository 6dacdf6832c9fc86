//! A coordinator with its own state and ports.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use aim_common::identity::Sha256Digest;
use reqwest::Method;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use toml::toml;

use crate::process::{Finished, Program, command, program, run};
use crate::wait::until;
use crate::{Aimctl, Api, ports};

/// A first start makes keys and hashes a password; a loaded machine needs a while.
const READY: Duration = Duration::from_mins(1);
/// FLT-55's bound for a clean stop.
const STOP: Duration = Duration::from_secs(15);

/// A coordinator; killed with everything it started when dropped.
#[derive(Debug)]
pub struct Coordinator {
    dir: PathBuf,
    program: Option<Program>,
    /// Where HTTPS listens.
    pub https_port: u16,
    /// Where the link listens.
    pub link_port: u16,
}

impl Coordinator {
    /// Writes a configuration for a coordinator in `dir`; nothing runs yet.
    pub fn prepare(dir: &Path, change: impl FnOnce(&mut toml::Table)) -> Self {
        let dir = dir.join("coordinator");
        fs::create_dir_all(&dir).unwrap();
        let coordinator = Self { dir, program: None, https_port: ports::free(), link_port: ports::free() };
        let mut config = toml! {
            [https]
            public_names = ["127.0.0.1", "localhost"]
            [log]
            filter = "info"
        };
        let listen = |port: u16| format!("127.0.0.1:{port}").into();
        config.insert("state_dir".into(), coordinator.state_dir().display().to_string().into());
        config["https"].as_table_mut().unwrap().insert("listen".into(), listen(coordinator.https_port));
        let link = toml::Table::from_iter([("listen".to_owned(), listen(coordinator.link_port))]);
        config.insert("link".into(), link.into());
        change(&mut config);
        fs::write(coordinator.config_path(), config.to_string()).unwrap();
        coordinator
    }

    /// A running coordinator with the usual configuration.
    pub fn start(dir: &Path) -> Self {
        let mut coordinator = Self::prepare(dir, |_| ());
        coordinator.serve();
        coordinator
    }

    /// Its configuration file.
    pub fn config_path(&self) -> PathBuf {
        self.dir.join("coordinator.toml")
    }

    /// Its state directory.
    pub fn state_dir(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// Its SQLite file.
    pub fn database(&self) -> PathBuf {
        self.state_dir().join("coordinator.db")
    }

    /// Where its output goes.
    pub fn log_path(&self) -> PathBuf {
        self.dir.join("coordinator.log")
    }

    fn password_file(&self) -> PathBuf {
        self.dir.join("admin.password")
    }

    /// `aim-coordinator --config …` with more arguments.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = command(&program("aim-coordinator"));
        command.arg("--config").arg(self.config_path()).args(arguments);
        command
    }

    /// Runs one of its other commands to the end.
    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> Finished {
        run(&mut self.command(arguments), READY)
    }

    fn serve_command(&self) -> Command {
        let mut command = self.command(&["serve"]);
        command.arg("--initial-password-file").arg(self.password_file());
        command
    }

    /// Starts it, and waits until it is ready.
    #[track_caller]
    pub fn serve(&mut self) {
        self.serve_without_waiting();
        self.await_ready();
    }

    /// Starts it by a command that is changed first, and waits until it is ready.
    #[track_caller]
    pub fn serve_with(&mut self, change: impl FnOnce(&mut Command)) {
        let mut command = self.serve_command();
        change(&mut command);
        self.program = Some(Program::start("aim-coordinator", command, &self.log_path()));
        self.await_ready();
    }

    /// Waits until it is ready.
    #[track_caller]
    pub fn await_ready(&mut self) {
        until("the coordinator is ready", READY, || {
            let running = self.program.as_mut().is_some_and(Program::is_running);
            assert!(running, "the coordinator ended at its start");
            let pin = self.try_pin()?;
            let answer = Api::anonymous(self.https_port, pin).try_call(Method::GET, "/readyz", None)?;
            (answer.status == 200).then_some(())
        });
    }

    /// Starts it.
    pub fn serve_without_waiting(&mut self) {
        self.program = Some(Program::start("aim-coordinator", self.serve_command(), &self.log_path()));
    }

    /// Starts it with its log going elsewhere, and waits until it is ready.
    #[track_caller]
    pub fn serve_into(&mut self, log: Stdio) {
        let program = Program::start_into("aim-coordinator", self.serve_command(), &self.log_path(), log);
        self.program = Some(program);
        self.await_ready();
    }

    /// Starts it where it is expected to refuse; gives how it ended.
    #[track_caller]
    pub fn serve_refused(&self) -> Finished {
        run(&mut self.serve_command(), READY)
    }

    /// The running program.
    #[track_caller]
    pub fn program(&mut self) -> &mut Program {
        self.program.as_mut().unwrap()
    }

    /// SIGKILL.
    #[track_caller]
    pub fn kill(&mut self) {
        self.program().kill();
        self.program = None;
    }

    /// SIGTERM; it must end cleanly.
    #[track_caller]
    pub fn stop(&mut self) {
        assert_eq!(self.program().terminate(STOP), Some(0), "the coordinator did not stop cleanly");
        self.program = None;
    }

    /// SHA-256 of its root certificate.
    #[track_caller]
    pub fn pin(&self) -> Sha256Digest {
        self.try_pin().unwrap()
    }

    fn try_pin(&self) -> Option<Sha256Digest> {
        let root = CertificateDer::from_pem_file(self.state_dir().join("ca/roots.pem")).ok()?;
        Some(Sha256Digest::of(&root))
    }

    /// The first password of admin.
    #[track_caller]
    pub fn password(&self) -> String {
        fs::read_to_string(self.password_file()).unwrap().trim().to_owned()
    }

    /// The API, seen by nobody.
    pub fn anonymous(&self) -> Api {
        Api::anonymous(self.https_port, self.pin())
    }

    /// The API, seen by admin.
    #[track_caller]
    pub fn admin(&self) -> Api {
        let mut api = self.anonymous();
        api.login("admin", &self.password());
        api
    }

    /// aimctl, logged in as admin.
    #[track_caller]
    pub fn aimctl(&self) -> Aimctl {
        Aimctl::login(&self.dir.join("aimctl"), self.https_port, &self.pin(), &self.password_file())
    }
}
