//! `aimctl completions` and `aimctl man`.

use std::io::Write;
use std::path::PathBuf;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::args::Cli;
use crate::error::CliError;

/// Arguments of `completions`.
#[derive(Debug, clap::Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Arguments of `man`.
#[derive(Debug, clap::Args)]
pub(crate) struct ManArgs {
    /// Write one page for each command into this folder, instead of the first page to standard output
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
}

/// Writes the completion script.
pub(crate) fn completions(args: &CompletionsArgs) -> Result<(), CliError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "aimctl", &mut script);
    Ok(std::io::stdout().lock().write_all(&script)?)
}

/// Writes the manual.
pub(crate) fn man(args: &ManArgs) -> Result<(), CliError> {
    match &args.dir {
        Some(dir) => {
            std::fs::create_dir_all(dir).map_err(CliError::file("making the folder", dir))?;
            clap_mangen::generate_to(Cli::command(), dir).map_err(CliError::file("writing pages into", dir))
        }
        None => Ok(clap_mangen::Man::new(Cli::command()).render(&mut std::io::stdout().lock())?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_manual_documents_exit_codes_and_has_a_page_for_every_command() {
        let folder = tempfile::tempdir().unwrap();
        man(&ManArgs { dir: Some(folder.path().to_owned()) }).unwrap();
        let first = std::fs::read_to_string(folder.path().join("aimctl.1")).unwrap();
        assert!(first.contains("Exit codes") && first.contains("78"), "{first}");
        for page in ["aimctl-node-list.1", "aimctl-token-create.1", "aimctl-audit-verify.1"] {
            assert!(folder.path().join(page).exists(), "{page}");
        }
    }

    #[test]
    fn every_argument_and_command_is_explained() {
        fn check(command: &clap::Command) {
            assert!(command.get_about().is_some(), "{} is not explained", command.get_name());
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{} {}", command.get_name(), argument.get_id());
            }
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }
}
