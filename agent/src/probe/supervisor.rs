//! The async shell around [`Supervision`]: starts the helper's process, carries frames and time.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinHandle};

use super::frame;
use super::messages::{Ask, Keyed, Reply};
use super::supervision::{Effect, Input, Next, Pace, Supervision};
use crate::clock::SharedClock;
use crate::timer;

/// Frames of a helper that wait to be read; it sends one for each question.
const FRAMES_WAITING: usize = 4;
/// How long a question may take to go down the pipe: the helper always listens.
const WRITE_DEADLINE: Duration = Duration::from_secs(2);
/// How long an ending agent waits for its helper (FLT-32: the whole stop takes at most 10 s).
const LEAVE_DEADLINE: Duration = Duration::from_secs(1);
/// Longest line of a helper's stderr that is logged.
const LOG_LINE: u64 = 512;
/// Lines of one helper that are logged.
const LOG_LINES: u32 = 100;

/// How to start a helper.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The agent's own binary.
    pub program: PathBuf,
    /// Which helper it shall be.
    pub kind: &'static str,
}

/// One side of the talk with a helper: what to ask, and what to make of the replies.
pub trait Conversation: Send + 'static {
    /// What is asked.
    type Question: Serialize + Send;
    /// What comes back.
    type Answer: DeserializeOwned + Send;

    /// Whether there is anything to ask on this node; asked again after a while where there is not.
    fn wanted(&mut self) -> bool {
        true
    }
    /// The questions of the next round.
    fn questions(&mut self, now: Duration) -> Vec<Keyed<Self::Question>>;
    /// A reply came.
    fn replied(&mut self, now: Duration, reply: Reply<Self::Answer>) -> Next;
    /// The helper does not reply since then; it is left alone.
    fn fell_silent(&mut self, now: Duration, since: Duration);
    /// The helper is gone, and what it knew with it.
    fn ended(&mut self, now: Duration);
}

/// A task that owns one helper.
#[derive(Debug)]
pub struct Supervisor {
    kind: &'static str,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Supervisor {
    /// Starts the task; `interval` may change at any time.
    pub fn start<C: Conversation>(
        launch: Launch,
        pace: Pace,
        interval: watch::Receiver<Duration>,
        clock: SharedClock,
        conversation: C,
    ) -> Self {
        let (stop, stopped) = watch::channel(false);
        let kind = launch.kind;
        let machine = Supervision::new(pace, clock.monotonic());
        let shell = Shell { launch, clock, conversation, machine, helper: None, round: 0 };
        Self { kind, stop, task: tokio::spawn(shell.run(interval, stopped)) }
    }

    /// Which helper it owns, and its task.
    pub fn task(&self) -> (&'static str, AbortHandle) {
        (self.kind, self.task.abort_handle())
    }

    /// Closes the helper's stdin and waits a bounded time; a helper that is stuck in a call is left to itself.
    pub async fn shutdown(self) {
        // The task may have ended already; then there is nothing to stop.
        let _ = self.stop.send(true);
        if let Err(error) = self.task.await {
            tracing::error!(probe = self.kind, %error, "the probe's task ended badly");
        }
    }
}

struct Helper {
    input: Option<ChildStdin>,
    frames: mpsc::Receiver<Said>,
    pid: Option<u32>,
    /// Ends with the process; dropped unjoined only where the process is stuck.
    reader: JoinHandle<()>,
}

enum Said {
    Frame(Vec<u8>),
    /// What it says cannot be understood.
    Nonsense(frame::FrameError),
    Ended(String),
}

struct Shell<C: Conversation> {
    launch: Launch,
    clock: SharedClock,
    conversation: C,
    machine: Supervision,
    helper: Option<Helper>,
    round: u64,
}

impl<C: Conversation> Shell<C> {
    async fn run(mut self, mut interval: watch::Receiver<Duration>, mut stopped: watch::Receiver<bool>) {
        let mut input = Input::Tick;
        loop {
            self.step(input).await;
            if input == Input::Stop {
                return self.leave().await;
            }
            input = tokio::select! {
                biased;
                // A dropped sender means the same as a stop.
                _ = stopped.changed() => Input::Stop,
                changed = interval.changed() => {
                    if changed.is_err() {
                        Input::Stop
                    } else {
                        let new = *interval.borrow_and_update();
                        self.machine.set_interval(self.clock.monotonic(), new);
                        Input::Tick
                    }
                }
                said = next_said(self.helper.as_mut()) => self.hear(said),
                () = sleep_until(self.machine.wake_at(), &self.clock) => Input::Tick,
            };
        }
    }

    async fn step(&mut self, input: Input) {
        let mut pending: Vec<Input> = vec![input];
        while let Some(input) = pending.pop() {
            for effect in self.machine.step(self.clock.monotonic(), input) {
                match effect {
                    Effect::Start => {
                        if !self.conversation.wanted() {
                            pending.push(Input::NotWanted);
                        } else if let Err(error) = self.start_helper() {
                            tracing::error!(probe = self.launch.kind, %error, "cannot start the probe process");
                            pending.push(Input::StartFailed);
                        }
                    }
                    Effect::Ask => self.ask().await,
                    Effect::CloseInput => self.close_input(),
                    Effect::FellSilent(since) => {
                        tracing::warn!(
                            probe = self.launch.kind,
                            "the probe process does not reply; left alone"
                        );
                        self.conversation.fell_silent(self.clock.monotonic(), since);
                    }
                    Effect::SilenceEnded => tracing::info!(probe = self.launch.kind, "the silence ended"),
                    Effect::Died => self.conversation.ended(self.clock.monotonic()),
                }
            }
        }
    }

    fn start_helper(&mut self) -> std::io::Result<()> {
        let mut child = Command::new(&self.launch.program)
            .args(["probe", self.launch.kind])
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A terminal's Ctrl-C is for the agent, which ends its helpers itself.
            .process_group(0)
            .kill_on_drop(false)
            .spawn()?;
        let (frames, heard) = mpsc::channel(FRAMES_WAITING);
        let pid = child.id();
        let input = child.stdin.take();
        let reader = tokio::spawn(listen(self.launch.kind, child, frames));
        tracing::debug!(probe = self.launch.kind, pid, "probe process started");
        self.helper = Some(Helper { input, frames: heard, pid, reader });
        Ok(())
    }

    async fn ask(&mut self) {
        let Some(helper) = &mut self.helper else { return };
        let Some(input) = &mut helper.input else { return };
        self.round += 1;
        let ask = Ask { round: self.round, questions: self.conversation.questions(self.clock.monotonic()) };
        let sent = match frame::encode(&ask) {
            Ok(frame) => tokio::time::timeout(WRITE_DEADLINE, input.write_all(&frame)).await,
            Err(error) => {
                tracing::error!(probe = self.launch.kind, %error, "cannot write the question");
                return;
            }
        };
        if !matches!(sent, Ok(Ok(()))) {
            // Half a frame may be in the pipe: this helper cannot be spoken to any more. Its end or silence follows.
            helper.input = None;
        }
    }

    fn close_input(&mut self) {
        if let Some(helper) = &mut self.helper {
            helper.input = None;
        }
    }

    fn hear(&mut self, said: Said) -> Input {
        match said {
            Said::Frame(content) => match frame::decode::<Reply<C::Answer>>(&content) {
                Ok(reply) => Input::Replied(self.reply(reply)),
                Err(error) => self.nonsense(&error),
            },
            Said::Nonsense(error) => self.nonsense(&error),
            Said::Ended(how) => {
                tracing::debug!(probe = self.launch.kind, how, "probe process ended");
                self.helper = None;
                Input::Ended
            }
        }
    }

    fn reply(&mut self, reply: Reply<C::Answer>) -> Next {
        let outstanding = !reply.in_flight.is_empty();
        match self.conversation.replied(self.clock.monotonic(), reply) {
            // AGT-09: nobody is asked to end while in a call.
            Next::Restart if outstanding => Next::Soon,
            next => next,
        }
    }

    fn nonsense(&mut self, error: &frame::FrameError) -> Input {
        tracing::error!(probe = self.launch.kind, %error, "the probe process talks nonsense; it is sent away");
        self.close_input();
        Input::Tick
    }

    /// Waits a bounded time for the helper to end after its stdin was closed.
    async fn leave(mut self) {
        let Some(helper) = &mut self.helper else { return };
        let ended = async { while !matches!(next_said(Some(helper)).await, Said::Ended(_)) {} };
        if tokio::time::timeout(LEAVE_DEADLINE, ended).await.is_err() {
            tracing::warn!(
                probe = self.launch.kind,
                pid = helper.pid,
                "the probe process is stuck in a call and is left to itself; it ends when the call returns"
            );
            helper.reader.abort();
        }
    }
}

/// What the helper says next; never where there is none.
async fn next_said(helper: Option<&mut Helper>) -> Said {
    match helper {
        Some(helper) => match helper.frames.recv().await {
            Some(said) => said,
            None => Said::Ended("its reader ended".into()),
        },
        None => std::future::pending().await,
    }
}

async fn sleep_until(at: Option<Duration>, clock: &SharedClock) {
    match at {
        Some(at) => timer::sleep(at.saturating_sub(clock.monotonic())).await,
        None => std::future::pending().await,
    }
}

/// Reads one helper until its end.
async fn listen(kind: &'static str, mut child: Child, said: mpsc::Sender<Said>) {
    let log = child.stderr.take().map(|stderr| tokio::spawn(copy_to_log(kind, stderr)));
    if let Some(stdout) = child.stdout.take() {
        read_frames(stdout, &said).await;
    }
    let how = match child.wait().await {
        Ok(status) => status.to_string(),
        Err(error) => error.to_string(),
    };
    // Nobody listens where the agent is ending.
    let _ = said.send(Said::Ended(how)).await;
    if let Some(log) = log {
        log.abort();
    }
}

async fn read_frames(stdout: ChildStdout, said: &mpsc::Sender<Said>) {
    let mut pipe = BufReader::new(stdout);
    loop {
        let next = match frame::read_async(&mut pipe).await {
            Ok(Some(content)) => Said::Frame(content),
            Ok(None) => return,
            Err(error) => {
                // Nobody listens where the agent is ending.
                let _ = said.send(Said::Nonsense(error)).await;
                return;
            }
        };
        if said.send(next).await.is_err() {
            return;
        }
    }
}

/// What a driver's library prints, bounded: it goes to the journal and never anywhere else.
async fn copy_to_log(kind: &'static str, stderr: ChildStderr) {
    let mut pipe = BufReader::new(stderr);
    for number in 1.. {
        let mut line = Vec::new();
        let read = (&mut pipe).take(LOG_LINE).read_until(b'\n', &mut line).await;
        if !matches!(read, Ok(1..)) {
            return;
        }
        // The pipe is read to its end in any case: a full pipe would stop the helper.
        if number <= LOG_LINES {
            let text = String::from_utf8_lossy(&line);
            tracing::warn!(probe = kind, "{}", text.trim_end().escape_debug());
        }
    }
}
