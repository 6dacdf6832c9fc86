//! Event streams: who may open one, and for how long (AUT-04, API-07).

use std::time::Duration;

use futures_util::{Stream, StreamExt};
use reqwest::header::{COOKIE, SET_COOKIE};
use reqwest::{Response, StatusCode};
use serde_json::json;

use crate::support::{Fixture, answer};

const CHANGES: &str = "/api/v1/changes";
/// One second by the statement, and as much again for a slow machine.
const ENDED: Duration = Duration::from_secs(1 + 1);

async fn open(fixture: &Fixture, token: &str, path: &str) -> Response {
    let response = fixture.request("GET", path).bearer_auth(token).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK, "{path}");
    response
}

async fn ends(what: &str, stream: impl Stream<Item = reqwest::Result<bytes::Bytes>>) {
    tokio::pin!(stream);
    let ended = tokio::time::timeout(ENDED, async { while stream.next().await.is_some() {} }).await;
    assert!(ended.is_ok(), "{what} was still open after {ENDED:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn aut_04_api_07_disabling_a_user_ends_every_open_stream_within_a_second() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    fixture.enrol(&admin, "gpu1").await;
    for (name, change) in
        [("disabled", json!({"enabled": false})), ("reset", json!({"password": "another long password"}))]
    {
        let user = fixture.user(&admin, name, &["engineer"]).await;
        let changes = open(&fixture, &user, CHANGES).await;
        let live = open(&fixture, &user, "/api/v1/nodes/gpu1/live").await;
        let (status, _) = fixture.call(&admin, "PATCH", &format!("/api/v1/users/{name}"), Some(change)).await;
        assert_eq!(status, StatusCode::OK);
        tokio::join!(
            ends("the change feed", changes.bytes_stream()),
            ends("the live view", live.bytes_stream())
        );
    }
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn aut_04_a_user_disabled_behind_the_coordinators_back_loses_the_open_streams_within_a_second() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    let changes = open(&fixture, &admin, CHANGES).await;
    let mut config = (*fixture.running.app.config).clone();
    config.auth.initial_password_file = None;
    let now = fixture.running.app.clock.now();
    // As the command on the host does it, or another coordinator on the same database.
    aim_coordinator::host_commands::reset_password(&config, "admin", now).await.unwrap();
    ends("the change feed", changes.bytes_stream()).await;
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn api_07_an_open_feed_shows_nothing_more_once_the_right_is_withdrawn() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    fixture.enrol(&admin, "gpu1").await;
    let role = async |permissions: &[&str]| {
        let body = json!({ "permissions": permissions });
        let (status, _) = fixture.call(&admin, "PUT", "/api/v1/roles/watcher", Some(body)).await;
        assert_eq!(status, StatusCode::OK);
    };
    let label = async |value: &str| {
        let body = json!({"labels": {"rack": value}});
        let (status, _) = fixture.call(&admin, "PATCH", "/api/v1/nodes/gpu1", Some(body)).await;
        assert_eq!(status, StatusCode::OK);
    };
    role(&["hosts:read:*"]).await;
    let bob = fixture.user(&admin, "bob", &["watcher"]).await;
    let mut feed = open(&fixture, &bob, CHANGES).await.bytes_stream();
    role(&["events:read:*"]).await;
    let clock = &fixture.running.app.clock;
    let withdrawn = clock.monotonic();
    while clock.monotonic().saturating_sub(withdrawn) < ENDED {
        label("in-between").await;
    }
    label("hidden").await;
    role(&["hosts:read:*"]).await;
    let mut text = String::new();
    let seen = tokio::time::timeout(Duration::from_secs(20), async {
        while !text.contains("shown") {
            label("shown").await;
            let next = tokio::time::timeout(Duration::from_millis(50), feed.next()).await;
            if let Ok(bytes) = next {
                text.push_str(&String::from_utf8_lossy(&bytes.unwrap().unwrap()));
            }
        }
    });
    seen.await.expect("changes are seen again");
    assert!(!text.contains("hidden"), "a change without the right to see it: {text}");
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn api_07_a_page_of_another_origin_opens_no_stream_with_the_browsers_cookies() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    fixture.enrol(&admin, "gpu1").await;
    let body = json!({"username": "admin", "password": fixture.admin_password, "mode": "cookie"});
    let response = fixture.request("POST", "/api/v1/auth/login").json(&body).send().await.unwrap();
    let cookies = response.headers().get_all(SET_COOKIE).iter();
    let jar: Vec<&str> = cookies.map(|cookie| cookie.to_str().unwrap().split(';').next().unwrap()).collect();
    let jar = jar.join("; ");
    for path in [CHANGES, "/api/v1/nodes/gpu1/live"] {
        let request = |origin: Option<&str>| {
            let request = fixture.request("GET", path).header(COOKIE, &jar);
            origin.into_iter().fold(request, |request, origin| request.header("origin", origin))
        };
        for own in [None, Some(fixture.base.as_str())] {
            let response = request(own).send().await.unwrap();
            assert_eq!(response.status(), StatusCode::OK, "{path} {own:?}");
            assert_eq!(response.headers()["content-type"], "text/event-stream");
        }
        let (_, port) = fixture.base.rsplit_once(':').unwrap();
        let same_port = format!("https://evil.example.org:{port}");
        for foreign in ["https://evil.example.org", same_port.as_str(), "https://localhost", "null", ""] {
            let (status, problem) = answer(request(Some(foreign))).await;
            assert_eq!(
                (status, problem["code"].as_str()),
                (StatusCode::FORBIDDEN, Some("foreign_origin")),
                "{path} {foreign}"
            );
        }
    }
    fixture.stop().await;
}
