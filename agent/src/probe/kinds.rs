//! The helpers by name: `aim-agent probe NAME`, a command for the agent itself and for fixtures.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Serialize;
use serde_json::json;

use super::helper::{self, Leave};
use super::messages::{Ask, Keyed};
use super::pool::{Pool, Probe};
use crate::collect::filesystems::{self, StatvfsProbe};
use crate::collect::gpu::answers::{Answer, Question};
use crate::collect::gpu::nvml::NvmlProbe;

/// Name of the helper for GPUs.
pub(super) const GPU: &str = "gpu";
/// Name of the helper for file systems.
pub(super) const FILESYSTEM: &str = "filesystem";

/// Where the helpers look; they have no configuration.
const PROC: &str = "/proc";

/// Runs as a helper where the arguments (without the program's name) say `probe NAME`; else gives them back.
///
/// `probe NAME --once [--library PATH]` asks everything once and prints the answers as JSON: the raw material of
/// fixtures. Call this before anything else in `main`: a helper needs neither configuration nor runtime.
pub fn run_if_helper(arguments: impl IntoIterator<Item = OsString>) -> Option<ExitCode> {
    let mut arguments = arguments.into_iter();
    if arguments.next()? != "probe" {
        return None;
    }
    let kind = arguments.next()?;
    let rest: Vec<OsString> = arguments.collect();
    let once = rest.iter().any(|argument| argument == "--once");
    let gpu = || NvmlProbe::new(Path::new(PROC));
    match (kind.to_str()?, once) {
        (GPU, false) => Some(helper::serve(gpu(), Leave::AfterTheCall)),
        (FILESYSTEM, false) => Some(helper::serve(StatvfsProbe, Leave::AtOnce)),
        (GPU, true) => Some(print(&gpu_once(Pool::new(gpu()), option(&rest, "--library")))),
        (FILESYSTEM, true) => Some(print(&filesystems_once(Pool::new(StatvfsProbe)))),
        _ => None,
    }
}

fn option(arguments: &[OsString], name: &str) -> Option<PathBuf> {
    let at = arguments.iter().position(|argument| argument.as_os_str() == OsStr::new(name))?;
    arguments.get(at + 1).map(PathBuf::from)
}

fn ask<P: Probe>(pool: &mut Pool<P>, questions: Vec<Keyed<P::Question>>) -> serde_json::Value
where
    P::Answer: Serialize,
{
    let reply = pool.round(Ask { round: 0, questions });
    json!(reply)
}

fn gpu_once(mut pool: Pool<NvmlProbe>, library: Option<PathBuf>) -> serde_json::Value {
    let question = Keyed { key: "library".into(), body: Question::Library { path: library } };
    let reply = pool.round(Ask { round: 0, questions: vec![question] });
    let count = reply.answers.iter().find_map(|answer| match &answer.body {
        Answer::Library(library) => Some(library.count),
        Answer::Gpu(_) => None,
    });
    let gpu = |index| Keyed { key: format!("gpu {index}"), body: Question::Gpu { index, facts: true } };
    json!({ "library": reply, "gpus": ask(&mut pool, (0..count.unwrap_or(0)).map(gpu).collect()) })
}

fn filesystems_once(mut pool: Pool<StatvfsProbe>) -> serde_json::Value {
    ask(&mut pool, filesystems::questions_once(Path::new(PROC)))
}

fn print(answers: &serde_json::Value) -> ExitCode {
    match writeln!(std::io::stdout(), "{answers:#}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
