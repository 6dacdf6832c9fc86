//! Hostile texts in everything that a request can say: group INJ.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use aim_coordinator::api::layers::host::KnownHosts;
use aim_coordinator::api::peer::PeerAddress;
use aim_coordinator::api::router;
use aim_coordinator::app::SharedApp;
use axum::Router;
use axum::body::Body;
use axum::response::Response;
use http::{HeaderValue, Request};
use reqwest::{StatusCode, Url};
use serde_json::Value;
use tokio::task::JoinSet;
use tower::ServiceExt;

use crate::access::fill;
use crate::support::{Fixture, answer};

/// Texts that mean something to SQL, to a shell, to a path, to HTML, to a header, to a log or to a number.
const SEEDS: &[&str] = &[
    "'",
    "\"",
    "`",
    "''",
    "\\",
    "\\'",
    "' OR '1'='1",
    "\" OR \"\"=\"",
    "' OR 1=1--",
    "') OR ('1'='1",
    "1 OR 1=1",
    "'; DROP TABLE nodes; --",
    "1; DELETE FROM audit",
    "' UNION SELECT sealed FROM sealed_secrets--",
    "'||(SELECT password_hash FROM users)||'",
    "'; SELECT pg_sleep(60)--",
    "' AND pg_sleep(60) IS NULL--",
    "' AND randomblob(2000000000) IS NULL--",
    "'; ATTACH DATABASE '/tmp/x' AS x--",
    "'; VACUUM INTO '/tmp/x'--",
    "' COLLATE NOCASE--",
    "$1",
    "?1",
    ":name",
    "@p",
    "/* */",
    "--",
    "#",
    ";",
    "%",
    "_",
    "%_%",
    "\\%",
    "a%' ESCAPE '",
    "../../etc/passwd",
    "..\\..\\windows",
    "/etc/passwd",
    "%2e%2e%2f",
    "....//",
    "file:///etc/passwd",
    "C:\\",
    "|id",
    "$(id)",
    "`id`",
    ";id",
    "&& id",
    "${jndi:ldap://127.0.0.1/a}",
    "{{7*7}}",
    "<%= 7*7 %>",
    "#{7*7}",
    "<script>alert(1)</script>",
    "\"><img src=x>",
    "javascript:alert(1)",
    "]]>",
    "<!--",
    "&amp;&#0;",
    "a\r\nX-Injected: 1",
    "a\nSet-Cookie: evil=1",
    "\u{0}",
    "a\u{0}b",
    "\u{1b}[31m",
    "\u{2028}",
    "\u{202e}",
    "\u{feff}",
    "\u{fffd}",
    "\u{1f4a3}",
    "é\u{301}",
    "ＯＲ",
    "-1",
    "0",
    "1e999",
    "NaN",
    "-0",
    "99999999999999999999",
    "0x1F",
    "true",
    "null",
    "undefined",
    "[]",
    "{}",
    "[[[[[[",
    "{\"a\":1}",
    " ",
    "\t",
    "*",
    "gpu[1-9999999]",
    "gpu[",
    "*:*:*",
];

fn percent(mut text: String, digits: &[u8]) -> String {
    text.push('%');
    text.extend(digits.iter().copied().map(char::from));
    text
}

/// The seeds as they are, and changed in the ways that get round a careless filter.
fn corpus() -> Vec<String> {
    let encoded = |text: &str| hex::encode_upper(text).as_bytes().chunks(2).fold(String::new(), percent);
    let all = SEEDS.iter().flat_map(|seed| {
        [(*seed).to_owned(), encoded(seed), format!("node-1{seed}"), format!("{seed}\u{0}")]
    });
    let long = ["'", "%", "a", "[", "\u{0}"].map(|text| text.repeat(2_000));
    all.chain(long).collect::<BTreeSet<_>>().into_iter().collect()
}

/// Where a parameter stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Path,
    Query,
    Header,
}

/// Every route of `GET` with its string parameters, as the OpenAPI document has them.
fn parameters() -> BTreeMap<String, BTreeSet<(Place, String)>> {
    let document = serde_json::to_value(router::routes().1).unwrap();
    let mut found = BTreeMap::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        let listed = item["get"]["parameters"].as_array().cloned().unwrap_or_default();
        // `["integer", "null"]` is no text either.
        let texts = listed
            .iter()
            .filter(|parameter| !parameter["schema"]["type"].to_string().contains("\"integer\""));
        let place = |word: &Value| match word.as_str() {
            Some("path") => Place::Path,
            Some("query") => Place::Query,
            Some("header") => Place::Header,
            other => panic!("a parameter in {other:?}: say here how it is sent"),
        };
        let mut named: BTreeSet<_> = texts
            .map(|parameter| (place(&parameter["in"]), parameter["name"].as_str().unwrap().to_owned()))
            .collect();
        if path == "/api/v1/nodes" {
            named.insert((Place::Query, "label.rack".to_owned()));
        }
        if item.get("get").is_some() {
            found.insert(path.clone(), named);
        }
    }
    found
}

/// How many rows each table has.
async fn row_counts(fixture: &Fixture) -> BTreeMap<String, i64> {
    let url = format!("sqlite://{}?mode=ro", fixture.running.app.config.sqlite_path().display());
    let pool = sqlx::SqlitePool::connect(&url).await.unwrap();
    let tables: Vec<String> = sqlx::query_scalar("SELECT name FROM sqlite_master WHERE type = 'table'")
        .fetch_all(&pool)
        .await
        .unwrap();
    let mut counts = BTreeMap::new();
    for table in tables {
        let mut query = sqlx::QueryBuilder::<sqlx::Sqlite>::new("SELECT COUNT(*) FROM ");
        query.push(&table);
        counts.insert(table, query.build_query_scalar().fetch_one(&pool).await.unwrap());
    }
    pool.close().await;
    counts
}

/// The route with this text in the place of one of its parameters.
fn with_text(base: &str, path: &str, place: Place, name: &str, text: &str) -> Url {
    let mut url = Url::parse(base).unwrap();
    for part in path.split('/').skip(1) {
        let is_it = place == Place::Path && part == format!("{{{name}}}");
        let filled = fill(part);
        url.path_segments_mut().unwrap().push(if is_it { text } else { &filled });
    }
    if place == Place::Query {
        url.query_pairs_mut().append_pair(name, text);
    }
    url
}

/// Asks the router itself, with all its layers: the same as on a socket, without encrypting it 18,000 times.
async fn ask(
    router: &Router,
    token: &str,
    path: &str,
    (place, name): &(Place, String),
    text: &str,
) -> Response {
    let url = with_text("https://localhost", path, *place, name, text);
    let target = url.as_str().trim_start_matches("https://localhost");
    let mut request = Request::get(target)
        .header("host", "localhost")
        .header("authorization", format!("Bearer {token}"))
        .extension(PeerAddress("127.0.0.1".parse().unwrap()));
    if *place == Place::Header {
        // What no client can send is left out.
        if let Ok(value) = HeaderValue::from_bytes(text.as_bytes()) {
            request = request.header(name, value);
        }
    }
    router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn inj_05_300_hostile_texts_in_every_string_parameter_break_and_change_nothing() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    fixture.enrol(&admin, "node-1").await;
    let corpus = Arc::new(corpus());
    assert!(corpus.len() >= 300, "{} texts", corpus.len());
    let routes = parameters();
    assert!(routes.len() > 15 && routes.values().map(BTreeSet::len).sum::<usize>() > 20, "{routes:?}");
    // The event of the enrolment is stored a moment after its answer.
    let stored = async {
        while row_counts(&fixture).await["events"] == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), stored).await.expect("the enrolment's event");
    let (before, recorded) = (row_counts(&fixture).await, fixture.audit().await.len());
    let router = router::build(SharedApp::clone(&fixture.running.app), KnownHosts::new([]));
    let mut asking: JoinSet<()> = JoinSet::new();
    for (path, names) in routes {
        // No more at once than the database has readers: a wait for one would be told as an outage.
        if asking.len() >= 4 {
            asking.join_next().await.unwrap().unwrap();
        }
        let (router, corpus, admin) = (router.clone(), Arc::clone(&corpus), admin.clone());
        asking.spawn(async move {
            for name in &names {
                for text in corpus.iter() {
                    // One that makes the database sleep or work for a minute gets no answer in time, however often it
                    // is asked: 503. A busy machine may be late once.
                    let mut response = ask(&router, &admin, &path, name, text).await;
                    for _ in 0..9 {
                        if response.status() != StatusCode::SERVICE_UNAVAILABLE {
                            break;
                        }
                        response = ask(&router, &admin, &path, name, text).await;
                    }
                    let (status, headers) = (response.status(), response.headers());
                    assert!(!status.is_server_error(), "{path} {name:?} {text:?}: {status}");
                    let injected = headers.contains_key("x-injected") || headers.contains_key("set-cookie");
                    assert!(!injected, "{path} {text:?}");
                }
            }
        });
    }
    while let Some(ended) = asking.join_next().await {
        ended.unwrap();
    }
    let mut after = row_counts(&fixture).await;
    // Refused tokens are recorded; nothing else is.
    let new = fixture.audit().await.split_off(recorded);
    assert!(new.iter().all(|record| record.decision == "denied"), "{new:?}");
    after.insert("audit".to_owned(), before["audit"]);
    assert_eq!(after, before);
    let (status, page) = fixture.call(&admin, "GET", "/api/v1/nodes", None).await;
    assert_eq!((status, page["total"].as_u64()), (StatusCode::OK, Some(1)));
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn inj_02_deep_json_is_refused_by_every_route_that_takes_a_body() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    let document = serde_json::to_value(router::routes().1).unwrap();
    let mut tried = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            if operation.get("requestBody").is_none() {
                continue;
            }
            tried += 1;
            for levels in [33, 100_000] {
                let body = format!("{{\"x\":{}{}}}", "[".repeat(levels - 1), "]".repeat(levels - 1));
                let path = fill(path).replace("/4242424242", "/7");
                let request = fixture.request(&method.to_uppercase(), &path).bearer_auth(&admin);
                let (status, problem) =
                    answer(request.header("content-type", "application/json").body(body)).await;
                let told = problem["detail"].as_str().unwrap_or_default().to_owned();
                assert_eq!(status, StatusCode::BAD_REQUEST, "{method} {path}: {problem}");
                assert!(told.contains("at most 32 deep"), "{method} {path}: {told}");
            }
        }
    }
    assert!(tried >= 10, "{tried} routes take a body");
    // One level less is refused for what it says, and not for its depth.
    let body = format!("{{\"x\":{}{}}}", "[".repeat(31), "]".repeat(31));
    let request = fixture.request("POST", "/api/v1/users").bearer_auth(&admin);
    let (status, problem) = answer(request.header("content-type", "application/json").body(body)).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(!problem.to_string().contains("deep"), "{problem}");
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn inj_07_a_file_that_is_asked_for_has_a_plain_known_name() {
    let fixture = Fixture::start().await;
    let long = "a".repeat(129);
    for name in [
        "..",
        ".",
        "../start.js",
        "..\\start.js",
        "/etc/passwd",
        "%2e%2e%2fstart.js",
        "%252e%252e%252fetc",
        "start.js\u{0}",
        "start.js%00",
        "ｓtart.js",
        "start.js/",
        "C:\\start.js",
        "./start.js",
        "viewer/start.js",
        &long,
        "index.html",
    ] {
        let url = with_text(&fixture.base, "/viewer/{file}", Place::Path, "file", name);
        let response = fixture.client.get(url.clone()).send().await.unwrap();
        // A dot alone never arrives: the URL of such a name is that of its folder.
        assert_eq!(response.status(), StatusCode::NOT_FOUND, "{url}");
    }
    let known = fixture.request("GET", "/viewer/start.js").send().await.unwrap();
    assert_eq!(known.status(), StatusCode::OK);
    fixture.stop().await;
}

/// What a handler writes back of a request is data, never a header or another answer.
#[tokio::test(flavor = "multi_thread")]
async fn inj_10_a_line_break_in_a_request_makes_no_header_of_the_answer() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    for break_ in ["\r\n", "\n", "\r", "%0d%0a", "\u{0}"] {
        let text = format!("a{break_}X-Injected: 1");
        for (path, name) in
            [("/api/v1/nodes/{node}", "node"), ("/viewer/{file}", "file"), ("/api/v1/nodes", "sort")]
        {
            let place = if path.contains('{') { Place::Path } else { Place::Query };
            let url = with_text(&fixture.base, path, place, name, &text);
            let response = fixture.client.get(url).bearer_auth(&admin).send().await.unwrap();
            assert!(response.status().is_client_error(), "{path}: {}", response.status());
            assert!(!response.headers().contains_key("x-injected"), "{path}: {:?}", response.headers());
        }
        let body = serde_json::json!({"username": text, "password": text});
        let response = fixture.request("POST", "/api/v1/auth/login").json(&body).send().await.unwrap();
        assert!(response.status().is_client_error());
        let names: Vec<String> = response.headers().keys().map(ToString::to_string).collect();
        assert!(!names.iter().any(|name| name == "x-injected" || name == "set-cookie"), "{names:?}");
        let _: Value = response.json().await.unwrap();
    }
    fixture.stop().await;
}
