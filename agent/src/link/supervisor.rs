//! Keeps one node connected: addresses in order, one backoff, the certificate renewed in time, an end with a cause.

use std::sync::Arc;
use std::time::Duration;

use aim_common::backoff::{Backoff, InvalidBackoff};
use aim_common::protocol::{CloseCode, GoodbyeCause};
use tokio::sync::{mpsc, watch};

use super::connection::{Ended, LinkError, Opened, Served, serve};
use super::dial::{Dialled, Successor, dial};
use super::renew::{Renewal, RenewalFailure};
use super::{HelloFacts, LinkEvent, OpenSession, Trouble, Wish, goodbye_of, resolve};
use crate::clock::SharedClock;
use crate::entropy::random_bytes;
use crate::identity::{ClockView, Identity, IdentityStore, late_renewal, renewal_time, view_clock};

/// First delay, its cap, and how long a session must live to begin anew (FLT-24).
pub const BACKOFF: (Duration, Duration, Duration) =
    (Duration::from_secs(1), Duration::from_secs(30), Duration::from_secs(30));
/// A coordinator that refuses this node is asked again this slowly: only an operator can change its mind.
pub const REFUSED_DELAY: Duration = Duration::from_secs(30);
/// Renewals of an expired certificate are never closer together (PKI-18).
const LATE_RENEWAL_EVERY: Duration = Duration::from_mins(1);
/// A wrong clock is looked at again this often, so that the node is back within 60 s of its mending (AGT-11).
const CLOCK_EVERY: Duration = Duration::from_secs(15);
/// After a failed renewal over the session.
const RENEWAL_RETRY: Duration = Duration::from_mins(1);
/// Longest sleep until a time of the wall clock, because that clock may be set meanwhile.
const LONGEST_SLEEP: Duration = Duration::from_mins(10);
/// How long the last packets of a connection may take to leave.
const DRAIN: Duration = Duration::from_millis(500);

/// What the supervisor works with.
#[derive(Debug)]
pub struct Link {
    /// Where renewed certificates go.
    pub store: IdentityStore,
    /// The pair in use.
    pub identity: Arc<Identity>,
    /// A renewed pair that was not proven yet.
    pub next: Option<Arc<Identity>>,
}

/// What it needs from the process.
pub struct SupervisorOptions {
    /// Addresses of the link; empty: those of the identity.
    pub addresses: Vec<String>,
    /// HTTPS addresses of the coordinator, for late renewal; empty: those of the identity.
    pub https_addresses: Vec<String>,
    /// The clock.
    pub clock: SharedClock,
    /// What Hello says.
    pub facts: watch::Receiver<HelloFacts>,
    /// What the agent wants.
    pub wish: watch::Receiver<Wish>,
    /// Where events go.
    pub events: mpsc::Sender<LinkEvent>,
}

/// Why the supervisor ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkEnd {
    /// As wished.
    Stopped,
    /// Nobody takes its events any more.
    Abandoned,
}

/// Runs until the wish is to stop.
pub async fn supervise(link: Link, options: SupervisorOptions) -> Result<LinkEnd, InvalidBackoff> {
    let (base, cap, reset_after) = BACKOFF;
    let backoff = Backoff::new(base, cap, reset_after)?;
    Ok(Supervisor { link, options, backoff, failures: 0, late_renewal_at: None }.run().await)
}

struct Supervisor {
    link: Link,
    options: SupervisorOptions,
    backoff: Backoff,
    failures: u32,
    /// When an expired certificate may be renewed again.
    late_renewal_at: Option<Duration>,
}

/// What follows a session or an attempt.
enum After {
    /// Connect at once.
    Reconnect,
    /// Connect when the backoff says.
    BackOff,
    /// Connect slowly.
    Refused,
    /// Go on with the session that took over.
    GoOn(Box<Dialled>),
    /// The end.
    End(LinkEnd),
}

fn random() -> u64 {
    // Without randomness the jitter is lost and nothing else.
    random_bytes().map(u64::from_le_bytes).unwrap_or_default()
}

impl Supervisor {
    async fn run(mut self) -> LinkEnd {
        loop {
            if *self.options.wish.borrow_and_update() == Wish::Stop {
                return LinkEnd::Stopped;
            }
            let after = match self.clock_view() {
                ClockView::Good => self.pass().await,
                view => self.mend(view).await,
            };
            let delay = match after {
                After::End(end) => return end,
                // Nothing takes over from no session.
                After::Reconnect | After::GoOn(_) => continue,
                After::BackOff => self.backoff.next_delay(random()),
                After::Refused => Backoff::told_delay(REFUSED_DELAY, random()),
            };
            if !self.pause(delay).await {
                return LinkEnd::Stopped;
            }
        }
    }

    /// The pair to connect with: the renewed one first, because it lives longer.
    fn candidates(&self) -> Vec<(Arc<Identity>, bool)> {
        let next = self.link.next.iter().map(|identity| (Arc::clone(identity), true));
        next.chain([(Arc::clone(&self.link.identity), false)]).collect()
    }

    fn clock_view(&self) -> ClockView {
        let now = self.options.clock.now();
        let best = self.link.next.as_ref().unwrap_or(&self.link.identity);
        view_clock(best.not_before(), best.not_after(), now)
    }

    async fn emit(&self, event: LinkEvent) -> Result<(), After> {
        self.options.events.send(event).await.map_err(|_| After::End(LinkEnd::Abandoned))
    }

    /// Waits; false when the wish is to stop.
    async fn pause(&mut self, delay: Duration) -> bool {
        let stopped = self.options.wish.wait_for(|wish| *wish == Wish::Stop);
        // A closed channel is an end as well.
        tokio::time::timeout(delay, stopped).await.is_err()
    }

    /// Tries every address once, until a session comes of one.
    async fn pass(&mut self) -> After {
        let own = &self.options.addresses;
        let addresses = if own.is_empty() { self.link.identity.link_addresses.clone() } else { own.clone() };
        self.failures = self.failures.saturating_add(1);
        let mut refused = false;
        for address in &addresses {
            match self.try_address(address).await {
                Ok(after) => return after,
                Err(error) => {
                    refused |= error.trouble == Trouble::Refused;
                    let (trouble, reason) = (error.trouble, error.reason);
                    let event = LinkEvent::Failed {
                        address: address.clone(),
                        trouble,
                        reason,
                        attempt: self.failures,
                    };
                    if let Err(end) = self.emit(event).await {
                        return end;
                    }
                }
            }
            if *self.options.wish.borrow() == Wish::Stop {
                return After::End(LinkEnd::Stopped);
            }
        }
        if refused { After::Refused } else { After::BackOff }
    }

    /// Every socket address of the name, with every pair there is.
    async fn try_address(&mut self, address: &str) -> Result<After, LinkError> {
        let named = |error: std::io::Error| LinkError::new(Trouble::Name, error.to_string());
        let mut last = LinkError::new(Trouble::Name, "no address");
        for socket_address in resolve(address).await.map_err(named)? {
            for (identity, is_next) in self.candidates() {
                match self.dial(socket_address, identity, is_next).await {
                    Ok(dialled) => {
                        self.failures = 0;
                        return Ok(self.sessions(address, dialled).await);
                    }
                    // Only a refusal can differ between the pairs.
                    Err(error) if error.trouble == Trouble::Refused => last = error,
                    Err(error) => {
                        last = error;
                        break;
                    }
                }
            }
        }
        Err(last)
    }

    fn dial(
        &self,
        address: std::net::SocketAddr,
        identity: Arc<Identity>,
        is_next: bool,
    ) -> impl Future<Output = Result<Dialled, LinkError>> + Send + use<> {
        let (facts, clock) = (self.options.facts.borrow().clone(), Arc::clone(&self.options.clock));
        dial(address, identity, is_next, facts, clock)
    }

    /// The session, and each that takes over from it.
    async fn sessions(&mut self, address: &str, mut dialled: Dialled) -> After {
        loop {
            let began = self.options.clock.monotonic();
            let Dialled { endpoint, opened, identity, is_next } = dialled;
            if is_next {
                self.proven(&identity).await;
            }
            let after = self.serve_session(address, opened, &identity).await;
            self.backoff.record_success(self.options.clock.monotonic().saturating_sub(began));
            dialled = match after {
                After::GoOn(next) => *next,
                after => {
                    // The closing must leave before the socket goes.
                    drop(tokio::time::timeout(DRAIN, endpoint.wait_idle()).await);
                    return after;
                }
            };
        }
    }

    /// The renewed pair had its Welcome: the old one is of no more use (PKI-08).
    async fn proven(&mut self, identity: &Arc<Identity>) {
        self.link.identity = Arc::clone(identity);
        self.link.next = None;
        let store = self.link.store.clone();
        let promoted = tokio::task::spawn_blocking(move || store.promote_next()).await;
        if let Ok(Err(error)) = promoted {
            tracing::warn!(%error, "the renewed certificate works and could not be made the first one on disk");
        }
    }

    async fn serve_session(&mut self, address: &str, opened: Opened, identity: &Arc<Identity>) -> After {
        let streams = opened.streams();
        let open = OpenSession {
            address: address.to_owned(),
            connection: opened.connection.clone(),
            facts: opened.facts.clone(),
            welcome: opened.welcome.clone(),
            samples: streams.samples.clone(),
            durable: streams.durable.clone(),
        };
        if let Err(end) = self.emit(LinkEvent::Opened(Box::new(open))).await {
            return end;
        }
        let (after, reason) = self.serve_until_end(opened, identity).await;
        streams.close().await;
        if matches!(after, After::GoOn(_)) {
            // To the agent the next session replaces this one, without a time in between.
            return after;
        }
        if matches!(after, After::Refused) {
            let waiting = LinkEvent::Waiting { trouble: Trouble::Refused, reason: reason.clone() };
            // The end of the channel shows at the next event.
            drop(self.emit(waiting).await);
        }
        match self.emit(LinkEvent::Closed { reason }).await {
            Ok(()) => after,
            Err(end) => end,
        }
    }

    async fn serve_until_end(&mut self, mut opened: Opened, identity: &Arc<Identity>) -> (After, String) {
        let mut renewal = Renewal::at(renewal_time(identity, random()));
        let mut successor = Successor::default();
        // Our end, while the session that takes over is not open yet.
        let mut ended = None;
        loop {
            let renewal_due = renewal.wait(self.options.clock.now(), LONGEST_SLEEP);
            let turn = tokio::select! {
                served = serve(&mut opened), if ended.is_none() => Turn::Served(served),
                changed = self.options.wish.changed() => Turn::Wish(changed.is_ok()),
                () = renewal_due => Turn::RenewalDue,
                renewed = renewal.answer() => Turn::Renewed(renewed),
                dialled = successor.dialled() => Turn::Dialled(dialled.map(Box::new)),
            };
            match turn {
                Turn::Served(Served::Acknowledged(ack)) => {
                    if let Err(end) = self.emit(LinkEvent::Acknowledged(ack)).await {
                        return (end, String::new());
                    }
                }
                Turn::Served(Served::Live(live)) => {
                    if let Err(end) = self.emit(LinkEvent::Live(live)).await {
                        return (end, String::new());
                    }
                }
                // The coordinator lets the old session go a moment before it welcomes the new one.
                Turn::Served(Served::Ended(end)) if successor.is_under_way() => ended = Some(end),
                Turn::Served(Served::Ended(end)) => return after_end(end),
                Turn::Wish(true) => {
                    let wish = *self.options.wish.borrow_and_update();
                    match goodbye_of(wish) {
                        Some(cause) => {
                            opened.leave(cause).await;
                            return (After::End(LinkEnd::Stopped), "the agent stops".into());
                        }
                        None if matches!(wish, Wish::Anew(_)) => {
                            opened.connection.close(CloseCode::Done.code().into(), b"");
                            return (After::Reconnect, "connecting anew".into());
                        }
                        None => {}
                    }
                }
                Turn::Wish(false) => {
                    opened.leave(GoodbyeCause::AgentStopped).await;
                    return (After::End(LinkEnd::Abandoned), "the agent stops".into());
                }
                Turn::RenewalDue if self.options.clock.now() >= renewal.due() => {
                    if let Err(failure) = renewal.ask(&opened) {
                        self.renewal_failed(&mut renewal, &failure).await;
                    }
                }
                Turn::RenewalDue => {}
                Turn::Renewed(Ok(issued)) => match self.keep_renewed(*issued, identity).await {
                    Ok(renewed) => {
                        renewal.done();
                        successor.begin(self.dial(opened.connection.remote_address(), renewed, true));
                    }
                    Err(failure) => self.renewal_failed(&mut renewal, &failure).await,
                },
                Turn::Renewed(Err(failure)) => self.renewal_failed(&mut renewal, &failure).await,
                Turn::Dialled(Ok(next)) => {
                    opened.connection.close(CloseCode::Done.code().into(), b"");
                    return (After::GoOn(next), String::new());
                }
                Turn::Dialled(Err(error)) => {
                    tracing::info!(%error, "the renewed certificate had no session beside this one");
                    if let Some(end) = ended {
                        return after_end(end);
                    }
                    opened.leave(GoodbyeCause::CertificateChange).await;
                    return (After::Reconnect, "to use the renewed certificate".into());
                }
            }
        }
    }

    /// The new pair is checked and on disk before anything relies on it; a failure leaves the old pair as it was.
    async fn keep_renewed(
        &mut self,
        issued: super::renew::Issued,
        identity: &Identity,
    ) -> Result<Arc<Identity>, RenewalFailure> {
        let renewed = Arc::new(issued.into_identity(identity)?);
        let (store, writing) = (self.link.store.clone(), Arc::clone(&renewed));
        let saved = tokio::task::spawn_blocking(move || store.save_next(&writing)).await;
        saved
            .map_err(|error| RenewalFailure::Store(error.to_string()))?
            .map_err(|error| RenewalFailure::Store(error.to_string()))?;
        let not_after = renewed.not_after();
        self.link.next = Some(Arc::clone(&renewed));
        // The end of the channel shows at the next event.
        drop(self.emit(LinkEvent::CertificateRenewed { not_after }).await);
        Ok(renewed)
    }

    async fn renewal_failed(&self, renewal: &mut Renewal, failure: &RenewalFailure) {
        let delay = Backoff::told_delay(RENEWAL_RETRY, random());
        let delay_ms = i64::try_from(delay.as_millis()).unwrap_or(i64::MAX);
        *renewal = Renewal::at(self.options.clock.now().plus_ms(delay_ms));
        drop(self.emit(LinkEvent::RenewalFailed { reason: failure.to_string() }).await);
    }

    /// The certificate is not good now: a wrong clock is waited out, an expired certificate is renewed by proof of its key.
    async fn mend(&mut self, view: ClockView) -> After {
        if view == ClockView::Expired {
            let now = self.options.clock.monotonic();
            if self.late_renewal_at.is_none_or(|at| now >= at) {
                self.late_renewal_at = Some(now + LATE_RENEWAL_EVERY);
                return self.renew_late().await;
            }
        } else {
            let identity = &self.link.identity;
            let reason = format!(
                "this machine's clock says {}, the certificate is good from {} to {}: set the clock; the key is kept",
                self.options.clock.now(),
                identity.not_before(),
                identity.not_after()
            );
            if let Err(end) = self.emit(LinkEvent::Waiting { trouble: Trouble::Clock, reason }).await {
                return end;
            }
        }
        if self.pause(CLOCK_EVERY).await { After::Reconnect } else { After::End(LinkEnd::Stopped) }
    }

    async fn renew_late(&mut self) -> After {
        use crate::identity::{EnrolError, VaultError};
        let expired = Arc::clone(self.link.next.as_ref().unwrap_or(&self.link.identity));
        let event = match late_renewal(&self.link.store, &expired, &self.options.https_addresses).await {
            Ok(renewed) => {
                let not_after = renewed.not_after();
                self.link.identity = Arc::new(renewed);
                self.link.next = None;
                LinkEvent::CertificateRenewed { not_after }
            }
            Err(error) => {
                let trouble = match &error {
                    EnrolError::Vault(VaultError::Clock { .. }) => Trouble::Clock,
                    EnrolError::Vault(VaultError::Untrusted { .. }) => Trouble::NotTheCoordinator,
                    EnrolError::Vault(VaultError::Unreachable { .. } | VaultError::Unanswered { .. }) => {
                        Trouble::NoAnswer
                    }
                    _ => Trouble::Expired,
                };
                let next = match &error {
                    EnrolError::Vault(VaultError::Refused { .. }) => {
                        "; if it expired too long ago, enrol this node anew: aim-agent enroll --replace-identity"
                    }
                    _ => "",
                };
                let reason =
                    format!("the certificate expired at {}; renewing it: {error}{next}", expired.not_after());
                LinkEvent::Waiting { trouble, reason }
            }
        };
        match self.emit(event).await {
            Ok(()) => After::Reconnect,
            Err(end) => end,
        }
    }
}

enum Turn {
    Served(Served),
    Wish(bool),
    RenewalDue,
    Renewed(Result<Box<super::renew::Issued>, RenewalFailure>),
    Dialled(Result<Box<Dialled>, LinkError>),
}

fn after_end(ended: Ended) -> (After, String) {
    let refused = matches!(ended.code, Some(CloseCode::Refused | CloseCode::CloneSuspected))
        || ended.cause == Some(GoodbyeCause::Revoked);
    (if refused { After::Refused } else { After::BackOff }, ended.reason)
}
