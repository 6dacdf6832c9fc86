//! HTTP/2 frames that no honest client writes: none of them reaches a handler past its check (RBA-08).

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::slow_clients::tls;
use crate::support::Fixture;

const HEADERS: u8 = 1;
const END_OF_STREAM_AND_HEADERS: u8 = 5;
/// `:status: 200`, from HPACK's static table.
const OK: u8 = 0x88;

/// A header block of literals that enter no table; every text is shorter than 127 bytes or written with a longer length.
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let text = |text: &str| {
        let length = text.len();
        let mut bytes = match u8::try_from(length) {
            Ok(short) if short < 127 => vec![short],
            _ => {
                let mut rest = length - 127;
                let mut bytes = vec![127];
                while rest >= 128 {
                    bytes.push(u8::try_from(rest % 128).unwrap() + 128);
                    rest /= 128;
                }
                bytes.push(u8::try_from(rest).unwrap());
                bytes
            }
        };
        bytes.extend_from_slice(text.as_bytes());
        bytes
    };
    fields.iter().flat_map(|(name, value)| [vec![0], text(name), text(value)].concat()).collect()
}

/// The first byte of the answer's header block; none where the stream or the connection was refused.
async fn asked(fixture: &Fixture, fields: &[(&str, &str)]) -> Option<u8> {
    let mut stream = tls(fixture, b"h2").await;
    let block = block(fields);
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    bytes.extend_from_slice(&u32::try_from(block.len()).unwrap().to_be_bytes()[1..]);
    bytes.extend_from_slice(&[HEADERS, END_OF_STREAM_AND_HEADERS, 0, 0, 0, 1]);
    bytes.extend_from_slice(&block);
    stream.write_all(&bytes).await.unwrap();
    let answer = async {
        loop {
            let mut head = [0; 9];
            stream.read_exact(&mut head).await.ok()?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; usize::try_from(length).unwrap()];
            stream.read_exact(&mut payload).await.ok()?;
            match head[3] {
                HEADERS => return payload.first().copied(),
                // RST_STREAM and GOAWAY.
                3 | 7 => return None,
                _ => {}
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), answer).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn rba_08_no_trick_with_pseudo_headers_reaches_a_handler() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    // Bob may not read nodes, and the route's own check is all that says so.
    let body = serde_json::json!({"permissions": ["users:read:*"]});
    fixture.call(&admin, "PUT", "/api/v1/roles/other", Some(body)).await;
    let bob = fixture.user(&admin, "bob", &["other"]).await;
    let (admin, bob) = (format!("Bearer {admin}"), format!("Bearer {bob}"));
    let usual = |path: &'static str| {
        [(":method", "GET"), (":scheme", "https"), (":authority", "localhost"), (":path", path)]
    };
    let with = |path, more: &[(&'static str, &str)]| -> Vec<(String, String)> {
        usual(path)
            .iter()
            .chain(more)
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    };
    let ask = async |fields: Vec<(String, String)>| {
        let fields: Vec<(&str, &str)> =
            fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        asked(&fixture, &fields).await
    };
    let nodes = "/api/v1/nodes";
    let authorization =
        |value: &str| -> Vec<(String, String)> { vec![("authorization".to_owned(), value.to_owned())] };
    let plain = |path, who: &str| [with(path, &[]), authorization(who)].concat();
    assert_eq!(ask(plain(nodes, &admin)).await, Some(OK), "who may, reaches it this way");
    assert_eq!(ask(plain("/healthz", &bob)).await, Some(OK));
    let second = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
    let tricks = [
        plain(nodes, &bob),
        [with("/healthz", &[]), second(":path", nodes), authorization(&bob)].concat(),
        [with(nodes, &[]), second(":path", "/healthz"), authorization(&bob)].concat(),
        [with(nodes, &[]), second(":method", "OPTIONS"), authorization(&bob)].concat(),
        [authorization(&bob), with(nodes, &[])].concat(),
        [with(nodes, &[]), authorization(&bob), second(":scheme", "http")].concat(),
        [with(nodes, &[]), authorization(&bob), second("host", "evil.example.org")].concat(),
        [with(nodes, &[]), authorization(&bob), authorization(&admin)].concat(),
        [with(nodes, &[]), second("Authorization", &admin)].concat(),
        [with(nodes, &[]), authorization(&bob), second("transfer-encoding", "chunked")].concat(),
        [with(nodes, &[]), authorization(&bob), second("connection", "authorization")].concat(),
        [with(nodes, &[]), authorization(&bob), second(":protocol", "websocket")].concat(),
        [with(nodes, &[]), authorization(&bob), second(":user", "admin")].concat(),
        plain("https://localhost/api/v1/nodes", &bob),
        plain("api/v1/nodes", &bob),
        plain("*", &bob),
        plain("", &bob),
        plain("/healthz/../api/v1/nodes", &bob),
        plain("/healthz#/api/v1/nodes", "none"),
    ];
    for fields in tricks {
        let answered = ask(fields.clone()).await;
        // A fragment is cut off by the rules of URIs: what is left is the health check.
        let is_health = fields.iter().any(|(name, value)| name == ":path" && value.starts_with("/healthz#"));
        assert!(answered != Some(OK) || is_health, "{fields:?}");
    }
    fixture.stop().await;
}
