//! The life of one helper as a state machine: events and time in, effects out; no process, no clock.
//!
//! What it guarantees: one helper at most, also while that one is stuck (FLT-32); no question while one is open; no
//! new helper in a hurry; silence and its end are told once each.

use std::time::Duration;

/// Times of one helper's life.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// From one question to the next.
    pub interval: Duration,
    /// From one question to the next while an answer is outstanding.
    pub hurry: Duration,
    /// A helper that does not reply for this long is silent.
    pub reply_deadline: Duration,
    /// The longest wait before a helper that keeps dying is started again.
    pub longest_restart: Duration,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// Time passed.
    Tick,
    /// The helper replied; what shall follow.
    Replied(Next),
    /// The helper's process ended.
    Ended,
    /// The helper could not be started.
    StartFailed,
    /// There is nothing to ask: the start is put off.
    NotWanted,
    /// The agent ends.
    Stop,
}

/// What shall follow a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// The next question in its time.
    Normally,
    /// Something is outstanding: the next question soon.
    Soon,
    /// A fresh helper: the driver changed under this one. Never while a call is in flight.
    Restart,
}

/// What shall be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Start the helper.
    Start,
    /// Ask it.
    Ask,
    /// Close its stdin, on which it ends by itself.
    CloseInput,
    /// It does not reply since this time; it is left alone.
    FellSilent(Duration),
    /// It replied or ended after a silence.
    SilenceEnded,
    /// It ended without being asked to.
    Died,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// No helper.
    Down { again_at: Duration },
    /// A helper without a question.
    Resting { ask_at: Duration },
    /// A helper with a question.
    Asked { since: Duration },
    /// A helper whose stdin was closed for a fresh one.
    Leaving { since: Duration },
    /// A helper that does not reply, or does not end.
    Silent,
    /// No helper any more.
    Stopped,
}

/// The machine.
#[derive(Debug)]
pub struct Supervision {
    pace: Pace,
    state: State,
    /// Helpers that died since the last reply.
    deaths: u32,
}

impl Supervision {
    /// Without a helper; the first tick starts it.
    pub const fn new(pace: Pace, now: Duration) -> Self {
        Self { pace, state: State::Down { again_at: now }, deaths: 0 }
    }

    /// Changes the interval (live mode); a question that waits is drawn nearer.
    pub fn set_interval(&mut self, now: Duration, interval: Duration) {
        self.pace.interval = interval;
        if let State::Resting { ask_at } = &mut self.state {
            *ask_at = (*ask_at).min(now + interval);
        }
    }

    /// When the next tick is due; `None` where only the helper can go on.
    pub fn wake_at(&self) -> Option<Duration> {
        match self.state {
            State::Down { again_at } => Some(again_at),
            State::Resting { ask_at } => Some(ask_at),
            State::Asked { since } | State::Leaving { since } => Some(since + self.pace.reply_deadline),
            State::Silent | State::Stopped => None,
        }
    }

    /// Takes one event.
    pub fn step(&mut self, now: Duration, input: Input) -> Vec<Effect> {
        match (self.state, input) {
            (State::Stopped, _)
            | (State::Down { .. } | State::Leaving { .. }, Input::Replied(_))
            | (State::Down { .. }, Input::Ended) => vec![],
            (_, Input::Stop) => {
                self.state = State::Stopped;
                vec![Effect::CloseInput]
            }
            (_, Input::Tick) => self.tick(now),
            (_, Input::NotWanted) => {
                self.state = State::Down { again_at: now + self.pace.longest_restart };
                vec![]
            }
            (_, Input::StartFailed) => {
                self.rest_before_restart(now);
                vec![Effect::Died]
            }
            (state, Input::Ended) => self.ended(now, state),
            (state, Input::Replied(next)) => self.replied(now, state, next),
        }
    }

    fn tick(&mut self, now: Duration) -> Vec<Effect> {
        if self.wake_at().is_none_or(|at| now < at) {
            return vec![];
        }
        match self.state {
            State::Down { .. } => {
                self.state = State::Asked { since: now };
                vec![Effect::Start, Effect::Ask]
            }
            State::Resting { .. } => {
                self.state = State::Asked { since: now };
                vec![Effect::Ask]
            }
            State::Asked { since } | State::Leaving { since } => {
                self.state = State::Silent;
                vec![Effect::FellSilent(since)]
            }
            State::Silent | State::Stopped => vec![],
        }
    }

    fn replied(&mut self, now: Duration, state: State, next: Next) -> Vec<Effect> {
        self.deaths = 0;
        let mut effects = if state == State::Silent { vec![Effect::SilenceEnded] } else { vec![] };
        self.state = match next {
            Next::Normally => State::Resting { ask_at: now + self.pace.interval },
            Next::Soon => State::Resting { ask_at: now + self.pace.hurry.min(self.pace.interval) },
            Next::Restart => {
                effects.push(Effect::CloseInput);
                State::Leaving { since: now }
            }
        };
        effects
    }

    fn ended(&mut self, now: Duration, state: State) -> Vec<Effect> {
        match state {
            State::Leaving { .. } => {
                self.state = State::Down { again_at: now };
                vec![]
            }
            State::Silent => {
                self.rest_before_restart(now);
                vec![Effect::SilenceEnded, Effect::Died]
            }
            _ => {
                self.rest_before_restart(now);
                vec![Effect::Died]
            }
        }
    }

    fn rest_before_restart(&mut self, now: Duration) {
        let wait = Duration::from_secs(1 << self.deaths.min(16)).min(self.pace.longest_restart);
        self.deaths = self.deaths.saturating_add(1);
        self.state = State::Down { again_at: now + wait };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PACE: Pace = Pace {
        interval: Duration::from_secs(5),
        hurry: Duration::from_secs(1),
        reply_deadline: Duration::from_secs(6),
        longest_restart: Duration::from_mins(1),
    };

    /// What the outside does next; only what a real process could do is carried out.
    fn outside() -> impl Strategy<Value = (u64, Input)> {
        let input = prop_oneof![
            6 => Just(Input::Tick),
            4 => Just(Input::Replied(Next::Normally)),
            1 => Just(Input::Replied(Next::Soon)),
            1 => Just(Input::Replied(Next::Restart)),
            1 => Just(Input::Ended),
            1 => Just(Input::StartFailed),
            1 => Just(Input::NotWanted),
        ];
        (0_u64..20_000, input)
    }

    proptest! {
        #[test]
        fn flt_32_one_helper_at_most_and_one_question_at_a_time(
            steps in proptest::collection::vec(outside(), 1..200),
        ) {
            let mut now = Duration::ZERO;
            let mut machine = Supervision::new(PACE, now);
            let (mut alive, mut asked, mut silent, mut just_started) = (false, false, false, false);
            for (later, input) in steps {
                now += Duration::from_millis(later);
                let possible = match input {
                    Input::Replied(_) => alive && asked,
                    Input::Ended => alive,
                    Input::StartFailed | Input::NotWanted => just_started,
                    Input::Tick | Input::Stop => true,
                };
                if !possible {
                    continue;
                }
                match input {
                    Input::Replied(_) => asked = false,
                    Input::Ended | Input::StartFailed | Input::NotWanted => (alive, asked) = (false, false),
                    Input::Tick | Input::Stop => {}
                }
                just_started = false;
                for effect in machine.step(now, input) {
                    match effect {
                        Effect::Start => {
                            prop_assert!(!alive, "a second helper");
                            (alive, just_started) = (true, true);
                        }
                        Effect::Ask => {
                            prop_assert!(alive && !asked && !silent, "asked while a question is open");
                            asked = true;
                        }
                        Effect::FellSilent(_) => {
                            prop_assert!(!silent);
                            silent = true;
                        }
                        Effect::SilenceEnded => {
                            prop_assert!(silent);
                            silent = false;
                        }
                        Effect::CloseInput | Effect::Died => {}
                    }
                }
                prop_assert!(machine.wake_at().is_some() || silent, "nothing would ever happen again");
            }
            prop_assert_eq!(machine.step(now, Input::Stop), vec![Effect::CloseInput]);
            prop_assert_eq!(machine.step(now + Duration::from_mins(15), Input::Tick), vec![]);
        }
    }

    #[test]
    fn a_helper_that_keeps_dying_is_not_started_in_a_loop() {
        let mut machine = Supervision::new(PACE, Duration::ZERO);
        let mut now = Duration::ZERO;
        let mut starts = 0;
        while now < Duration::from_hours(1) {
            if machine.step(now, Input::Tick).contains(&Effect::Start) {
                starts += 1;
                machine.step(now, Input::Ended);
            }
            now += Duration::from_millis(500);
        }
        assert!((60..=70).contains(&starts), "{starts} starts in an hour");
    }
}
