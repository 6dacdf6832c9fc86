//! Who looks at a node: while somebody does, it reports each second; a while after the last one left, it stops. Pure.

use std::collections::HashMap;
use std::time::Duration;

use aim_common::identity::NodeId;
use aim_common::protocol::LiveMode;

/// Nodes in live mode at once.
pub(super) const MAX_NODES: usize = 50;
/// How long it goes on after the last reader left, so that a page that reloads does not switch it off and on.
pub(super) const LINGER: Duration = Duration::from_secs(10);
/// Reporting interval of live mode.
const INTERVAL_MS: u32 = 1_000;
/// What an agent is told at once: it falls back by itself if the coordinator is gone.
const GRANT: Duration = Duration::from_secs(30);
/// How often that is renewed.
const RENEW: Duration = Duration::from_secs(15);

/// The message that ends live mode.
pub(super) const OFF: LiveMode = LiveMode { interval_ms: INTERVAL_MS, duration_ms: 0 };
#[expect(clippy::cast_possible_truncation, reason = "30 s")]
const ON: LiveMode = LiveMode { interval_ms: INTERVAL_MS, duration_ms: GRANT.as_millis() as u32 };

#[derive(Debug)]
struct Demand {
    readers: usize,
    /// When the last reader left.
    left: Option<Duration>,
    /// When the agent was told last.
    told: Duration,
}

/// All demands.
#[derive(Debug, Default)]
pub(super) struct LiveDemands {
    nodes: HashMap<NodeId, Demand>,
}

/// Too many nodes are in live mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

impl LiveDemands {
    /// A reader came; gives what the agent must be told at once, if anything.
    pub(super) fn enter(&mut self, node: NodeId, now: Duration) -> Result<Option<LiveMode>, Full> {
        if let Some(demand) = self.nodes.get_mut(&node) {
            demand.readers += 1;
            demand.left = None;
            return Ok(None);
        }
        if self.nodes.len() >= MAX_NODES {
            return Err(Full);
        }
        self.nodes.insert(node, Demand { readers: 1, left: None, told: now });
        Ok(Some(ON))
    }

    /// A reader left.
    pub(super) fn leave(&mut self, node: NodeId, now: Duration) {
        if let Some(demand) = self.nodes.get_mut(&node) {
            demand.readers = demand.readers.saturating_sub(1);
            if demand.readers == 0 {
                demand.left = Some(now);
            }
        }
    }

    /// What a session that has just been opened must be told.
    pub(super) fn of(&self, node: NodeId) -> Option<LiveMode> {
        self.nodes.contains_key(&node).then_some(ON)
    }

    /// Time passed: whom to tell what.
    pub(super) fn tick(&mut self, now: Duration) -> Vec<(NodeId, LiveMode)> {
        let mut tell = Vec::new();
        self.nodes.retain(|node, demand| {
            if demand.left.is_some_and(|left| now.saturating_sub(left) >= LINGER) {
                tell.push((*node, OFF));
                return false;
            }
            if now.saturating_sub(demand.told) >= RENEW {
                demand.told = now;
                tell.push((*node, ON));
            }
            true
        });
        tell
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: u8) -> NodeId {
        NodeId::from_random([number; 16])
    }

    #[test]
    fn it_is_renewed_while_somebody_reads_and_ends_10_s_after_the_last() {
        let mut demands = LiveDemands::default();
        let second = Duration::from_secs;
        assert_eq!(demands.enter(node(1), second(0)), Ok(Some(ON)));
        assert_eq!(demands.enter(node(1), second(1)), Ok(None));
        demands.leave(node(1), second(2));
        assert_eq!(demands.tick(second(14)), []);
        assert_eq!(demands.tick(second(15)), [(node(1), ON)]);
        demands.leave(node(1), second(16));
        assert_eq!(demands.tick(second(25)), []);
        assert_eq!(demands.tick(second(26)), [(node(1), OFF)]);
        assert_eq!(demands.of(node(1)), None);
    }

    #[test]
    fn the_51st_node_is_refused_and_the_50_go_on() {
        let mut demands = LiveDemands::default();
        for number in 0..50 {
            assert!(demands.enter(node(number), Duration::ZERO).is_ok());
        }
        assert_eq!(demands.enter(node(50), Duration::ZERO), Err(Full));
        assert!(demands.enter(node(49), Duration::ZERO).is_ok());
    }
}
