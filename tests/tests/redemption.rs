//! A token is redeemed once, whoever tries at the same time, whoever is killed, whatever is restored.
#![expect(
    clippy::disallowed_methods,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking, and waits with real deadlines"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use aim_common::enrolment::JoinString;
use aim_common::identity::Sha256Digest;
use aim_tests::agent::join_string;
use aim_tests::database::{TokenTrace, token_traces};
use aim_tests::random::Random;
use aim_tests::redeem::{Redeemed, Redeemer, joins};
use aim_tests::{Agent, Api, Coordinator, Postgres, run};
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::Barrier;

/// Rounds of a hundred tries each at two coordinators.
const RACES: usize = 25;
const TRIES: usize = 100;
/// Rounds of kills, and how many nodes enrol in each.
const KILLS: usize = 50;
const NODES: usize = 6;
/// The kill comes so long at most after one of the answers, or after the start.
const LONGEST_MOMENT_MS: u64 = 30;
/// Exit code of `aim-agent` as its help lists it.
const REFUSED: i32 = 11;

/// Lets a test come from any address, as often as it likes.
fn behind_a_proxy(config: &mut toml::Table) {
    let https = config["https"].as_table_mut().unwrap();
    https.insert("trusted_proxies".into(), vec!["127.0.0.1/32"].into());
    let rates = ["session_per_second", "address_per_second", "global_per_second"];
    let rates = rates.map(|rate| (rate.to_owned(), toml::Value::from(100_000)));
    https.insert("rates".into(), toml::Table::from_iter(rates).into());
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn copy(from: &Path, to: &Path) {
    run(Command::new("cp").arg("-a").arg(from).arg(to), Duration::from_secs(20)).success();
}

/// Two coordinators of one site on one PostgreSQL: the second one has a copy of the first one's keys.
fn two_coordinators(dir: &Path, server: &Postgres) -> [Coordinator; 2] {
    let url = server.url_file(dir).display().to_string();
    let mut both = ["one", "two"].map(|name| {
        Coordinator::prepare(&dir.join(name), |config| {
            behind_a_proxy(config);
            let database = toml::Table::from_iter([("postgres_url_file".to_owned(), url.clone().into())]);
            config.insert("database".into(), database.into());
        })
    });
    let [first, second] = &mut both;
    first.serve();
    first.stop();
    copy(&first.state_dir(), &second.state_dir());
    first.serve();
    second.serve();
    both
}

/// All redeem the token at the same moment.
async fn race(redeemers: &mut [Arc<Redeemer>], join: &Arc<JoinString>, round: usize) -> Vec<Redeemed> {
    let barrier = Arc::new(Barrier::new(redeemers.len()));
    let mut tries = Vec::new();
    for (number, redeemer) in redeemers.iter().enumerate() {
        let (redeemer, join, barrier) = (Arc::clone(redeemer), Arc::clone(join), Arc::clone(&barrier));
        // An address of its own for each, so that the limit of failures stays out of it.
        let address = format!("10.{round}.0.{number}");
        tries.push(tokio::spawn(async move {
            barrier.wait().await;
            redeemer.redeem(&join, &address).await
        }));
    }
    let mut results = Vec::new();
    for (redeemer, tried) in redeemers.iter_mut().zip(tries) {
        let result = tried.await.unwrap();
        if matches!(result, Redeemed::Certificate(_)) {
            Arc::get_mut(redeemer).unwrap().take_new_key();
        }
        results.push(result);
    }
    results
}

#[test]
fn enr_03_of_a_hundred_connections_to_two_coordinators_one_redeems_in_every_round() {
    let dir = TempDir::new().unwrap();
    let server = Postgres::start(dir.path());
    let both = two_coordinators(dir.path(), &server);
    let tokens: Vec<Arc<JoinString>> =
        joins(&both[0].admin(), &format!("n[001-{RACES:03}]")).into_iter().map(Arc::new).collect();
    assert_eq!(tokens.len(), RACES);
    let pin = both[0].pin();
    let mut redeemers: Vec<Arc<Redeemer>> =
        (0..TRIES).map(|number| Arc::new(Redeemer::new(both[number % 2].https_port, pin))).collect();
    let mut serials = BTreeSet::new();
    runtime().block_on(async {
        for (round, join) in tokens.iter().enumerate() {
            let results = race(&mut redeemers, join, round).await;
            let won: Vec<&String> = results.iter().filter_map(certificate).collect();
            assert_eq!(won.len(), 1, "round {round}: {results:?}");
            serials.insert(won[0].clone());
            let refused = results.iter().filter(|result| **result == Redeemed::Refused(401)).count();
            assert_eq!(refused, TRIES - 1, "round {round}: {results:?}");
        }
    });
    assert_eq!(serials.len(), RACES, "two rounds with one serial");
    let admin = both[0].admin();
    let total = |path: &str| admin.get(path).success()["total"].as_u64().unwrap();
    let rounds = u64::try_from(RACES).unwrap();
    assert_eq!(total("/api/v1/certificates?limit=1"), rounds);
    assert_eq!(total("/api/v1/tokens?state=redeemed&limit=1"), rounds);
    assert_eq!(total("/api/v1/audit?action=node.enrol&decision=allowed&limit=1"), rounds);
    let denied = total("/api/v1/audit?action=token.redeem&decision=denied&limit=1");
    assert_eq!(denied, rounds * u64::try_from(TRIES - 1).unwrap(), "a refusal without its record");
    assert_eq!(admin.get("/api/v1/audit/verify").success()["intact"], true);
}

fn certificate(result: &Redeemed) -> Option<&String> {
    match result {
        Redeemed::Certificate(serial) => Some(serial),
        _ => None,
    }
}

/// Enrols the nodes at the same time, and calls `kill` once so many of them have their answer.
async fn enrol_all(
    (port, pin): (u16, Sha256Digest),
    tokens: &[Arc<JoinString>],
    answers: usize,
    kill: impl FnOnce(),
) -> Vec<(String, Redeemed)> {
    let begin = Arc::new(Barrier::new(tokens.len() + 1));
    let (told, mut answered) = tokio::sync::mpsc::unbounded_channel();
    let mut tries = Vec::new();
    for join in tokens.iter().map(Arc::clone) {
        let (begin, told) = (Arc::clone(&begin), told.clone());
        tries.push(tokio::spawn(async move {
            let redeemer = Redeemer::new(port, pin);
            redeemer.connect().await;
            begin.wait().await;
            let result = redeemer.redeem(&join, "10.0.0.1").await;
            let _ = told.send(());
            (join.node.to_string(), result)
        }));
    }
    begin.wait().await;
    for _ in 0..answers {
        answered.recv().await.unwrap();
    }
    tokio::task::block_in_place(kill);
    let mut results = Vec::new();
    for tried in tries {
        results.push(tried.await.unwrap());
    }
    results
}

/// Either half alone is what must never be.
#[track_caller]
fn assert_whole(name: &str, trace: &TokenTrace, told: Option<&String>) {
    match trace.state.as_str() {
        "outstanding" => {
            assert!(trace.has_hash, "{name}: {trace:?}");
            assert!(trace.serial.is_none() && trace.certificates.is_empty(), "{name}: {trace:?}");
            assert!(trace.audited.is_empty(), "{name}: {trace:?}");
            assert!(
                told.is_none(),
                "{name}: the node has certificate {told:?}, and the token is good: {trace:?}"
            );
        }
        "redeemed" => {
            assert!(!trace.has_hash, "{name}: {trace:?}");
            let serial = trace.serial.clone().into_iter().collect::<Vec<_>>();
            assert_eq!(serial.len(), 1, "{name}: {trace:?}");
            assert_eq!((&trace.certificates, &trace.audited), (&serial, &serial), "{name}: {trace:?}");
            assert!(told.is_none_or(|told| *told == serial[0]), "{name}: told {told:?}: {trace:?}");
        }
        other => panic!("{name} is {other}: {trace:?}"),
    }
}

#[test]
fn enr_04_a_kill_at_any_moment_leaves_a_token_unused_or_used_with_its_certificate() {
    let mut random = Random::printed();
    let dir = TempDir::new().unwrap();
    let mut coordinator = Coordinator::prepare(dir.path(), behind_a_proxy);
    coordinator.serve();
    let tokens: Vec<Arc<JoinString>> = joins(&coordinator.admin(), &format!("n[001-{:03}]", KILLS * NODES))
        .into_iter()
        .map(Arc::new)
        .collect();
    let (mut told, runtime) = (BTreeMap::<String, String>::new(), runtime());
    for (round, of_round) in tokens.chunks(NODES).enumerate() {
        let answers = usize::try_from(random.below(NODES as u64)).unwrap();
        let moment = Duration::from_millis(random.below(LONGEST_MOMENT_MS));
        let at = (coordinator.https_port, coordinator.pin());
        let results = runtime.block_on(enrol_all(at, of_round, answers, || {
            // A random moment is the point of the round, not a wait for anything.
            std::thread::sleep(moment);
            coordinator.kill();
        }));
        for (name, result) in results {
            if let Redeemed::Certificate(serial) = result {
                told.insert(name, serial);
            } else {
                assert_eq!(result, Redeemed::Unanswered, "round {round}: {name}");
            }
        }
        for (name, trace) in token_traces(&coordinator.database()) {
            assert_whole(&name, &trace, told.get(&name));
        }
        coordinator.serve();
    }
    let traces = token_traces(&coordinator.database());
    let unused = traces.values().filter(|trace| trace.state == "outstanding").count();
    println!("{unused} of {} tokens are unused, {} answers came", traces.len(), told.len());
    assert!(
        unused > 0 && unused < traces.len(),
        "the rounds prove little: {unused} of {} unused",
        traces.len()
    );
    assert!(!coordinator.anonymous().conditions().contains(&"fenced".to_owned()));

    // Each unused one is good once, each used one never again.
    let (mut after, mut number) = (BTreeMap::new(), 0);
    runtime.block_on(async {
        for join in &tokens {
            number += 1;
            let address = format!("10.1.{}.{}", number / 250, number % 250);
            let again = Redeemer::new(coordinator.https_port, coordinator.pin()).redeem(join, &address).await;
            after.insert(join.node.to_string(), again);
        }
    });
    for (name, again) in &after {
        match traces[name].state.as_str() {
            "redeemed" => assert_eq!(*again, Redeemed::Refused(401), "{name} was redeemed twice"),
            _ => assert!(certificate(again).is_some(), "{name}: {again:?}"),
        }
    }
    for (name, trace) in token_traces(&coordinator.database()) {
        assert_eq!(trace.state, "redeemed", "{name}");
        assert_whole(&name, &trace, certificate(&after[&name]).or(told.get(&name)));
    }
}

/// Puts a copy of the database back, as an operator does with a backup.
fn restore(backup: &Path, database: &Path) {
    for suffix in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(format!("{}{suffix}", database.display()));
    }
    fs::copy(backup, database).unwrap();
}

#[test]
fn enr_15_neither_a_restart_nor_a_restored_database_makes_a_redeemed_token_good_again() {
    let dir = TempDir::new().unwrap();
    let mut coordinator = Coordinator::start(dir.path());
    let join = join_string(&coordinator.admin(), "node1");
    coordinator.stop();
    let backup = dir.path().join("backup.db");
    fs::copy(coordinator.database(), &backup).unwrap();
    coordinator.serve();
    Agent::prepare(dir.path(), "node1", |_| ()).enrol(&join).success();

    let again = |number: usize| {
        let thief = Agent::prepare(&dir.path().join(format!("thief{number}")), "node1", |_| ());
        thief.enrol(&join)
    };
    coordinator.kill();
    coordinator.serve();
    assert_eq!(again(1).code, REFUSED, "after a restart");
    coordinator.stop();
    restore(&backup, &coordinator.database());
    coordinator.serve_without_waiting();
    let fenced = |coordinator: &Coordinator| {
        let api = coordinator.anonymous();
        move || api.conditions().contains(&"fenced".to_owned()).then_some(())
    };
    aim_tests::until("the fence is up", Duration::from_mins(1), fenced(&coordinator));
    let ended = again(2);
    assert!(ended.code != 0 && ended.stderr.contains("fenced"), "{ended:?}");
    // An operator decides to go on with the old database: the token is dead all the same.
    let admin: Api = coordinator.admin();
    admin.post("/api/v1/fence/lift", &json!({})).success();
    assert_eq!(again(3).code, REFUSED, "after the fence was lifted");
    assert_eq!(admin.get("/api/v1/nodes/node1").status, 404);
}
