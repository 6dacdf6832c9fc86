//! What every answer carries, and what no request gets: groups API, WEB, INJ.

use reqwest::StatusCode;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};

use crate::access::{fill, rows};
use crate::support::{Fixture, answer};

fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).map_or("", |value| value.to_str().unwrap())
}

/// HTTP/1.1, where the `Host` header is the client's own.
fn http1_client(fixture: &Fixture) -> reqwest::Client {
    let roots = fixture.running.app.keyvault.ca().bundle_pem();
    reqwest::Client::builder()
        .tls_certs_only(reqwest::Certificate::from_pem_bundle(roots.as_bytes()).unwrap())
        .resolve("localhost", fixture.running.https_addr)
        .http1_only()
        .build()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn web_01_every_answer_has_its_security_headers_and_pages_run_no_inline_code() {
    let fixture = Fixture::start().await;
    let paths = [
        "/",
        "/viewer/start.js",
        "/viewer/swagger-ui-bundle.js",
        "/viewer/swagger-ui.css",
        "/healthz",
        "/api/v1/openapi.json",
        "/api/v1/users",
        "/nowhere",
        "/viewer/nowhere",
    ];
    for path in paths {
        let response = fixture.request("GET", path).send().await.unwrap();
        let headers = response.headers().clone();
        let policy = header(&headers, "content-security-policy").to_owned();
        assert!(
            policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"),
            "{path}: {policy}"
        );
        assert!(!policy.contains("unsafe-inline") && !policy.contains("unsafe-eval"), "{path}: {policy}");
        assert_eq!(header(&headers, "x-content-type-options"), "nosniff", "{path}");
        assert_eq!(header(&headers, "referrer-policy"), "no-referrer", "{path}");
        assert!(header(&headers, "strict-transport-security").starts_with("max-age="), "{path}");
        assert_eq!(header(&headers, "x-request-id").len(), 16, "{path}");
        if path == "/" {
            let page = response.text().await.unwrap();
            assert!(page.contains("/viewer/start.js"));
            assert!(!page.contains("<style") && !page.contains("onload="), "{page}");
            assert!(!page.split("<script").skip(1).any(|tag| !tag.starts_with(" src=")), "{page}");
        }
    }
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn web_04_the_viewer_asks_no_other_host() {
    let fixture = Fixture::start().await;
    let page = fixture.request("GET", "/").send().await.unwrap().text().await.unwrap();
    let asked = page.split("src=\"").chain(page.split("href=\"")).skip(1);
    for target in asked.filter_map(|rest| rest.split('"').next()).filter(|target| !target.contains('<')) {
        let status = fixture.request("GET", target).send().await.unwrap().status();
        assert!(target.starts_with('/') && status == StatusCode::OK, "{target}: {status}");
    }
    let start = fixture.request("GET", "/viewer/start.js").send().await.unwrap().text().await.unwrap();
    assert!(!start.contains("://"), "{start}");
    let style = fixture.request("GET", "/viewer/swagger-ui.css").send().await.unwrap();
    assert!(!style.text().await.unwrap().contains("@import"));
    // Whatever the bundle would like to load: the policy names this origin and nothing else, for every sort.
    for path in ["/", "/viewer/start.js", "/viewer/swagger-ui-bundle.js", "/viewer/swagger-ui.css"] {
        let response = fixture.request("GET", path).send().await.unwrap();
        let policy = header(response.headers(), "content-security-policy").to_owned();
        let allowed = policy.split(';').flat_map(|rule| rule.split_whitespace().skip(1));
        for source in allowed {
            assert!(["'none'", "'self'", "data:"].contains(&source), "{path}: {source} in {policy}");
        }
    }
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn web_06_answers_with_secrets_are_not_stored() {
    let fixture = Fixture::start().await;
    let body = json!({"username": "admin", "password": fixture.admin_password});
    let response = fixture.request("POST", "/api/v1/auth/login").json(&body).send().await.unwrap();
    assert_eq!(header(response.headers(), "cache-control"), "no-store");
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn api_04_every_refusal_is_a_problem_with_code_and_request_id_and_nothing_internal() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    let mut answers = Vec::new();
    for row in rows() {
        for token in [None, Some(&admin)] {
            for body in [None, Some("{"), Some("[]"), Some("\"' OR 1=1 --\"")] {
                if row.path == "/api/v1/auth/logout" {
                    continue;
                }
                let mut request = fixture.request(row.method.as_str(), &fill(row.path));
                if let Some(token) = token {
                    request = request.bearer_auth(token);
                }
                if let Some(body) = body {
                    request = request.header("content-type", "application/json").body(body);
                }
                let response = request.send().await.unwrap();
                if response.status().is_client_error() || response.status().is_server_error() {
                    answers.push((format!("{} {}", row.method, row.path), response));
                }
            }
        }
    }
    assert!(answers.len() > 40);
    for (route, response) in answers {
        let (status, kind) = (response.status(), header(response.headers(), "content-type").to_owned());
        let id = header(response.headers(), "x-request-id").to_owned();
        assert!(status.is_client_error() || status == StatusCode::SERVICE_UNAVAILABLE, "{route}: {status}");
        assert_eq!(kind, "application/problem+json", "{route}: {status}");
        let problem: Value = response.json().await.unwrap();
        assert_eq!(problem["request_id"], json!(id), "{route}: {problem}");
        assert!(problem["code"].as_str().is_some_and(|code| !code.is_empty()), "{route}: {problem}");
        let text = problem.to_string();
        for internal in
            ["sqlx", "SELECT", "INSERT", "panicked", "src/", ".rs:", "stack backtrace", "/root/", "/home/"]
        {
            assert!(!text.contains(internal), "{route} tells {internal}: {text}");
        }
    }
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn api_05_no_origin_is_given_leave_to_read() {
    let fixture = Fixture::start().await;
    for origin in ["https://evil.example.org", "null", "https://localhost"] {
        for (method, path) in
            [("GET", "/api/v1/version"), ("OPTIONS", "/api/v1/users"), ("POST", "/api/v1/auth/login")]
        {
            let request = fixture.request(method, path).header("origin", origin);
            let response = request.header("access-control-request-method", "POST").send().await.unwrap();
            let allowed = response.headers().keys().any(|name| name.as_str().starts_with("access-control-"));
            assert!(!allowed, "{method} {path} from {origin}");
        }
    }
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn api_09_an_unknown_host_is_refused_before_anything_else() {
    let fixture =
        Fixture::start_with(|config| config.https.public_names = vec!["aim.example.org".into()]).await;
    for (host, expected) in [
        ("localhost", StatusCode::OK),
        ("aim.example.org", StatusCode::OK),
        ("127.0.0.1", StatusCode::OK),
        ("coordinator.aim.internal", StatusCode::OK),
        ("evil.example.org", StatusCode::MISDIRECTED_REQUEST),
        ("aim.example.org.evil.org", StatusCode::MISDIRECTED_REQUEST),
        ("10.0.0.9", StatusCode::MISDIRECTED_REQUEST),
    ] {
        let client = http1_client(&fixture);
        let request = client.get(format!("{}/api/v1/version", fixture.base)).header("host", host);
        let (status, body) = answer(request).await;
        assert_eq!(status, expected, "{host}: {body}");
        assert!(!body.to_string().contains("evil"), "{body}");
    }
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn api_08_forwarded_headers_of_a_stranger_change_nothing() {
    let fixture = Fixture::start().await;
    let body = json!({"username": "admin", "password": "a wrong password"});
    let request = fixture.request("POST", "/api/v1/auth/login").json(&body);
    answer(request.header("x-forwarded-for", "6.6.6.6").header("forwarded", "for=6.6.6.6")).await;
    let records = fixture.audit().await;
    let login = records.iter().find(|record| record.action == "login").unwrap();
    assert_eq!(login.source, "127.0.0.1");
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn api_03_a_session_that_asks_too_fast_is_told_to_wait() {
    let fixture = Fixture::start_with(|config| config.https.rates.session_per_second = 1).await;
    let admin = fixture.admin().await;
    let other = fixture.admin().await;
    let mut refused = None;
    for _ in 0..50 {
        let response =
            fixture.request("GET", "/api/v1/auth/session").bearer_auth(&admin).send().await.unwrap();
        if response.status() == StatusCode::TOO_MANY_REQUESTS {
            refused = Some(header(response.headers(), "retry-after").parse::<u64>().unwrap());
            break;
        }
    }
    assert!(refused.is_some_and(|seconds| seconds >= 1));
    assert_eq!(fixture.call(&other, "GET", "/api/v1/auth/session", None).await.0, StatusCode::OK);
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn api_03_one_address_and_all_together_have_their_rates_whatever_they_claim_to_be() {
    for of_address in [true, false] {
        let fixture = Fixture::start_with(|config| {
            let rates = &mut config.https.rates;
            *(if of_address { &mut rates.address_per_second } else { &mut rates.global_per_second }) = 1;
        })
        .await;
        let mut waits = Vec::new();
        for n in 0..50 {
            // API-08: nobody is somebody else by saying so.
            let request = fixture.request("GET", "/healthz").header("x-forwarded-for", format!("10.0.0.{n}"));
            let response = request.header("forwarded", format!("for=10.0.1.{n}")).send().await.unwrap();
            if response.status() == StatusCode::TOO_MANY_REQUESTS {
                waits.push(header(response.headers(), "retry-after").parse::<u64>().unwrap());
            }
        }
        assert!(waits.len() > 25, "five seconds' worth at once and no more: {waits:?}");
        assert!(waits.iter().all(|seconds| *seconds == 1), "{waits:?}");
        fixture.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn api_03_exports_have_a_rate_of_their_own() {
    let fixture = Fixture::start_with(|config| config.https.rates.exports_per_second = 1).await;
    let admin = fixture.admin().await;
    let other = fixture.admin().await;
    for path in ["/api/v1/nodes?all=true", "/api/v1/audit/verify"] {
        let mut refused = 0;
        for _ in 0..20 {
            let response = fixture.request("GET", path).bearer_auth(&admin).send().await.unwrap();
            if response.status() == StatusCode::TOO_MANY_REQUESTS {
                assert!(header(response.headers(), "retry-after").parse::<u64>().unwrap() >= 1, "{path}");
                refused += 1;
            }
        }
        assert!(refused > 0, "{path}");
        assert_eq!(
            fixture.call(&admin, "GET", "/api/v1/nodes", None).await.0,
            StatusCode::OK,
            "a page is none"
        );
    }
    assert_eq!(fixture.call(&other, "GET", "/api/v1/nodes?all=true", None).await.0, StatusCode::OK);
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn api_08_a_proxy_line_of_a_stranger_is_no_handshake() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let fixture = Fixture::start().await;
    let mut stream = tokio::net::TcpStream::connect(fixture.running.https_addr).await.unwrap();
    stream.write_all(b"PROXY TCP4 6.6.6.6 127.0.0.1 4242 8443\r\n").await.unwrap();
    let mut said = Vec::new();
    let ended = tokio::time::timeout(std::time::Duration::from_secs(5), stream.read_to_end(&mut said)).await;
    assert!(ended.is_ok(), "it is refused at once");
    assert!(!said.starts_with(&[22]), "no ServerHello: {said:?}");
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn api_09_what_is_generated_holds_configured_names_and_never_the_requests_host() {
    let fixture =
        Fixture::start_with(|config| config.https.public_names = vec!["aim.example.org".into()]).await;
    let admin = fixture.admin().await;
    let url = format!("{}/api/keyvault/agent/generate-token", fixture.base);
    let request = http1_client(&fixture).post(url).bearer_auth(&admin).json(&json!({"node": "gpu1"}));
    let (status, token) = answer(request.header("host", "127.0.0.1")).await;
    assert_eq!(status, StatusCode::OK, "{token}");
    let join: aim_common::enrolment::JoinString = token["join"].as_str().unwrap().parse().unwrap();
    assert!(
        join.addresses.iter().any(|address| address.starts_with("aim.example.org:")),
        "{:?}",
        join.addresses
    );
    assert!(!join.addresses.iter().any(|address| address.contains("127.0.0.1")), "{:?}", join.addresses);
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn api_01_bodies_and_headers_at_their_limits_are_taken() {
    let fixture = Fixture::start().await;
    let mut body = json!({"username": "admin", "password": fixture.admin_password}).to_string().into_bytes();
    body.resize(1024 * 1024, b' ');
    let request = fixture.request("POST", "/api/v1/auth/login").header("content-type", "application/json");
    assert_eq!(answer(request.body(body.clone())).await.0, StatusCode::OK, "1 MiB");
    body.push(b' ');
    // Without a length, so that it is counted as it comes.
    let chunks: Vec<Result<Vec<u8>, std::io::Error>> =
        body.chunks(64 * 1024).map(|part| Ok(part.to_vec())).collect();
    let streamed = reqwest::Body::wrap_stream(futures_util::stream::iter(chunks));
    let request = fixture.request("POST", "/api/v1/auth/login").header("content-type", "application/json");
    assert_eq!(answer(request.body(streamed)).await.0, StatusCode::PAYLOAD_TOO_LARGE, "1 MiB and a byte");
    // The client adds a few headers of its own.
    let some = (0..95)
        .fold(fixture.request("GET", "/healthz"), |request, n| request.header(format!("x-header-{n}"), "1"));
    assert_eq!(answer(some).await.0, StatusCode::OK);
    let long = fixture.request("GET", "/healthz").header("x-long", "a".repeat(15_000));
    assert_eq!(answer(long).await.0, StatusCode::OK);
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn api_01_too_large_bodies_and_headers_are_refused() {
    let fixture = Fixture::start().await;
    let large = vec![b' '; 1024 * 1024 + 1];
    let request = fixture.request("POST", "/api/v1/auth/login").header("content-type", "application/json");
    assert_eq!(answer(request.body(large)).await.0, StatusCode::PAYLOAD_TOO_LARGE);

    let mut many = fixture.request("GET", "/healthz");
    for n in 0..101 {
        many = many.header(format!("x-header-{n}"), "1");
    }
    assert_eq!(answer(many).await.0, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    let long = fixture
        .request("GET", "/healthz")
        .header("x-long", "a".repeat(12_000))
        .header("y", "b".repeat(5_000));
    let refused = long.send().await;
    assert!(
        refused.is_err() || refused.is_ok_and(|r| r.status() == StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE)
    );
    assert_eq!(answer(fixture.request("GET", "/healthz")).await.0, StatusCode::OK);
    fixture.stop().await;
}
