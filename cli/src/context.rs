//! What every command gets: the output, and the client of the chosen profile.

use std::io::{BufRead, IsTerminal, Write};
use std::path::Path;

use crate::args::Global;
use crate::client::Client;
use crate::error::CliError;
use crate::output::{Output, View};
use crate::profile::{ConfigDir, ConfigFile, Profile};

/// Name of the first profile.
const FIRST_PROFILE: &str = "default";
/// Longest secret read from a file or a pipe.
const MAX_SECRET_BYTES: u64 = 4096;

/// What every command gets.
pub(crate) struct Context {
    /// Where results go.
    pub(crate) output: Output,
    /// The configuration's folder.
    pub(crate) dir: ConfigDir,
    profile: Option<String>,
}

impl Context {
    /// From the options of the command line.
    pub(crate) fn new(global: &Global) -> Result<Self, CliError> {
        Ok(Self {
            output: Output::new(global.output, global.color),
            dir: ConfigDir::from_environment()?,
            profile: global.profile.clone(),
        })
    }

    /// The chosen profile's name: as told, else the current one, else `default`.
    pub(crate) fn profile_name(&self, config: &ConfigFile) -> String {
        self.profile.clone().or_else(|| config.current.clone()).unwrap_or_else(|| FIRST_PROFILE.to_owned())
    }

    /// The client of the chosen profile.
    pub(crate) async fn client(&self) -> Result<Client, CliError> {
        let config = self.dir.load()?;
        let name = self.profile_name(&config);
        let profile: &Profile = config.profiles.get(&name).ok_or_else(|| {
            let known: Vec<&str> = config.profiles.keys().map(String::as_str).collect();
            let known = if known.is_empty() {
                "nobody has logged in yet".to_owned()
            } else {
                format!("there are: {}", known.join(", "))
            };
            CliError::NotLoggedIn(format!(
                "there is no profile {name:?} ({known}); log in with: aimctl login https://HOST:PORT --root-sha256 PIN"
            ))
        })?;
        Client::new(profile, self.dir.credentials(&name)?).await
    }

    /// What cells depend on, after an answer of this client.
    pub(crate) fn view(client: &Client) -> View {
        View { now: client.now() }
    }
}

/// Asks before something that cannot be undone; where nobody can answer, `--yes` is needed.
pub(crate) fn confirm(yes: bool, what: &str) -> Result<(), CliError> {
    if yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(CliError::Usage(format!("{what}: nobody is there to confirm it; give --yes")));
    }
    let _ = write!(std::io::stderr(), "{what}. Go on? [y/N] ");
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    if matches!(answer.trim(), "y" | "Y" | "yes") {
        Ok(())
    } else {
        Err(CliError::Failed("not confirmed; nothing was done".to_owned()))
    }
}

/// Reads a password: from a file, from standard input (`-`), or by asking on the terminal.
pub(crate) fn read_password(file: Option<&Path>, prompt: &str, twice: bool) -> Result<String, CliError> {
    let password = match file {
        Some(path) if path == Path::new("-") => first_line(std::io::stdin().lock(), path)?,
        Some(path) => {
            let file = std::fs::File::open(path).map_err(CliError::file("reading", path))?;
            first_line(std::io::BufReader::new(file), path)?
        }
        None if std::io::stdin().is_terminal() => ask(prompt, twice)?,
        None => {
            let hint =
                "no terminal to ask for the password; give --password-file FILE, or - for standard input";
            return Err(CliError::Usage(hint.to_owned()));
        }
    };
    if password.is_empty() {
        return Err(CliError::Usage("the password is empty".to_owned()));
    }
    Ok(password)
}

fn ask(prompt: &str, twice: bool) -> Result<String, CliError> {
    let once = |prompt: &str| {
        rpassword::prompt_password(prompt)
            .map_err(|error| CliError::Failed(format!("asking for the password: {error}")))
    };
    let password = once(prompt)?;
    if twice && once("Again: ")? != password {
        return Err(CliError::Usage("the two passwords differ; nothing was done".to_owned()));
    }
    Ok(password)
}

fn first_line(reader: impl BufRead, path: &Path) -> Result<String, CliError> {
    let mut line = String::new();
    reader.take(MAX_SECRET_BYTES).read_line(&mut line).map_err(CliError::file("reading", path))?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_file_is_read_up_to_its_line_feed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        std::fs::write(&path, " with blanks \r\nnot this").unwrap();
        assert_eq!(read_password(Some(&path), "", false).unwrap(), " with blanks ");
        std::fs::write(&path, "\n").unwrap();
        assert!(read_password(Some(&path), "", false).is_err());
    }
}
