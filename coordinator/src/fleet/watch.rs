//! The fleet's pulse: four times a second each session's packets are looked at, and who is looked at live is renewed.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::Fleet;
use super::presence::{Change, TickWatch};
use super::registry::Session;
use crate::inventory::Moment;

const TICK: Duration = Duration::from_millis(250);

pub(super) async fn run(fleet: Arc<Fleet>, stop: CancellationToken) {
    let mut interval = tokio::time::interval(TICK);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut watch = TickWatch::new(TICK, fleet.clock.monotonic());
    loop {
        tokio::select! {
            _ = interval.tick() => {}
            () = stop.cancelled() => return,
        }
        let late = watch.tick(fleet.clock.monotonic());
        if late {
            tracing::warn!(
                "the coordinator was stopped or starved for more than a second; nobody is judged silent for it"
            );
        }
        for session in fleet.registry.all() {
            look(&fleet, &session, late);
        }
        let tell = fleet.demands().tick(fleet.clock.monotonic());
        for (node, message) in tell {
            fleet.tell_live(node, message);
        }
    }
}

fn look(fleet: &Fleet, session: &Arc<Session>, late: bool) {
    let observation = Session::observe(&session.connection, &*fleet.clock);
    let node = &session.node;
    let (change, heard) = {
        let mut presence = session.presence.lock().unwrap_or_else(PoisonError::into_inner);
        let change = presence.observe(observation, late);
        if let Some(bound) = presence.new_bound() {
            tracing::info!(node.id = %node.id, ?bound, "the path's losses changed how long a node may be silent");
        }
        (change, !late && presence.heard() == observation.at)
    };
    if heard {
        fleet.inventory.seen(node, Moment::now(&*fleet.clock));
    }
    match change {
        Some(Change::FellSilent) => fleet.inventory.fall_silent(node),
        Some(Change::Back) => fleet.inventory.back(node),
        None => {}
    }
    let address = session.connection.remote_address();
    let former = {
        let mut known = session.address.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *known, address)
    };
    if former != address {
        tracing::info!(node.id = %node.id, %former, %address, "a node's address changed; its identity is its certificate");
        fleet.inventory.moved(node, address.to_string());
    }
}
