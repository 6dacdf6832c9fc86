//! The access table: every route has a row, and every row is what the expected table says (RBA-01, IDN-03).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::PathBuf;

use aim_coordinator::api::access::{Access, Rule};
use aim_coordinator::api::{resources, router};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::Fixture;

const ROLES: [&str; 5] = ["admin", "sre", "data-developer", "model-developer", "engineer"];
/// Set it to write the expected table anew, then read the difference.
const REGENERATE: &str = "AIM_REGENERATE_EXPECTED";

pub(crate) fn rows() -> Vec<Access> {
    resources().iter().flat_map(|resource| (resource.access)()).collect()
}

/// The path with something in the place of each parameter that exists nowhere.
pub(crate) fn fill(path: &str) -> String {
    let parts = path.split('/').map(|part| if part.starts_with('{') { "4242424242" } else { part });
    parts.collect::<Vec<_>>().join("/")
}

#[test]
fn idn_03_every_route_has_one_row_and_stands_in_the_document() {
    let (routes, document) = router::routes();
    let mut documented = BTreeSet::new();
    for (path, item) in &document.paths.paths {
        let item = serde_json::to_value(item).unwrap();
        for method in item.as_object().unwrap().keys() {
            if ["get", "post", "put", "patch", "delete", "head", "options", "trace"]
                .contains(&method.as_str())
            {
                documented.insert(format!("{} {path}", method.to_uppercase()));
            }
        }
    }
    let listed: Vec<String> = rows().iter().map(|row| format!("{} {}", row.method, row.path)).collect();
    let table: BTreeSet<String> = listed.iter().cloned().collect();
    assert_eq!(table.len(), listed.len(), "a route has two rows");
    assert_eq!(documented, table, "left: OpenAPI document, right: access table");

    // A route that was added around the document shows in the router itself.
    let described = format!("{routes:?}");
    let in_router: BTreeSet<&str> = described
        .split('"')
        .filter(|part| {
            part.starts_with('/') && !part.contains(char::is_whitespace) && !part.contains("__private__")
        })
        .collect();
    let in_table: BTreeSet<&str> =
        table.iter().filter_map(|row| row.split_once(' ')).map(|(_, path)| path).collect();
    assert!(in_router.is_superset(&in_table), "the router cannot be read: {in_router:?}");
    assert_eq!(in_router, in_table, "left: router, right: access table");
}

/// Whether the guard or a handler's own check turned the caller away.
pub(crate) async fn admitted(fixture: &Fixture, token: Option<&str>, row: &Access) -> bool {
    let mut request = fixture.request(row.method.as_str(), &fill(row.path));
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    let response = request.send().await.unwrap();
    let status = response.status();
    assert!(
        !status.is_server_error() || status == StatusCode::SERVICE_UNAVAILABLE,
        "{} {}: {status}",
        row.method,
        row.path
    );
    if !status.is_client_error() {
        return true; // The body may be a stream without an end.
    }
    let problem: Value = response.json().await.unwrap();
    !["unauthenticated", "permission_denied"].contains(&problem["code"].as_str().unwrap())
}

fn ends_the_session(row: &Access) -> bool {
    row.path == "/api/v1/auth/logout"
}

#[tokio::test(flavor = "multi_thread")]
async fn rba_01_every_route_with_every_role_is_as_expected() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    let mut cells: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    let mut callers: Vec<Option<String>> = vec![None];
    for role in ROLES {
        callers.push(Some(fixture.user(&admin, &format!("{role}-user"), &[role]).await));
    }
    for token in &callers {
        for row in rows().iter().filter(|row| token.is_none() || !ends_the_session(row)) {
            let word = if admitted(&fixture, token.as_deref(), row).await { "yes" } else { "-" };
            cells.entry(format!("{:6} {}", row.method.as_str(), row.path)).or_default().push(word);
        }
    }
    let mut table =
        format!("{:<62} {:<10}{}\n", "route", "anonymous", ROLES.map(|role| format!("{role:<16}")).concat());
    for (route, words) in cells {
        let (anonymous, roles) = words.split_first().unwrap();
        let roles = roles.iter().fold(String::new(), |mut line, word| {
            write!(line, "{word:<16}").unwrap();
            line
        });
        writeln!(table, "{}", format!("{route:<62} {anonymous:<10}{roles}").trim_end()).unwrap();
    }
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/expected/access_matrix.txt");
    if std::env::var_os(REGENERATE).is_some() {
        std::fs::write(&file, &table).unwrap();
    }
    let expected = std::fs::read_to_string(&file).unwrap();
    assert_eq!(
        table, expected,
        "who may call what has changed; if so wished: {REGENERATE}=1 cargo test rba_01"
    );
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rba_01_every_single_permission_opens_its_own_routes_and_no_other() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    let grant = |permission: String| {
        let body = json!({"permissions": [permission]});
        fixture.call(&admin, "PUT", "/api/v1/roles/probe", Some(body))
    };
    grant("hosts:read:*".to_owned()).await;
    let probe = fixture.user(&admin, "probe", &["probe"]).await;
    let needed = |row: &Access| match row.rule {
        Rule::Permission { resource, verb } => Some((resource, verb)),
        Rule::Public | Rule::Session => None,
    };
    let all: BTreeSet<(&str, &str)> = rows().iter().filter_map(needed).collect();
    for held in &all {
        let (status, body) = grant(format!("{}:{}:*", held.0, held.1)).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        for row in rows() {
            let Some(needed) = needed(&row) else { continue };
            let expected = needed == *held;
            let actual = admitted(&fixture, Some(&probe), &row).await;
            assert_eq!(actual, expected, "{} {} with {}:{} only", row.method, row.path, held.0, held.1);
        }
    }
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rba_08_no_spelling_of_a_route_goes_around_its_rule() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    let bob = fixture.user(&admin, "bob", &["engineer"]).await;
    let refused = [
        ("GET", "/api/v1/users/"),
        ("GET", "/api/v1//users"),
        ("GET", "//api/v1/users"),
        ("GET", "/api/v1/Users"),
        ("GET", "/API/V1/USERS"),
        ("GET", "/api/v1/%75sers"),
        ("GET", "/api%2fv1%2fusers"),
        ("GET", "/api/v1/users;x=1"),
        ("GET", "/api/v1/x/../users"),
        ("GET", "/api/v1/users%00"),
        ("GET", "/api/v1/users%20"),
        ("HEAD", "/api/v1/users"),
        ("OPTIONS", "/api/v1/users"),
        ("TRACE", "/api/v1/users"),
        ("PUT", "/api/v1/users"),
        ("get", "/api/v1/users"),
    ];
    for (method, path) in refused {
        let request = fixture.request(method, path).bearer_auth(&bob).header("x-http-method-override", "GET");
        let status = request.send().await.unwrap().status();
        assert!(status.is_client_error(), "{method} {path}: {status}");
    }
    // The override header reaches nothing, with whatever right.
    let request = fixture.request("GET", "/api/v1/users/bob").bearer_auth(&admin);
    let overridden = request.header("x-http-method-override", "DELETE").header("x-method-override", "DELETE");
    assert_eq!(overridden.send().await.unwrap().status(), StatusCode::OK);
    assert_eq!(fixture.call(&admin, "GET", "/api/v1/users/bob", None).await.0, StatusCode::OK);
    fixture.stop().await;
}
