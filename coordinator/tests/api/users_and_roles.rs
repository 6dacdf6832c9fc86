//! Users and roles: nobody climbs (group RBA).

use reqwest::StatusCode;
use serde_json::json;

use crate::support::Fixture;

/// A fixture with `helper`, who may do everything with users and roles and nothing else.
async fn with_helper() -> (Fixture, String, String) {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    let body = json!({"permissions": ["users:*:*", "roles:*:*"]});
    assert_eq!(fixture.call(&admin, "PUT", "/api/v1/roles/helper", Some(body)).await.0, StatusCode::OK);
    let helper = fixture.user(&admin, "helper", &["helper"]).await;
    (fixture, admin, helper)
}

#[tokio::test(flavor = "multi_thread")]
async fn rba_04_nobody_gives_what_they_do_not_hold() {
    let (fixture, admin, helper) = with_helper().await;
    let password = "a long enough password";
    let attempts = [
        ("POST", "/api/v1/users", json!({"username": "eve", "password": password, "roles": ["admin"]})),
        ("POST", "/api/v1/users", json!({"username": "eve", "password": password, "roles": ["engineer"]})),
        ("PATCH", "/api/v1/users/helper", json!({"roles": ["helper", "admin"]})),
        ("PUT", "/api/v1/roles/helper", json!({"permissions": ["*:*:*"]})),
        ("PUT", "/api/v1/roles/helper", json!({"permissions": ["users:*:*", "hosts:read:own"]})),
        ("PUT", "/api/v1/roles/mine", json!({"permissions": ["keyvault:create:*"]})),
    ];
    for (method, path, body) in attempts {
        let (status, answer) = fixture.call(&helper, method, path, Some(body.clone())).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{method} {path} {body}: {answer}");
    }
    let (_, after) = fixture.call(&admin, "GET", "/api/v1/users", None).await;
    assert_eq!(after["total"], 2, "{after}");
    // What they hold they may give.
    let body = json!({"username": "second", "password": password, "roles": ["helper"]});
    assert_eq!(fixture.call(&helper, "POST", "/api/v1/users", Some(body)).await.0, StatusCode::CREATED);
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rba_04_a_non_admin_cannot_alter_an_admin_in_any_way() {
    let (fixture, admin, helper) = with_helper().await;
    let (_, sessions) = fixture.call(&admin, "GET", "/api/v1/sessions", None).await;
    let session = format!("/api/v1/sessions/{}", sessions[0]["id"].as_str().unwrap());
    let attempts = [
        ("PATCH", "/api/v1/users/admin", Some(json!({"password": "a long enough password"}))),
        ("PATCH", "/api/v1/users/admin", Some(json!({"enabled": false}))),
        ("PATCH", "/api/v1/users/admin", Some(json!({"roles": []}))),
        ("PATCH", "/api/v1/users/admin", Some(json!({"groups": ["helpers"]}))),
        ("DELETE", "/api/v1/users/admin", None),
        ("DELETE", session.as_str(), None),
    ];
    for (method, path, body) in attempts {
        let (status, answer) = fixture.call(&helper, method, path, body).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{method} {path}: {answer}");
    }
    assert_eq!(fixture.call(&admin, "GET", "/api/v1/auth/session", None).await.0, StatusCode::OK);
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rba_04_templates_change_by_admins_only_and_the_last_admin_stays() {
    let (fixture, admin, helper) = with_helper().await;
    let permissions = json!({"permissions": ["users:read:*"]});
    for role in ["admin", "sre", "data-developer", "model-developer", "engineer"] {
        let path = format!("/api/v1/roles/{role}");
        let (status, _) = fixture.call(&helper, "PUT", &path, Some(permissions.clone())).await;
        assert!(status == StatusCode::FORBIDDEN || status == StatusCode::CONFLICT, "{role}: {status}");
        assert_eq!(fixture.call(&admin, "DELETE", &path, None).await.0, StatusCode::CONFLICT, "{role}");
    }
    let (status, _) = fixture.call(&admin, "PUT", "/api/v1/roles/engineer", Some(permissions.clone())).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(
        fixture.call(&admin, "PUT", "/api/v1/roles/admin", Some(permissions)).await.0,
        StatusCode::CONFLICT
    );

    for (method, body) in [
        ("DELETE", None),
        ("PATCH", Some(json!({"enabled": false}))),
        ("PATCH", Some(json!({"roles": ["engineer"]}))),
    ] {
        let (status, answer) = fixture.call(&admin, method, "/api/v1/users/admin", body).await;
        assert_eq!(status, StatusCode::CONFLICT, "{method}: {answer}");
    }
    fixture.user(&admin, "second", &["admin"]).await;
    assert_eq!(fixture.call(&admin, "DELETE", "/api/v1/users/second", None).await.0, StatusCode::NO_CONTENT);
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rba_02_misshapen_permissions_are_refused_when_written() {
    let (fixture, admin, _) = with_helper().await;
    let misshapen = [
        "",
        "hosts",
        "hosts:read",
        "hosts:read:*:*",
        "hosts::*",
        ":read:*",
        "hosts:read:",
        "Hosts:read:*",
        "hosts:read:* ",
        " hosts:read:*",
        "hosts:re*:*",
        "hosts:read:mine",
        "hosts:read:group:",
        "h\u{043e}sts:read:*",
        "hosts:read:group:a:b",
        "hosts:read:\u{ff0a}",
    ];
    for text in misshapen {
        let body = json!({"permissions": [text]});
        let (status, answer) = fixture.call(&admin, "PUT", "/api/v1/roles/probe", Some(body)).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{text:?}: {answer}");
    }
    let (status, _) = fixture.call(&admin, "GET", "/api/v1/roles/probe", None).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rba_03_own_reaches_no_object_that_has_no_owner() {
    let (fixture, admin, _) = with_helper().await;
    let body = json!({"permissions": ["users:*:own", "roles:*:own", "audit:*:own"]});
    fixture.call(&admin, "PUT", "/api/v1/roles/owner", Some(body)).await;
    let owner = fixture.user(&admin, "owner", &["owner"]).await;
    for path in
        ["/api/v1/users", "/api/v1/users/owner", "/api/v1/users/admin", "/api/v1/roles", "/api/v1/audit"]
    {
        assert_eq!(fixture.call(&owner, "GET", path, None).await.0, StatusCode::FORBIDDEN, "{path}");
    }
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rba_06_somebody_elses_session_looks_like_none() {
    let (fixture, admin, _) = with_helper().await;
    let bob = fixture.user(&admin, "bob", &["engineer"]).await;
    let (_, sessions) = fixture.call(&admin, "GET", "/api/v1/sessions?all=true", None).await;
    let of_admin =
        sessions.as_array().unwrap().iter().find(|session| session["username"] == "admin").unwrap();
    let theirs = format!("/api/v1/sessions/{}", of_admin["id"].as_str().unwrap());
    let strip = |(status, mut body): (StatusCode, serde_json::Value)| {
        body.as_object_mut().unwrap().remove("request_id");
        (status, body)
    };
    let existing = strip(fixture.call(&bob, "DELETE", &theirs, None).await);
    let missing = strip(fixture.call(&bob, "DELETE", "/api/v1/sessions/0123", None).await);
    assert_eq!(existing, missing);
    assert_eq!(existing.0, StatusCode::NOT_FOUND);
    assert_eq!(fixture.call(&bob, "GET", "/api/v1/sessions?all=true", None).await.0, StatusCode::FORBIDDEN);
    let (_, own) = fixture.call(&bob, "GET", "/api/v1/sessions", None).await;
    assert_eq!(own.as_array().unwrap().len(), 1);
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rba_09_fields_that_are_not_documented_are_refused() {
    let (fixture, admin, _) = with_helper().await;
    let base = json!({"username": "eve", "password": "a long enough password"});
    for field in ["id", "created_at", "role", "owner", "enabled", "password_hash", "password_generated"] {
        let mut body = base.clone();
        body[field] = json!("x");
        let (status, answer) = fixture.call(&admin, "POST", "/api/v1/users", Some(body)).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{field}: {answer}");
    }
    for (path, method, body) in [
        ("/api/v1/users/helper", "PATCH", json!({"id": "x"})),
        ("/api/v1/roles/helper", "PUT", json!({"permissions": [], "template": true})),
        (
            "/api/v1/auth/password",
            "POST",
            json!({"current_password": "x", "new_password": "y", "username": "admin"}),
        ),
    ] {
        assert_eq!(fixture.call(&admin, method, path, Some(body)).await.0, StatusCode::BAD_REQUEST, "{path}");
    }
    fixture.stop().await;
}
