//! An agent with its own state.

use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use toml::toml;

use crate::process::{Finished, Program, command, program, run};
use crate::wait::until;
use crate::{Api, Coordinator};

/// Longest wait for a command that ends by itself.
const COMMAND: Duration = Duration::from_mins(1);
/// FLT-55's bound for a clean stop, which a hung probe may not break either.
const STOP: Duration = Duration::from_secs(10);
/// The bound from the start of an agent to the node seen.
pub const SEEN: Duration = Duration::from_secs(15);

/// An agent; killed with its helpers when dropped.
#[derive(Debug)]
pub struct Agent {
    dir: PathBuf,
    /// The node's name.
    pub name: String,
    program: Option<Program>,
}

impl Agent {
    /// Writes a configuration for an agent in `dir`; nothing runs yet.
    pub fn prepare(dir: &Path, name: &str, change: impl FnOnce(&mut toml::Table)) -> Self {
        let agent = Self { dir: dir.join(name), name: name.to_owned(), program: None };
        fs::create_dir_all(agent.dir.join("run")).unwrap();
        let mut config = toml! {
            [report]
            sample_interval_ms = 500
            interval_ms = 1000
            inventory_interval_ms = 2000
            [link]
            ack_log = true
            [log]
            filter = "info"
        };
        config.insert("state_dir".into(), agent.state_dir().display().to_string().into());
        config.insert("runtime_dir".into(), agent.dir.join("run").display().to_string().into());
        change(&mut config);
        fs::write(agent.config_path(), config.to_string()).unwrap();
        agent
    }

    /// An agent that is enrolled by a fresh token and runs; waits until its node is seen.
    #[track_caller]
    pub fn start(dir: &Path, name: &str, coordinator: &Coordinator) -> Self {
        let mut agent = Self::prepare(dir, name, |_| ());
        let admin = coordinator.admin();
        agent.enrol(&join_string(&admin, name)).success();
        agent.serve();
        agent.await_presence(&admin, "present", SEEN);
        agent
    }

    /// Its configuration file.
    pub fn config_path(&self) -> PathBuf {
        self.dir.join("agent.toml")
    }

    /// Its state directory.
    pub fn state_dir(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// Its folder: state, log, join file.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where its output goes.
    pub fn log_path(&self) -> PathBuf {
        self.dir.join("agent.log")
    }

    /// `aim-agent --config …` with more arguments.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = command(&program("aim-agent"));
        command.arg("--config").arg(self.config_path()).args(arguments);
        command
    }

    /// Runs one of its other commands to the end.
    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> Finished {
        run(&mut self.command(arguments), COMMAND)
    }

    /// Where the join string is put.
    pub fn join_file(&self) -> PathBuf {
        self.dir.join("join")
    }

    /// Puts the join string into a file of mode 0600.
    pub fn put_join(&self, join: &str) {
        use std::io::Write;
        let mut options = fs::OpenOptions::new();
        let mut file =
            options.create(true).truncate(true).write(true).mode(0o600).open(self.join_file()).unwrap();
        writeln!(file, "{join}").unwrap();
    }

    /// Enrols with this join string.
    #[track_caller]
    pub fn enrol(&self, join: &str) -> Finished {
        self.put_join(join);
        self.run(&["enroll", "--join-file", &self.join_file().display().to_string()])
    }

    /// Starts it.
    pub fn serve(&mut self) {
        self.program = Some(Program::start(&self.name, self.command(&["run"]), &self.log_path()));
    }

    /// Starts it by a command that is changed first.
    pub fn serve_with(&mut self, change: impl FnOnce(&mut Command)) {
        let mut command = self.command(&["run"]);
        change(&mut command);
        self.program = Some(Program::start(&self.name, command, &self.log_path()));
    }

    /// Starts it with its log going elsewhere.
    pub fn serve_into(&mut self, log: Stdio) {
        let command = self.command(&["run"]);
        self.program = Some(Program::start_into(&self.name, command, &self.log_path(), log));
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
        assert_eq!(self.program().terminate(STOP), Some(0), "the agent did not stop cleanly");
        self.program = None;
    }

    /// The node as the API shows it; `null` while there is none.
    pub fn node(&self, api: &Api) -> Value {
        let answer = api.get(&format!("/api/v1/nodes/{}", self.name));
        if answer.status == 200 { answer.json() } else { Value::Null }
    }

    /// The node's id.
    #[track_caller]
    pub fn node_id(&self, api: &Api) -> String {
        self.node(api)["id"].as_str().unwrap_or_else(|| panic!("no node {}", self.name)).to_owned()
    }

    /// The node's presence.
    pub fn presence(&self, api: &Api) -> Value {
        self.node(api)["presence"].clone()
    }

    /// Waits for a presence state.
    #[track_caller]
    pub fn await_presence(&self, api: &Api, state: &str, deadline: Duration) -> Value {
        until(&format!("{} is {state}", self.name), deadline, || {
            let presence = self.presence(api);
            (presence["state"] == state).then_some(presence)
        })
    }

    /// The newest events of the node of one kind.
    pub fn events(&self, api: &Api, kind: &str) -> Vec<Value> {
        let path = format!("/api/v1/nodes/{}/events?kind={kind}", self.node_id(api));
        api.get(&path).json()["items"].as_array().cloned().unwrap_or_default()
    }

    /// Waits for an event of this kind.
    #[track_caller]
    pub fn await_event(&self, api: &Api, kind: &str, deadline: Duration) -> Value {
        until(&format!("{} has an event {kind}", self.name), deadline, || {
            self.events(api, kind).into_iter().next()
        })
    }

    /// What was acknowledged, by the agent's own log: (spool, sequence).
    pub fn acknowledged(&self) -> Vec<(String, u64)> {
        let log = fs::read_to_string(self.state_dir().join("acked.log")).unwrap_or_default();
        let complete = log.lines().filter_map(|line| {
            let (spool, sequence) = line.split_once([' ', ',', '\t'])?;
            Some((spool.to_owned(), sequence.trim().parse().ok()?))
        });
        complete.collect()
    }
}

/// A join string for the node, issued to the API's user.
#[track_caller]
pub fn join_string(api: &Api, node: &str) -> String {
    let token = api.post("/api/keyvault/agent/generate-token", &json!({ "node": node })).success();
    token["join"].as_str().unwrap().to_owned()
}
