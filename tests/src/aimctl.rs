//! aimctl as a person or a script uses it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use aim_common::identity::Sha256Digest;
use serde_json::Value;

use crate::process::{Finished, command, program, run};

/// Longest wait for one command.
const TIMEOUT: Duration = Duration::from_mins(1);

/// aimctl with a configuration folder of its own.
#[derive(Debug)]
pub struct Aimctl {
    config: PathBuf,
}

impl Aimctl {
    /// Logs in as admin with the password in the file.
    #[track_caller]
    pub fn login(config: &Path, port: u16, pin: &Sha256Digest, password_file: &Path) -> Self {
        let aimctl = Self::new(config);
        let server = format!("https://127.0.0.1:{port}");
        let file = password_file.display().to_string();
        let pin = pin.to_string();
        aimctl.run(&["login", &server, "--root-sha256", &pin, "--password-file", &file]).success();
        aimctl
    }

    /// aimctl with this configuration folder; not logged in.
    pub fn new(config: &Path) -> Self {
        Self { config: config.to_owned() }
    }

    /// Its configuration folder.
    pub fn config_dir(&self) -> &Path {
        &self.config
    }

    /// Runs a command to its end.
    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> Finished {
        let mut command = command(&program("aimctl"));
        command.args(arguments).env("AIM_CONFIG_DIR", &self.config).env("HOME", &self.config);
        run(&mut command, TIMEOUT)
    }

    /// Runs a command that must succeed, with `-o json`.
    #[track_caller]
    pub fn json(&self, arguments: &[&str]) -> Value {
        let output = self.run(&[arguments, &["-o", "json"]].concat()).success();
        serde_json::from_str(&output).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {output}"))
    }
}
