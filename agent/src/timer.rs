//! Timers of the kernel for what the agent waits for all the time: it wakes up when something is due and at no other
//! time.
//!
//! Tokio's wheel of timers wakes its thread at each level that a far deadline passes, and once more for each deadline
//! that was put off: five wake-ups and a self-signal for one heartbeat of QUIC, where this takes two.

use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use quinn::{AsyncTimer, AsyncUdpSocket, Runtime, TokioRuntime};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Zero would disarm the timer.
const SHORTEST: Duration = Duration::from_nanos(1);
const LONGEST: Duration = Duration::from_hours(24);

/// Tokio with the kernel's timers.
#[derive(Debug)]
pub(crate) struct KernelTimers;

impl Runtime for KernelTimers {
    fn new_timer(&self, at: Instant) -> Pin<Box<dyn AsyncTimer>> {
        match KernelTimer::new(self.now(), at) {
            Ok(timer) => Box::pin(timer),
            // Without a descriptor to spare the link costs more and works.
            Err(error) => {
                tracing::debug!(%error, "no timer of the kernel");
                TokioRuntime.new_timer(at)
            }
        }
    }

    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        TokioRuntime.spawn(future);
    }

    fn wrap_udp_socket(&self, socket: std::net::UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        TokioRuntime.wrap_udp_socket(socket)
    }

    fn now(&self) -> Instant {
        TokioRuntime.now()
    }
}

/// Waits for this long.
pub(crate) async fn sleep(length: Duration) {
    let now = KernelTimers.now();
    // A length that no clock reaches is as good as a day.
    let at = now.checked_add(length).unwrap_or(now + LONGEST);
    let mut timer = KernelTimers.new_timer(at);
    std::future::poll_fn(|context| timer.as_mut().poll(context)).await;
}

#[derive(Debug)]
struct KernelTimer {
    descriptor: AsyncFd<OwnedFd>,
    /// The deadline could not be set: due at once, so that nothing waits for ever.
    is_broken: bool,
}

impl KernelTimer {
    fn new(now: Instant, at: Instant) -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let descriptor = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        #[expect(
            deprecated,
            reason = "its successor is unsafe to call; an OwnedFd gives all that it asks for"
        )]
        let descriptor = AsyncFd::with_interest(descriptor, Interest::READABLE)?;
        let timer = Self { descriptor, is_broken: false };
        timer.arm(at.saturating_duration_since(now))?;
        Ok(timer)
    }

    fn arm(&self, left: Duration) -> io::Result<()> {
        let it_value = Timespec::try_from(left.max(SHORTEST)).map_err(io::Error::other)?;
        let it_interval = Timespec { tv_sec: 0, tv_nsec: 0 };
        timerfd_settime(
            self.descriptor.get_ref(),
            TimerfdTimerFlags::empty(),
            &Itimerspec { it_interval, it_value },
        )?;
        Ok(())
    }
}

impl AsyncTimer for KernelTimer {
    fn reset(mut self: Pin<&mut Self>, at: Instant) {
        let left = at.saturating_duration_since(TokioRuntime.now());
        self.is_broken = self.arm(left).is_err();
    }

    fn poll(self: Pin<&mut Self>, context: &mut Context) -> Poll<()> {
        if self.is_broken {
            return Poll::Ready(());
        }
        loop {
            let Poll::Ready(ready) = self.descriptor.poll_read_ready(context) else { return Poll::Pending };
            let Ok(mut guard) = ready else { return Poll::Ready(()) };
            // How often it was due; a timer that was set anew has nothing to say.
            let mut expirations = [0; 8];
            match rustix::io::read(self.descriptor.get_ref(), &mut expirations) {
                Err(rustix::io::Errno::AGAIN) => guard.clear_ready(),
                Err(rustix::io::Errno::INTR) => {}
                _ => return Poll::Ready(()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    /// Whether the timer is due within this time.
    async fn is_due(timer: &mut Pin<Box<dyn AsyncTimer>>, within: Duration) -> bool {
        tokio::time::timeout(within, poll_fn(|context| timer.as_mut().poll(context))).await.is_ok()
    }

    #[tokio::test(flavor = "current_thread")]
    async fn it_is_due_at_its_time_and_not_before_and_can_be_set_anew() {
        let long = Duration::from_mins(1);
        let runtime = KernelTimers;
        let began = runtime.now();
        let mut timer = runtime.new_timer(began + Duration::from_millis(50));
        assert!(is_due(&mut timer, long).await);
        assert!(runtime.now() >= began + Duration::from_millis(50));
        // Put off after it was due and not asked: the former time is forgotten.
        timer.as_mut().reset(runtime.now());
        tokio::time::sleep(Duration::from_millis(20)).await;
        timer.as_mut().reset(runtime.now() + long);
        assert!(!is_due(&mut timer, Duration::from_millis(50)).await);
        timer.as_mut().reset(began);
        assert!(is_due(&mut timer, long).await, "a time that is past is due at once");
    }
}
