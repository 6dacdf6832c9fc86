//! Every route that takes a body: what it says of itself, and what it may hold (RBA-09, API-06).

use aim_coordinator::api::router;
use reqwest::StatusCode;
use reqwest::header::{COOKIE, SET_COOKIE};
use serde_json::{Value, json};

use crate::access::fill;
use crate::support::{Fixture, answer};

/// Method and path of every route whose document has a body.
fn routes() -> Vec<(String, String)> {
    let document = serde_json::to_value(router::routes().1).unwrap();
    let mut found = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            if operation["requestBody"].is_object() {
                found.push((method.to_uppercase(), fill(path)));
            }
        }
    }
    assert!(found.len() >= 14, "{found:?}");
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn rba_09_every_body_refuses_a_field_that_is_not_documented() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    for (method, path) in routes() {
        for field in ["role", "owner", "id", "created_at", "is_admin", "__proto__", "Username"] {
            if path.starts_with("/api/v1/nodes/") && field == "owner" {
                continue; // Documented there, and judged by RBA-03.
            }
            let (status, problem) = fixture.call(&admin, &method, &path, Some(json!({ field: "x" }))).await;
            assert_eq!(status, StatusCode::BAD_REQUEST, "{method} {path} {field}: {problem}");
            // The proofs of enrolment name their step first.
            let detail = problem["detail"].as_str().unwrap();
            assert!(
                detail.contains("unknown field") || detail.contains("step"),
                "{method} {path} {field}: {detail}"
            );
        }
    }
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn api_06_a_form_of_another_site_is_refused_on_every_route_that_takes_a_body() {
    let fixture = Fixture::start().await;
    let body = json!({"username": "admin", "password": fixture.admin_password, "mode": "cookie"});
    let response = fixture.request("POST", "/api/v1/auth/login").json(&body).send().await.unwrap();
    let cookies = response.headers().get_all(SET_COOKIE).iter();
    let jar: Vec<&str> = cookies.map(|cookie| cookie.to_str().unwrap().split(';').next().unwrap()).collect();
    let jar = jar.join("; ");
    let login: Value = response.json().await.unwrap_or_default();
    let csrf = login["csrf_token"].as_str().unwrap();
    let forms = [
        ("application/x-www-form-urlencoded", "a=b"),
        (
            "multipart/form-data; boundary=x",
            "--x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nb\r\n--x--\r\n",
        ),
        ("text/plain", "{}"),
    ];
    for (method, path) in routes() {
        for (kind, body) in forms {
            let request = || {
                let request = fixture.request(&method, &path).header(COOKIE, &jar);
                request.header("content-type", kind).body(body)
            };
            // What a form can send has neither the header nor the type; with the header alone it is still no JSON.
            let (form, _) = answer(request()).await;
            assert!(
                form == StatusCode::FORBIDDEN || form == StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "{path} {kind}: {form}"
            );
            let (typed, _) = answer(request().header("x-aim-csrf", csrf)).await;
            assert_eq!(typed, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{path} {kind}");
        }
    }
    fixture.stop().await;
}
