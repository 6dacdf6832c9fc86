//! What a forged token costs, counted by the allocator itself. One test, so that nothing else allocates.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::alloc::System;
use std::time::Duration;

use aim_common::api::auth::{LoginMode, LoginRequest};
use aim_coordinator::auth::{Origin, Outage};
use aim_coordinator::config::Config;
use aim_coordinator::serve;
use http::{HeaderMap, HeaderValue, Method, header};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static COUNTED: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// The statement's bounds.
const TIME: Duration = Duration::from_millis(1);
const BYTES: usize = 64 * 1024;
/// Tries of each; tasks in the background allocate and take time now and then.
const TRIES: usize = 21;

/// Everything that a thief or a forger makes of a good token.
fn forgeries(token: &str) -> Vec<(&'static str, String)> {
    let parts: Vec<&str> = token.split('.').collect();
    let [head, claims, signature] = parts[..] else { unreachable!("a token has three parts") };
    let flipped = |part: &str| {
        let mut bytes = part.as_bytes().to_vec();
        bytes[10] = if bytes[10] == b'A' { b'B' } else { b'A' };
        String::from_utf8(bytes).unwrap()
    };
    let million = "A".repeat(1_000_000);
    // {"alg":"none","alg":"ES256"} and its like, in base64.
    let doubled = "eyJ0eXAiOiJKV1QiLCJhbGciOiJub25lIiwiYWxnIjoiRVMyNTYiLCJraWQiOiJ4In0";
    vec![
        ("the signature stripped", format!("{head}.{claims}.")),
        ("the signature left out", format!("{head}.{claims}")),
        ("cut in the signature", token[..token.len() - 7].to_owned()),
        ("cut in the claims", format!("{head}.{}", &claims[..20])),
        ("a bit of the header", format!("{}.{claims}.{signature}", flipped(head))),
        ("a bit of the claims", format!("{head}.{}.{signature}", flipped(claims))),
        ("a bit of the signature", format!("{head}.{claims}.{}", flipped(signature))),
        ("a key twice", format!("{doubled}.{claims}.{signature}")),
        ("a header of 1 MB", format!("{million}.{claims}.{signature}")),
        ("claims of 1 MB", format!("{head}.{million}.{signature}")),
        ("a signature of 1 MB", format!("{head}.{claims}.{million}")),
        ("a million dots", ".".repeat(1_000_000)),
    ]
}

#[tokio::test]
async fn aut_03_a_forged_token_costs_less_than_a_millisecond_and_64_kib() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = Config { state_dir: directory.path().join("state"), ..Config::default() };
    config.https.listen = "127.0.0.1:0".parse().unwrap();
    config.link.listen = "127.0.0.1:0".parse().unwrap();
    config.auth.initial_password_file = Some(directory.path().join("password"));
    let running = serve::start(config).await.unwrap();
    let auth = &running.app.auth;
    let password = std::fs::read_to_string(directory.path().join("password")).unwrap().trim().to_owned();
    let request = LoginRequest { username: "admin".to_owned(), password, mode: LoginMode::Bearer };
    let origin = Origin { source: "127.0.0.1".to_owned(), request_id: String::new() };
    let opened = auth.login(request, &origin).await.unwrap();
    let headers = |token: &str| {
        let value = HeaderValue::from_str(&format!("Bearer {token}")).unwrap();
        HeaderMap::from_iter([(header::AUTHORIZATION, value)])
    };
    let good = headers(&opened.access);
    assert!(auth.authenticate(&Method::GET, &good, Outage::Refuse).await.is_ok());
    for (what, token) in forgeries(&opened.access) {
        let headers = headers(&token);
        let (mut times, mut bytes) = (Vec::new(), Vec::new());
        for _ in 0..TRIES {
            let (counted, begun) = (Region::new(COUNTED), running.app.clock.monotonic());
            let judged = auth.authenticate(&Method::GET, &headers, Outage::Refuse).await;
            times.push(running.app.clock.monotonic().saturating_sub(begun));
            bytes.push(counted.change().bytes_allocated);
            assert!(judged.is_err(), "{what} is accepted");
        }
        times.sort_unstable();
        bytes.sort_unstable();
        let (time, bytes) = (times[TRIES / 2], bytes[TRIES / 2]);
        assert!(time < TIME && bytes < BYTES, "{what}: {time:?}, {bytes} bytes");
    }
    running.shutdown().await;
}
