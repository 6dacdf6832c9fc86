//! Clients that send nothing, or half of something: each is cut on time (API-01).

use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::support::Fixture;

/// What the statement says, and as much again for a slow machine.
const HEADER: Duration = Duration::from_secs(10 + 10);

pub(crate) async fn tls(fixture: &Fixture, protocol: &[u8]) -> tokio_rustls::client::TlsStream<TcpStream> {
    let roots = fixture.running.app.keyvault.ca().root_store().unwrap();
    let mut config = rustls::ClientConfig::builder_with_provider(aim_common::tls::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    let tcp = TcpStream::connect(fixture.running.https_addr).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, tcp).await.unwrap()
}

/// The server ends the connection within the time; what it said before.
async fn cut(what: &str, mut stream: impl tokio::io::AsyncRead + Unpin, within: Duration) -> String {
    let mut said = Vec::new();
    let ended = tokio::time::timeout(within, async {
        let mut buffer = [0; 4096];
        // An error is an end too: a reset, or TLS without its goodbye.
        while let Ok(count @ 1..) = stream.read(&mut buffer).await {
            said.extend_from_slice(&buffer[..count]);
        }
    });
    assert!(ended.await.is_ok(), "{what} was still open after {within:?}");
    String::from_utf8_lossy(&said).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn api_01_every_kind_of_slow_start_is_cut_on_time_and_good_clients_are_served_meanwhile() {
    let fixture = Fixture::start().await;
    let address = fixture.running.https_addr;
    let silent = async { cut("no byte", TcpStream::connect(address).await.unwrap(), HEADER).await };
    let half_handshake = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(&[22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3]).await.unwrap();
        cut("half a TLS handshake", stream, HEADER).await
    };
    let after_handshake = async { cut("TLS and no byte", tls(&fixture, b"http/1.1").await, HEADER).await };
    let half_header = async {
        let mut stream = tls(&fixture, b"http/1.1").await;
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Slow: ").await.unwrap();
        cut("half a header", stream, HEADER).await
    };
    let half_preface = async {
        let mut stream = tls(&fixture, b"h2").await;
        stream.write_all(b"PRI * HTTP/2.0\r\n").await.unwrap();
        cut("half an HTTP/2 preface", stream, HEADER).await
    };
    let no_request = async {
        let mut stream = tls(&fixture, b"h2").await;
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
        cut("an HTTP/2 preface and no request", stream, HEADER).await
    };
    let good = async {
        for _ in 0..20 {
            let response = fixture.request("GET", "/healthz").send().await.unwrap();
            assert!(response.status().is_success());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::join!(silent, half_handshake, after_handshake, half_header, half_preface, no_request, good);
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn api_01_one_address_has_a_hundred_connections_and_no_more() {
    let fixture = Fixture::start().await;
    let mut held = Vec::new();
    for _ in 0..100 {
        held.push(TcpStream::connect(fixture.running.https_addr).await.unwrap());
    }
    let extra = TcpStream::connect(fixture.running.https_addr).await.unwrap();
    cut("the 101st connection", extra, Duration::from_secs(5)).await;
    drop(held);
    // The places come back.
    let deadline = fixture.running.app.clock.monotonic() + Duration::from_secs(10);
    while fixture.request("GET", "/healthz").send().await.is_err() {
        assert!(
            fixture.running.app.clock.monotonic() < deadline,
            "places of closed connections did not come back"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn enr_20_an_enrolment_that_is_slow_at_every_step_is_cut_ten_seconds_after_it_was_accepted() {
    let fixture = Fixture::start().await;
    let mut stream = tls(&fixture, b"http/1.1").await;
    // The client takes most of its time before its header, which alone would be in time, like its body.
    tokio::time::sleep(Duration::from_secs(7)).await;
    let head = "POST /api/keyvault/agent/enroll HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                Content-Length: 100\r\n\r\n{\"t";
    stream.write_all(head.as_bytes()).await.unwrap();
    let said = cut("a slow enrolment", stream, Duration::from_secs(10 - 7 + 4)).await;
    assert!(said.starts_with("HTTP/1.1 408"), "{said}");
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn api_10_a_connection_with_too_many_resets_is_closed() {
    let fixture = Fixture::start().await;
    let stream = tls(&fixture, b"h2").await;
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    for n in 0..2_000_u32 {
        let id = (2 * n + 1).to_be_bytes();
        // HEADERS with END_STREAM and END_HEADERS: GET, https, /healthz, authority localhost.
        let block = [&[0x82, 0x87, 0x04, 8][..], b"/healthz", &[0x01, 9], b"localhost"].concat();
        bytes.extend_from_slice(&[0, 0, u8::try_from(block.len()).unwrap(), 1, 5]);
        bytes.extend_from_slice(&id);
        bytes.extend_from_slice(&block);
        // RST_STREAM, CANCEL.
        bytes.extend_from_slice(&[0, 0, 4, 3, 0]);
        bytes.extend_from_slice(&id);
        bytes.extend_from_slice(&[0, 0, 0, 8]);
    }
    let (reader, mut writer) = tokio::io::split(stream);
    // The server may close before everything is written.
    let _ = writer.write_all(&bytes).await;
    cut("a connection of rapid resets", reader, Duration::from_secs(5)).await;
    assert!(fixture.request("GET", "/healthz").send().await.unwrap().status().is_success());
    fixture.stop().await;
}
