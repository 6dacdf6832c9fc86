//! Guessing of passwords: counted under one name and network whatever the path, and nothing is told by time.

use std::time::Duration;

use aim_common::identity::UserId;
use aim_coordinator::store::audit::{Decision, NewAuditRecord};
use aim_coordinator::store::users::NewUser;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::{Fixture, answer, welch};

const WRONG: &str = "a wrong password";

async fn behind_a_proxy() -> Fixture {
    Fixture::start_with(|config| {
        config.https.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    })
    .await
}

async fn login(fixture: &Fixture, from: &str, username: &str, password: &str) -> (StatusCode, Value) {
    let body = json!({"username": username, "password": password});
    answer(fixture.request("POST", "/api/v1/auth/login").header("x-forwarded-for", from).json(&body)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn aut_06_every_way_to_try_a_password_shares_the_counter() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    let password = "a long enough password";
    let bob = fixture.user(&admin, "bob", &["engineer"]).await;
    let change = |current: &str| {
        let body = json!({"current_password": current, "new_password": "another long password"});
        fixture.call(&bob, "POST", "/api/v1/auth/password", Some(body))
    };
    for _ in 0..3 {
        assert_eq!(change(WRONG).await.0, StatusCode::BAD_REQUEST);
    }
    for _ in 0..2 {
        assert_eq!(fixture.login_as("Bob", WRONG).await.0, StatusCode::UNAUTHORIZED);
    }
    assert_eq!(change(password).await.0, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(fixture.login_as("bob", password).await.0, StatusCode::TOO_MANY_REQUESTS);
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn aut_06_a_network_has_twenty_guesses_a_minute_over_all_accounts() {
    let fixture = behind_a_proxy().await;
    // All at once, so that a slow machine has them in one minute; an IPv6 client takes a new address for each.
    let guesses = (0..20).map(async |guess| {
        let from = format!("2001:db8:1:2::{guess:x}");
        login(&fixture, &from, &format!("user{guess}"), WRONG).await.0
    });
    for status in futures_util::future::join_all(guesses).await {
        // The second one where there was no place to compute the hash: it is a guess all the same.
        assert!([StatusCode::UNAUTHORIZED, StatusCode::TOO_MANY_REQUESTS].contains(&status), "{status}");
    }
    let locked = async || fixture.audit().await.iter().any(|record| record.action == "login.locked");
    assert!(!locked().await, "twenty are allowed");
    let next = login(&fixture, "2001:db8:1:2:ffff::1", "admin", &fixture.admin_password).await.0;
    assert!(next == StatusCode::TOO_MANY_REQUESTS && locked().await, "{next}");
    let elsewhere = login(&fixture, "2001:db8:1:3::1", "admin", &fixture.admin_password).await.0;
    assert_eq!(elsewhere, StatusCode::OK, "another network is not meant");
    fixture.stop().await;
}

/// Users with one password, made without the cost of hashing it for each.
async fn users(fixture: &Fixture, count: u8) {
    let password_hash =
        fixture.running.app.auth.passwords().hash("password", "a long enough password").await.unwrap();
    for number in 0..count {
        let user = NewUser {
            id: UserId::from_random([number; 16]),
            username: format!("user{number}"),
            password_hash: password_hash.clone(),
            password_generated: false,
            roles: Vec::new(),
            groups: Vec::new(),
        };
        let now = fixture.running.app.clock.now();
        let record = NewAuditRecord {
            at: now,
            actor: "coordinator".to_owned(),
            source: String::new(),
            action: "user.create",
            target: user.username.clone(),
            decision: Decision::Allowed,
            detail: json!({}),
            request_id: String::new(),
        };
        fixture.running.app.store.create_user(&user, now, &record).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn aut_07_welchs_test_does_not_tell_an_unknown_user_from_a_wrong_password() {
    const PAIRS: u8 = 30;
    let fixture = behind_a_proxy().await;
    users(&fixture, PAIRS).await;
    let clock = &fixture.running.app.clock;
    let timed = async |username: String, from: String| {
        let begun = clock.monotonic();
        let status = login(&fixture, &from, &username, WRONG).await.0;
        assert_eq!(status, StatusCode::UNAUTHORIZED);
        clock.monotonic().saturating_sub(begun)
    };
    let (mut wrong, mut unknown): (Vec<Duration>, Vec<Duration>) = (Vec::new(), Vec::new());
    for number in 0..PAIRS {
        let sides = [(format!("user{number}"), 1), (format!("nobody{number}"), 2)];
        // Now this first, now that: what drifts with time must not look like a difference.
        let order = if number % 2 == 0 { [0, 1] } else { [1, 0] };
        for side in order {
            let (name, network) = &sides[side];
            let time = timed(name.clone(), format!("10.{network}.0.{number}")).await;
            if side == 0 { wrong.push(time) } else { unknown.push(time) }
        }
    }
    let t = welch(&wrong, &unknown);
    assert!(t.abs() < 4.5, "t = {t}: {wrong:?} {unknown:?}");
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn aut_12_every_end_of_a_login_refresh_and_password_change_is_recorded_with_its_address() {
    let fixture = behind_a_proxy().await;
    let from = "10.1.2.3";
    login(&fixture, from, "admin", WRONG).await;
    let (_, opened) = login(&fixture, from, "admin", &fixture.admin_password).await;
    let post = |path: &str, token: Option<&str>, body: Value| {
        let request = fixture.request("POST", path).header("x-forwarded-for", from).json(&body);
        answer(token.into_iter().fold(request, reqwest::RequestBuilder::bearer_auth))
    };
    let refresh = json!({"refresh_token": opened["refresh_token"]});
    let (status, refreshed) = post("/api/v1/auth/refresh", None, refresh.clone()).await;
    assert_eq!(status, StatusCode::OK, "{refreshed}");
    let access = refreshed["access_token"].as_str();
    let change = json!({"current_password": WRONG, "new_password": "another long password"});
    assert_eq!(post("/api/v1/auth/password", access, change).await.0, StatusCode::BAD_REQUEST);
    assert_eq!(post("/api/v1/auth/refresh", None, refresh).await.0, StatusCode::UNAUTHORIZED);
    let (_, second) = login(&fixture, from, "admin", &fixture.admin_password).await;
    let access = second["access_token"].as_str();
    assert_eq!(post("/api/v1/auth/logout", access, json!({})).await.0, StatusCode::NO_CONTENT);
    for _ in 0..6 {
        login(&fixture, from, "somebody", WRONG).await;
    }
    let records = fixture.audit().await;
    let (inside, outside): (Vec<_>, Vec<_>) = records.iter().partition(|record| record.source == from);
    assert!(outside.iter().all(|record| record.actor == "coordinator"), "{outside:?}");
    assert!(inside.iter().all(|record| record.request_id.len() == 16), "{inside:?}");
    let told: Vec<(&str, &str, &str)> = inside
        .iter()
        .map(|record| (record.action.as_str(), record.decision.as_str(), record.actor.as_str()))
        .collect();
    let expected = [
        ("login", "denied", "anonymous"),
        ("login", "allowed", "user:admin"),
        ("session.refresh", "allowed", "user:admin"),
        ("password.change", "denied", "user:admin"),
        ("session.refresh", "denied", "user:admin"),
        ("login", "allowed", "user:admin"),
        ("logout", "allowed", "user:admin"),
        ("login", "denied", "anonymous"),
        ("login", "denied", "anonymous"),
        ("login", "denied", "anonymous"),
        ("login", "denied", "anonymous"),
        ("login", "denied", "anonymous"),
        ("login.locked", "denied", "anonymous"),
    ];
    assert_eq!(told, expected);
    fixture.stop().await;
}
