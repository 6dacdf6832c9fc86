//! Login, tokens, sessions, lockout: group AUT, and CSRF of group API.

use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::{COOKIE, SET_COOKIE};
use serde_json::{Value, json};

use crate::support::{Fixture, answer};

const SESSION: &str = "/api/v1/auth/session";

fn text<'a>(body: &'a Value, key: &str) -> &'a str {
    body[key].as_str().unwrap_or_else(|| panic!("{key} in {body}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn aut_09_the_first_password_is_random_kept_in_a_0600_file_and_a_warning_until_changed() {
    use std::os::unix::fs::PermissionsExt;
    let fixture = Fixture::start().await;
    let file = fixture.directory.path().join("password");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(fixture.admin_password.len() >= 20, "120 bits");
    for guess in ["admin", "", "password", "changeme", "admin123"] {
        assert_ne!(fixture.admin_password, guess);
    }
    let unchanged = |ready: &Value| ready["conditions"].to_string().contains("admin_password_unchanged");
    assert!(unchanged(&answer(fixture.request("GET", "/readyz")).await.1));

    let token = fixture.admin().await;
    let body = json!({"current_password": fixture.admin_password, "new_password": "correct horse battery"});
    let (status, _) = fixture.call(&token, "POST", "/api/v1/auth/password", Some(body)).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    assert!(!unchanged(&answer(fixture.request("GET", "/readyz")).await.1));
    assert_eq!(fixture.login_as("admin", &fixture.admin_password).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(fixture.login_as("ADMIN", "correct horse battery").await.0, StatusCode::OK);
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn aut_04_disabling_and_roles_count_at_the_next_request() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    let bob = fixture.user(&admin, "bob", &["engineer"]).await;
    assert_eq!(fixture.call(&bob, "GET", "/api/v1/users", None).await.0, StatusCode::FORBIDDEN);
    let patch = |body| fixture.call(&admin, "PATCH", "/api/v1/users/bob", Some(body));

    patch(json!({"roles": ["admin"]})).await;
    assert_eq!(fixture.call(&bob, "GET", "/api/v1/users", None).await.0, StatusCode::OK);
    patch(json!({"roles": ["engineer"]})).await;
    assert_eq!(fixture.call(&bob, "GET", "/api/v1/users", None).await.0, StatusCode::FORBIDDEN);
    patch(json!({"enabled": false})).await;
    assert_eq!(fixture.call(&bob, "GET", SESSION, None).await.0, StatusCode::UNAUTHORIZED);
    patch(json!({"enabled": true})).await;
    assert_eq!(fixture.call(&bob, "GET", SESSION, None).await.0, StatusCode::UNAUTHORIZED, "it stays ended");
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn aut_05_a_refresh_token_works_once_and_its_second_use_ends_the_family() {
    let fixture = Fixture::start().await;
    let (_, first) = fixture.login_as("admin", &fixture.admin_password).await;
    let refresh = |token: &str| {
        let body = json!({"refresh_token": token});
        answer(fixture.request("POST", "/api/v1/auth/refresh").json(&body))
    };
    let (status, second) = refresh(text(&first, "refresh_token")).await;
    assert_eq!(status, StatusCode::OK, "{second}");
    let access = text(&second, "access_token");
    assert_eq!(fixture.call(access, "GET", SESSION, None).await.0, StatusCode::OK);

    assert_eq!(refresh(text(&first, "refresh_token")).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(fixture.call(access, "GET", SESSION, None).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(refresh(text(&second, "refresh_token")).await.0, StatusCode::UNAUTHORIZED);
    let records = fixture.audit().await;
    let denied = records.iter().filter(|r| r.action == "session.refresh" && r.decision == "denied").count();
    assert_eq!(denied, 1, "AUT-12: the re-use is recorded");
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn aut_05_concurrent_uses_of_one_refresh_token_have_at_most_one_winner() {
    let fixture = Fixture::start().await;
    let (_, login) = fixture.login_as("admin", &fixture.admin_password).await;
    let body = json!({"refresh_token": text(&login, "refresh_token")});
    let tries = (0..8).map(|_| answer(fixture.request("POST", "/api/v1/auth/refresh").json(&body)));
    let won =
        futures_util::future::join_all(tries).await.into_iter().filter(|(status, _)| status.is_success());
    assert!(won.count() <= 1);
    assert_eq!(
        fixture.call(text(&login, "access_token"), "GET", SESSION, None).await.0,
        StatusCode::UNAUTHORIZED,
        "the family is revoked"
    );
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn aut_05_logout_ends_access_and_refresh() {
    let fixture = Fixture::start().await;
    let (_, login) = fixture.login_as("admin", &fixture.admin_password).await;
    let access = text(&login, "access_token");
    assert_eq!(fixture.call(access, "POST", "/api/v1/auth/logout", None).await.0, StatusCode::NO_CONTENT);
    assert_eq!(fixture.call(access, "GET", SESSION, None).await.0, StatusCode::UNAUTHORIZED);
    let body = json!({"refresh_token": text(&login, "refresh_token")});
    let refreshed = answer(fixture.request("POST", "/api/v1/auth/refresh").json(&body)).await;
    assert_eq!(refreshed.0, StatusCode::UNAUTHORIZED);
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn aut_06_five_wrong_guesses_lock_the_account_whatever_its_spelling() {
    let fixture = Fixture::start().await;
    for variant in ["admin", "Admin", " admin", "ADMIN", "admin "] {
        assert_eq!(fixture.login_as(variant, "a wrong password").await.0, StatusCode::UNAUTHORIZED);
    }
    let response = fixture
        .request("POST", "/api/v1/auth/login")
        .json(&json!({"username": "admin", "password": fixture.admin_password}))
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    let wait: u64 = response.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=15 * 60).contains(&wait), "{wait}");
    let locked = fixture.audit().await.into_iter().any(|record| record.action == "login.locked");
    assert!(locked, "AUT-12: the lockout is recorded");
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn aut_06_guesses_from_elsewhere_do_not_keep_out_who_is_known_at_an_address() {
    let fixture = Fixture::start_with(|config| {
        config.https.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    })
    .await;
    let login = |from: &'static str, password: String| {
        let body = json!({"username": "admin", "password": password});
        answer(fixture.request("POST", "/api/v1/auth/login").header("x-forwarded-for", from).json(&body))
    };
    assert_eq!(login("10.0.0.1", fixture.admin_password.clone()).await.0, StatusCode::OK);
    for _ in 0..6 {
        login("10.6.6.6", "a wrong password".to_owned()).await;
    }
    let from_nowhere = login("10.0.0.2", fixture.admin_password.clone()).await.0;
    assert_eq!(from_nowhere, StatusCode::TOO_MANY_REQUESTS, "the account is locked for strangers");
    assert_eq!(login("10.0.0.1", fixture.admin_password.clone()).await.0, StatusCode::OK);
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn aut_07_unknown_user_and_wrong_password_look_and_cost_the_same() {
    let fixture = Fixture::start().await;
    let computed = || fixture.running.app.auth.passwords().computed();
    let without_id = |mut body: Value| {
        body.as_object_mut().unwrap().remove("request_id");
        body
    };
    let before = computed();
    let wrong = fixture.login_as("admin", "a wrong password").await;
    let between = computed();
    let unknown = fixture.login_as("nobody", "a wrong password").await;
    let impossible = fixture.login_as("no body \u{0430}", "a wrong password").await;
    let too_long = fixture.login_as("admin", &"x".repeat(100)).await;
    assert_eq!(wrong.0, StatusCode::UNAUTHORIZED);
    let wrong = (wrong.0, without_id(wrong.1));
    for other in [unknown, impossible, too_long] {
        assert_eq!((other.0, without_id(other.1)), wrong);
    }
    assert_eq!((between - before, computed() - between), (1, 3), "one bcrypt each");
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn aut_10_cookies_carry_no_token_to_scripts_and_api_06_changes_need_the_csrf_token() {
    let fixture = Fixture::start().await;
    let body = json!({"username": "admin", "password": fixture.admin_password, "mode": "cookie"});
    let response = fixture.request("POST", "/api/v1/auth/login").json(&body).send().await.unwrap();
    let cookies: Vec<String> = response
        .headers()
        .get_all(SET_COOKIE)
        .iter()
        .map(|cookie| cookie.to_str().unwrap().split(';').next().unwrap().to_owned())
        .collect();
    let jar = cookies.join("; ");
    let body: Value = response.json().await.unwrap();
    assert!(body.get("access_token").is_none() && body.get("refresh_token").is_none(), "{body}");
    let csrf = text(&body, "csrf_token").to_owned();

    let send = |method: &str, path: &str, csrf: Option<&str>| {
        let request = fixture.request(method, path).header(COOKIE, &jar);
        answer(match csrf {
            Some(csrf) => request.header("x-aim-csrf", csrf),
            None => request,
        })
    };
    assert_eq!(send("GET", SESSION, None).await.0, StatusCode::OK);
    for (origin, expected) in [
        (fixture.base.as_str(), StatusCode::OK),
        ("https://evil.example.org", StatusCode::FORBIDDEN),
        ("https://localhost", StatusCode::FORBIDDEN),
        ("null", StatusCode::FORBIDDEN),
    ] {
        let request = fixture.request("GET", SESSION).header(COOKIE, &jar).header("origin", origin);
        assert_eq!(answer(request).await.0, expected, "API-07: {origin}");
    }
    // Every state-changing route, by the table that the server itself uses.
    for row in aim_coordinator::api::resources().iter().flat_map(|resource| (resource.access)()) {
        if row.method.is_safe() || row.rule == aim_coordinator::api::access::Rule::Public {
            continue;
        }
        let path = crate::access::fill(row.path);
        for forged in [None, Some(""), Some("0123456789abcdef")] {
            let (status, problem) = send(row.method.as_str(), &path, forged).await;
            assert_eq!((status, text(&problem, "code")), (StatusCode::FORBIDDEN, "csrf_missing"), "{path}");
        }
    }
    assert_eq!(send("POST", "/api/v1/auth/refresh", None).await.0, StatusCode::FORBIDDEN);
    assert_eq!(send("POST", "/api/v1/auth/logout", Some(&csrf)).await.0, StatusCode::NO_CONTENT);
    assert_eq!(send("GET", SESSION, None).await.0, StatusCode::UNAUTHORIZED);
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn api_06_json_must_say_that_it_is_json() {
    let fixture = Fixture::start().await;
    let body = json!({"username": "admin", "password": fixture.admin_password}).to_string();
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"] {
        let request =
            fixture.request("POST", "/api/v1/auth/login").header("content-type", kind).body(body.clone());
        assert_eq!(answer(request).await.0, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{kind}");
    }
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn aut_12_logins_and_their_failures_are_recorded_with_their_source() {
    let fixture = Fixture::start().await;
    fixture.login_as("admin", "a wrong password").await;
    fixture.admin().await;
    let records = fixture.audit().await;
    let logins: Vec<(&str, &str, &str)> = records
        .iter()
        .filter(|record| record.action == "login")
        .map(|record| (record.actor.as_str(), record.decision.as_str(), record.source.as_str()))
        .collect();
    assert_eq!(logins, [("anonymous", "denied", "127.0.0.1"), ("user:admin", "allowed", "127.0.0.1")]);
    assert!(records.iter().all(|record| !record.detail.contains("a wrong password")));
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn aut_04_a_user_changed_behind_the_coordinators_back_loses_the_session_within_a_second() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    assert_eq!(fixture.call(&admin, "GET", SESSION, None).await.0, StatusCode::OK);
    let mut config = (*fixture.running.app.config).clone();
    config.auth.initial_password_file = None;
    let now = fixture.running.app.clock.now();
    aim_coordinator::host_commands::reset_password(&config, "admin", now).await.unwrap();
    let deadline = fixture.running.app.clock.monotonic() + Duration::from_secs(5);
    while fixture.call(&admin, "GET", SESSION, None).await.0 != StatusCode::UNAUTHORIZED {
        assert!(fixture.running.app.clock.monotonic() < deadline, "the session outlived its user's reset");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    fixture.stop().await;
}
