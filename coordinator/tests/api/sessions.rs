//! What a session is bound to: its user's rights of this moment, and headers alone.

use std::time::Duration;

use aim_common::units::EpochMs;
use aim_coordinator::api::router;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::{Fixture, answer};

const SESSION: &str = "/api/v1/auth/session";

#[tokio::test(flavor = "multi_thread")]
async fn aut_04_what_a_role_grants_counts_at_the_next_request() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    let grant = |permissions: Value| {
        let body = json!({ "permissions": permissions });
        fixture.call(&admin, "PUT", "/api/v1/roles/probe", Some(body))
    };
    assert_eq!(grant(json!(["hosts:read:*"])).await.0, StatusCode::OK);
    let bob = fixture.user(&admin, "bob", &["probe"]).await;
    for _ in 0..3 {
        for (permissions, expected) in
            [(json!(["users:read:*"]), StatusCode::OK), (json!(["hosts:read:*"]), StatusCode::FORBIDDEN)]
        {
            assert_eq!(grant(permissions).await.0, StatusCode::OK);
            assert_eq!(fixture.call(&bob, "GET", "/api/v1/users", None).await.0, expected);
        }
    }
    let (status, _) = fixture.call(&admin, "DELETE", "/api/v1/users/bob", None).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    assert_eq!(fixture.call(&bob, "GET", SESSION, None).await.0, StatusCode::UNAUTHORIZED);
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn aut_05_an_access_token_lives_fifteen_minutes_at_most() {
    let fixture = Fixture::start().await;
    let now = fixture.running.app.clock.now();
    let (_, login) = fixture.login_as("admin", &fixture.admin_password).await;
    let refresh = json!({"refresh_token": login["refresh_token"]});
    let (_, refreshed) = answer(fixture.request("POST", "/api/v1/auth/refresh").json(&refresh)).await;
    for opened in [&login, &refreshed] {
        let ends: EpochMs = serde_json::from_value(opened["access_expires_at"].clone()).unwrap();
        let life = Duration::from_millis(u64::try_from(ends.since_ms(now)).unwrap());
        // The test itself takes a moment between the two times.
        assert!(life <= Duration::from_mins(15), "{life:?}");
    }
    assert_ne!(login["refresh_token"], refreshed["refresh_token"], "the refresh token rotates");
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn aut_10_no_token_is_taken_from_a_url_and_no_route_asks_for_one_there() {
    let fixture = Fixture::start().await;
    let (_, login) = fixture.login_as("admin", &fixture.admin_password).await;
    let (access, refresh) =
        (login["access_token"].as_str().unwrap(), login["refresh_token"].as_str().unwrap());
    for name in ["access_token", "token", "jwt", "bearer", "authorization", "Authorization", "session"] {
        for path in [SESSION, "/api/v1/users", "/api/v1/changes"] {
            let (status, _) = answer(fixture.request("GET", &format!("{path}?{name}={access}"))).await;
            assert_eq!(status, StatusCode::UNAUTHORIZED, "{path}?{name}=");
        }
        let path = format!("/api/v1/auth/refresh?refresh_token={refresh}&{name}={refresh}");
        assert_eq!(answer(fixture.request("POST", &path)).await.0, StatusCode::UNAUTHORIZED, "{name}");
    }
    let document = serde_json::to_value(router::routes().1).unwrap();
    let operations = document["paths"].as_object().unwrap().iter();
    let operations =
        operations.flat_map(|(path, item)| item.as_object().unwrap().values().map(move |one| (path, one)));
    for (path, operation) in operations {
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            let (name, place) = (parameter["name"].as_str().unwrap(), parameter["in"].as_str().unwrap());
            // The id of an enrolment token, a number, is no secret.
            let is_id = path == "/api/v1/tokens/{token}" && place == "path";
            let secret = ["token", "jwt", "password", "secret", "signature"];
            let asks = secret.iter().any(|word| name.to_ascii_lowercase().contains(word));
            assert!(place == "header" || is_id || !asks, "{path} asks for {name} in its {place}");
        }
    }
    fixture.stop().await;
}
