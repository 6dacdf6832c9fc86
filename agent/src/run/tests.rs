use aim_common::backoff::InvalidBackoff;
use aim_common::identity::{NodeId, TrustDomain};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType,
};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::*;
use crate::collect::Roots;
use crate::identity::{Identity, IdentityParts, NodeKey};
use crate::link::LinkEvent;

/// The loop has one minute to look, and a loaded machine needs a while.
const DEADLINE: Duration = Duration::from_secs(90);

fn identity() -> Identity {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let (key, node_id) = (NodeKey::generate().unwrap(), NodeId::from_random([1; 16]));
    let mut params = CertificateParams::default();
    let name = format!("spiffe://aim.internal/node/{node_id}");
    params.subject_alt_names = vec![SanType::URI(name.try_into().unwrap())];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    let leaf = params.signed_by(&KeyPair::from_pem(&key.to_pem()).unwrap(), &root).unwrap().der().clone();
    let parts = IdentityParts {
        node_id,
        node_name: "n1".parse().unwrap(),
        trust_domain: TrustDomain::default(),
        link_addresses: vec!["127.0.0.1:1".into()],
        https_addresses: vec!["127.0.0.1:2".into()],
        key,
        chain: vec![leaf],
        roots: vec![root.der().clone()],
    };
    Identity::new(parts, &[root.der().clone()]).unwrap()
}

fn agent(dir: &TempDir) -> Agent {
    let (state_dir, runtime_dir) = (dir.path().join("state"), dir.path().join("run"));
    let config = Config { state_dir, runtime_dir, ..Config::default() };
    std::fs::create_dir_all(&config.runtime_dir).unwrap();
    let (roots, clock) = (Roots::default(), Arc::new(SystemClock::new()) as SharedClock);
    let mut probes = ProbesConfig::new(config.gpu.clone(), config.filesystems.clone());
    // Helpers that cannot even be started: their tasks live on and try again.
    probes.program = dir.path().join("missing");
    let (spool, found) = Spool::open(config.spool_dir(), 1024 * 1024);
    let start = Start {
        collectors: CollectorSet::new(Vec::new()),
        probes: Probes::start(&probes, &roots, &clock),
        spool,
        found,
        node: facts::Node::read(&roots, clock.now()).unwrap(),
        identity: Arc::new(identity()),
        clock,
    };
    Agent::new(&config, start, watch::channel(Wish::Connected).0)
}

type LinkTask = JoinHandle<Result<LinkEnd, InvalidBackoff>>;

/// Runs the loop with what is dead already, until it says so.
async fn ended(agent: &mut Agent, link: &mut LinkTask, events: mpsc::Receiver<LinkEvent>) -> RunError {
    let mut stop = Stop::new().unwrap();
    tokio::time::timeout(DEADLINE, work(agent, events, link, &mut stop)).await.unwrap().unwrap_err()
}

#[tokio::test]
async fn sup_05_each_task_that_dies_ends_the_agent_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let names: Vec<_> = agent(&dir).probes_tasks().map(|(name, _)| name).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    for dead in names {
        let mut agent = agent(&dir);
        agent.probes_tasks().find(|(name, _)| *name == dead).unwrap().1.abort();
        let (_open, events) = mpsc::channel(1);
        let mut link: LinkTask = tokio::spawn(std::future::pending());
        let error = ended(&mut agent, &mut link, events).await;
        assert!(matches!(error, RunError::Probe(name) if name == dead), "{error}");
        agent.end().await;
    }
    let mut agent = agent(&dir);
    let (_open, events) = mpsc::channel(1);
    let mut link: LinkTask = tokio::spawn(async { panic!("on purpose") });
    let error = ended(&mut agent, &mut link, events).await;
    assert!(matches!(&error, RunError::Link(why) if why.contains("on purpose")), "{error}");
    agent.end().await;
}
