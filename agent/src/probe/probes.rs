//! All helpers of an agent, started and ended together.

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::kinds::{FILESYSTEM, GPU};
use super::supervision::Pace;
use super::supervisor::{Launch, Supervisor};
use crate::clock::SharedClock;
use crate::collect::Roots;
use crate::collect::filesystems::{FilesystemFeed, FilesystemTalk, FilesystemsConfig};
use crate::collect::gpu::{GpuConfig, GpuFeed, GpuTalk};

/// From question to question in live mode.
const LIVE_INTERVAL: Duration = Duration::from_secs(1);
/// From question to question while an answer is outstanding.
const HURRY: Duration = Duration::from_millis(500);
/// A helper replies within 3 s whatever hangs in it; double that is silence.
const REPLY_DEADLINE: Duration = Duration::from_secs(6);
/// The longest wait before a helper that keeps dying is started again, and before a node without GPUs is looked at again.
const LONGEST_RESTART: Duration = Duration::from_mins(1);

/// What the helpers are started with.
#[derive(Debug, Clone)]
pub struct ProbesConfig {
    /// The agent's own binary, which knows the hidden command `probe`.
    pub program: PathBuf,
    /// `[gpu]`.
    pub gpu: GpuConfig,
    /// `[filesystems]`.
    pub filesystems: FilesystemsConfig,
}

impl ProbesConfig {
    /// With the running binary as helper, also where its file was replaced meanwhile.
    pub fn new(gpu: GpuConfig, filesystems: FilesystemsConfig) -> Self {
        Self { program: "/proc/self/exe".into(), gpu, filesystems }
    }
}

/// The helpers of an agent; owned by its run loop, which gives the feeds to the collectors.
#[derive(Debug)]
pub struct Probes {
    gpu: Option<(Supervisor, GpuFeed)>,
    filesystems: Option<(Supervisor, FilesystemFeed)>,
    gpu_interval: watch::Sender<Duration>,
    // Kept: a supervisor ends when its interval's sender is gone.
    filesystem_interval: watch::Sender<Duration>,
    calm_interval: Duration,
}

impl Probes {
    /// Starts what the configuration wants; must be called within a runtime. A helper process starts only where there
    /// is something to ask.
    pub fn start(config: &ProbesConfig, roots: &Roots, clock: &SharedClock) -> Self {
        let calm_interval = Duration::from_millis(config.gpu.interval_ms);
        let (gpu_interval, gpu_pace) = watch::channel(calm_interval);
        let (filesystem_interval, filesystem_pace) =
            watch::channel(Duration::from_millis(config.filesystems.interval_ms));
        let launch = |kind| Launch { program: config.program.clone(), kind };
        let gpu = config.gpu.enabled.then(|| {
            let (talk, feed) = GpuTalk::new(config.gpu.clone(), roots.clone());
            let pace = pace(*gpu_pace.borrow());
            (Supervisor::start(launch(GPU), pace, gpu_pace, SharedClock::clone(clock), talk), feed)
        });
        let filesystems = config.filesystems.enabled.then(|| {
            let (talk, feed) = FilesystemTalk::new(config.filesystems.clone(), roots);
            let pace = pace(*filesystem_pace.borrow());
            let clock = SharedClock::clone(clock);
            (Supervisor::start(launch(FILESYSTEM), pace, filesystem_pace, clock, talk), feed)
        });
        Self { gpu, filesystems, gpu_interval, filesystem_interval, calm_interval }
    }

    /// Where the GPU collector reads; `None` where GPUs are switched off.
    pub fn gpu(&self) -> Option<GpuFeed> {
        self.gpu.as_ref().map(|(_, feed)| feed.clone())
    }

    /// Where the file-system collector reads; `None` where file systems are switched off.
    pub fn filesystems(&self) -> Option<FilesystemFeed> {
        self.filesystems.as_ref().map(|(_, feed)| feed.clone())
    }

    /// Live mode: GPUs are asked each second while somebody looks.
    pub fn set_live(&self, live: bool) {
        let interval = if live { LIVE_INTERVAL.min(self.calm_interval) } else { self.calm_interval };
        self.gpu_interval.send_if_modified(|now| std::mem::replace(now, interval) != interval);
    }

    /// The tasks that own the helpers, by the helper's name; none ends before the shutdown (SUP-05).
    pub fn tasks(&self) -> impl Iterator<Item = (&'static str, AbortHandle)> {
        let gpu = self.gpu.iter().map(|(supervisor, _)| supervisor.task());
        gpu.chain(self.filesystems.iter().map(|(supervisor, _)| supervisor.task()))
    }

    /// Waits until every helper has answered once, or will not: for `report --once` and `check`. The caller bounds it.
    pub async fn settled(&self) {
        // A feed ends only with its supervisor; then nothing more will come.
        if let Some(mut feed) = self.gpu() {
            let _ = feed.wait_for(|view| view.settled).await;
        }
        if let Some(mut feed) = self.filesystems() {
            let _ = feed.wait_for(|view| view.settled).await;
        }
    }

    /// Ends the helpers, all at once and within 2 s; one that is stuck in a call is left to itself.
    pub async fn shutdown(self) {
        let gpu = async {
            if let Some((supervisor, _)) = self.gpu {
                supervisor.shutdown().await;
            }
        };
        let filesystems = async {
            if let Some((supervisor, _)) = self.filesystems {
                supervisor.shutdown().await;
            }
        };
        tokio::join!(gpu, filesystems);
        drop(self.filesystem_interval);
    }
}

fn pace(interval: Duration) -> Pace {
    Pace { interval, hurry: HURRY, reply_deadline: REPLY_DEADLINE, longest_restart: LONGEST_RESTART }
}
