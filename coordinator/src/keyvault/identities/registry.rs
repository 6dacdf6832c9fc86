//! The pure core of the identity registry: nodes, their certificates by serial, and generations.
//!
//! A node's certificates are counted by generation. The highest one that was ever used is the active one: lower ones
//! are superseded, higher ones are issued and not used yet. So both sides of a renewal work until the new one is used.

use std::collections::HashMap;

use aim_common::identity::{CertificateSerial, NodeId, NodeName, Sha256Digest};
use aim_common::units::EpochMs;

/// A certificate that this coordinator issued to a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownCertificate {
    /// Its serial.
    pub serial: CertificateSerial,
    /// Whose it is.
    pub node: NodeId,
    /// Counts the node's certificates from 1.
    pub generation: i64,
    /// SHA-256 of its public key.
    pub public_key: Sha256Digest,
    /// Valid from.
    pub not_before: EpochMs,
    /// Valid until.
    pub not_after: EpochMs,
}

/// A living node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownNode {
    /// Its id.
    pub id: NodeId,
    /// Its name.
    pub name: NodeName,
    /// Highest generation that was used; 0 before the first use.
    pub active_generation: i64,
    /// Highest generation that was issued.
    pub newest_generation: i64,
    /// When that one was issued.
    pub last_issued: EpochMs,
    /// It is suspected to be a clone: it may report, and nothing else.
    pub quarantined: bool,
}

/// What the registry knows of a serial.
#[derive(Debug, PartialEq, Eq)]
pub enum Standing<'a> {
    /// It may be used.
    Good(&'a KnownNode, &'a KnownCertificate),
    /// A newer generation of the node was used already: this is a clone, or a restored disk.
    Superseded(&'a KnownNode),
    /// Never issued, long expired, or its node is revoked, superseded or deleted.
    Unknown,
}

/// Nodes and certificates. Bounded by the living nodes: expired certificates are swept, and issued ones limited.
#[derive(Debug, Default)]
pub struct Registry {
    nodes: HashMap<NodeId, KnownNode>,
    names: HashMap<String, NodeId>,
    certificates: HashMap<CertificateSerial, KnownCertificate>,
}

impl Registry {
    /// Adds a node; its certificates follow.
    pub fn add_node(&mut self, node: KnownNode) {
        self.names.insert(node.name.canonical(), node.id);
        self.nodes.insert(node.id, node);
    }

    /// Adds a certificate of a known node; one of an unknown node is worth nothing and is dropped.
    pub fn add_certificate(&mut self, certificate: KnownCertificate, issued: EpochMs) {
        let Some(node) = self.nodes.get_mut(&certificate.node) else { return };
        if certificate.generation > node.newest_generation {
            node.newest_generation = certificate.generation;
            node.last_issued = issued;
        }
        self.certificates.insert(certificate.serial.clone(), certificate);
    }

    /// Forgets a node that was revoked, superseded or deleted, with all its certificates.
    pub fn remove_node(&mut self, id: NodeId) -> Option<KnownNode> {
        let node = self.nodes.remove(&id)?;
        // The name may belong to a successor by now.
        if self.names.get(&node.name.canonical()) == Some(&id) {
            self.names.remove(&node.name.canonical());
        }
        self.certificates.retain(|_, certificate| certificate.node != id);
        Some(node)
    }

    /// What is known of a serial.
    pub fn standing(&self, serial: &CertificateSerial) -> Standing<'_> {
        let Some(certificate) = self.certificates.get(serial) else { return Standing::Unknown };
        match self.nodes.get(&certificate.node) {
            None => Standing::Unknown,
            Some(node) if certificate.generation < node.active_generation => Standing::Superseded(node),
            Some(node) => Standing::Good(node, certificate),
        }
    }

    /// A good certificate was used: older generations are superseded from now on. False where nothing changed.
    pub fn mark_used(&mut self, serial: &CertificateSerial) -> bool {
        let Some(certificate) = self.certificates.get(serial) else { return false };
        let Some(node) = self.nodes.get_mut(&certificate.node) else { return false };
        let first = certificate.generation > node.active_generation;
        node.active_generation = node.active_generation.max(certificate.generation);
        first
    }

    /// Puts a node into quarantine. False where it is there already, or unknown.
    pub fn quarantine(&mut self, id: NodeId) -> bool {
        self.nodes.get_mut(&id).is_some_and(|node| !std::mem::replace(&mut node.quarantined, true))
    }

    /// Trusts a node again. False where it was not in quarantine, or is unknown.
    pub fn release(&mut self, id: NodeId) -> bool {
        self.nodes.get_mut(&id).is_some_and(|node| std::mem::replace(&mut node.quarantined, false))
    }

    /// The node's certificates that were not swept, the newest first.
    pub fn certificates_of(&self, id: NodeId) -> Vec<&KnownCertificate> {
        let mut found: Vec<_> =
            self.certificates.values().filter(|certificate| certificate.node == id).collect();
        found.sort_by_key(|certificate| std::cmp::Reverse(certificate.generation));
        found
    }

    /// The living node with this id.
    pub fn node(&self, id: NodeId) -> Option<&KnownNode> {
        self.nodes.get(&id)
    }

    /// The living node with this name, ignoring case.
    pub fn node_named(&self, name: &NodeName) -> Option<&KnownNode> {
        self.nodes.get(self.names.get(&name.canonical())?)
    }

    /// Forgets certificates that ended before `horizon`; their nodes stay.
    pub fn sweep(&mut self, horizon: EpochMs) {
        self.certificates.retain(|_, certificate| certificate.not_after > horizon);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(number: u8) -> NodeId {
        NodeId::from_random([number; 16])
    }

    fn serial(node: u8, generation: i64) -> CertificateSerial {
        CertificateSerial::from_bytes(&[node, u8::try_from(generation).unwrap()])
    }

    fn registry() -> Registry {
        let mut registry = Registry::default();
        for number in [1, 2] {
            registry.add_node(KnownNode {
                id: id(number),
                name: format!("gpu{number}").parse().unwrap(),
                active_generation: 0,
                newest_generation: 0,
                last_issued: EpochMs(0),
                quarantined: false,
            });
        }
        registry
    }

    fn issue(registry: &mut Registry, node: u8) -> i64 {
        let generation = registry.node(id(node)).unwrap().newest_generation + 1;
        let certificate = KnownCertificate {
            serial: serial(node, generation),
            node: id(node),
            generation,
            public_key: Sha256Digest::of(&[node]),
            not_before: EpochMs(0),
            not_after: EpochMs(1000),
        };
        registry.add_certificate(certificate, EpochMs(0));
        generation
    }

    fn good(registry: &Registry, node: u8, generation: i64) -> bool {
        matches!(registry.standing(&serial(node, generation)), Standing::Good(..))
    }

    #[test]
    fn pki_08_old_and_new_work_until_the_new_one_is_used() {
        let mut registry = registry();
        assert_eq!(issue(&mut registry, 1), 1);
        assert!(registry.mark_used(&serial(1, 1)));
        assert_eq!(issue(&mut registry, 1), 2);
        assert!(good(&registry, 1, 1) && good(&registry, 1, 2));
        assert!(!registry.mark_used(&serial(1, 1)), "a later use of the old one changes nothing");
        assert!(good(&registry, 1, 2));
        assert!(registry.mark_used(&serial(1, 2)));
        assert!(matches!(registry.standing(&serial(1, 1)), Standing::Superseded(node) if node.id == id(1)));
        assert!(good(&registry, 1, 2));
    }

    #[test]
    fn a_removed_node_has_no_standing_and_frees_its_name() {
        let mut registry = registry();
        issue(&mut registry, 1);
        registry.remove_node(id(1));
        assert_eq!(registry.standing(&serial(1, 1)), Standing::Unknown);
        assert!(registry.node_named(&"GPU1".parse().unwrap()).is_none());
        assert!(registry.node_named(&"GPU2".parse().unwrap()).is_some());
    }

    proptest! {
        /// Whatever is issued and used in whatever order, a node never stands without a usable certificate, and no
        /// generation below a used one is usable.
        #[test]
        fn pki_08_there_is_always_a_usable_certificate(steps in proptest::collection::vec((1_u8..3, 0_i64..6), 1..60)) {
            let mut registry = registry();
            for (node, pick) in steps {
                let newest = registry.node(id(node)).unwrap().newest_generation;
                if pick == 0 || newest == 0 {
                    if newest < 100 { issue(&mut registry, node); }
                } else {
                    let wanted = serial(node, pick.min(newest));
                    if matches!(registry.standing(&wanted), Standing::Good(..)) {
                        registry.mark_used(&wanted);
                    }
                }
                let known = registry.node(id(node)).unwrap().clone();
                for generation in 1..=known.newest_generation {
                    prop_assert_eq!(good(&registry, node, generation), generation >= known.active_generation);
                }
                prop_assert!(good(&registry, node, known.newest_generation));
            }
        }
    }
}
