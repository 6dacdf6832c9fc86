//! Start and stop: what is wrong is said with its place and exit code 78; a dead task ends the process.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use aim_coordinator::api::layers::guard::AccessTable;
use aim_coordinator::api::layers::host::KnownHosts;
use aim_coordinator::api::peer::PeerAddress;
use aim_coordinator::api::{access, router};
use aim_coordinator::app::SharedApp;
use aim_coordinator::serve;

use crate::support::{Fixture, client, config};

fn coordinator(file: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_aim-coordinator"))
        .arg("--config")
        .arg(file)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn error_of(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(78), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn configuration_faults_name_file_and_line_and_end_with_78() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("coordinator.toml");
    for (text, line, word) in [
        ("[https]\nlisten = \"[::]:8443\"\nlisen = \"x\"\n", 3, "listen"),
        ("[https]\nlisten = 5\n", 2, "socket address"),
        ("state_dir = \"/x\"\n[https\n", 2, ""),
        ("[keyvault]\ntrust_domain = \"a/b\"\n", 2, ""),
    ] {
        std::fs::write(&file, text).unwrap();
        let error = error_of(&coordinator(&file, &["config", "check"]));
        assert!(error.contains(&format!("coordinator.toml:{line}")), "{text}: {error}");
        assert!(error.contains(word), "{text}: {error}");
    }
    for text in ["[https]\nplain_listen = \"0.0.0.0:80\"\n", "[auth]\nsession_hours = 0\n"] {
        std::fs::write(&file, text).unwrap();
        assert!(error_of(&coordinator(&file, &["config", "check"])).contains("coordinator.toml"));
    }
    assert!(
        error_of(&coordinator(&directory.path().join("missing.toml"), &["serve"])).contains("missing.toml")
    );
    std::fs::write(&file, "").unwrap();
    assert_eq!(coordinator(&file, &["config", "check"]).status.code(), Some(0));
    let defaults = coordinator(&file, &["--print-default-config"]).stdout;
    std::fs::write(&file, defaults).unwrap();
    assert_eq!(
        coordinator(&file, &["config", "check"]).status.code(),
        Some(0),
        "the printed defaults are usable"
    );
}

#[test]
fn a_taken_port_an_open_state_directory_and_a_damaged_database_end_with_78() {
    let directory = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let file = directory.path().join("coordinator.toml");
    let state = directory.path().join("state");
    let text_of = |state: &str| {
        format!(
            "state_dir = \"{state}\"\n[https]\nlisten = \"127.0.0.1:0\"\n[link]\nlisten = \"127.0.0.1:0\"\n"
        )
    };
    let write = |https: &str| {
        let text = format!(
            "state_dir = \"{}\"\n[https]\nlisten = \"{https}\"\n[link]\nlisten = \"127.0.0.1:0\"\n",
            state.display()
        );
        std::fs::write(&file, text).unwrap();
    };
    write(&taken.local_addr().unwrap().to_string());
    assert!(error_of(&coordinator(&file, &["serve"])).contains("https.listen"));

    write("127.0.0.1:0");
    std::fs::set_permissions(&state, std::fs::Permissions::from_mode(0o755)).unwrap();
    assert!(error_of(&coordinator(&file, &["serve"])).contains("chmod 700"));
    std::fs::set_permissions(&state, std::fs::Permissions::from_mode(0o700)).unwrap();
    let unwritable = text_of("/proc/aim-state");
    std::fs::write(&file, unwritable).unwrap();
    assert!(error_of(&coordinator(&file, &["serve"])).contains("/proc/aim-state"));

    write("127.0.0.1:0");
    std::fs::write(state.join("coordinator.db"), b"this is no database, whatever its name says".repeat(100))
        .unwrap();
    assert!(error_of(&coordinator(&file, &["serve"])).contains("coordinator.db"));
}

#[test]
fn serve_stops_cleanly_on_sigterm_and_finds_its_state_again() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("coordinator.toml");
    let state = directory.path().join("state");
    let text = format!(
        "state_dir = \"{}\"\n[https]\nlisten = \"127.0.0.1:0\"\n[link]\nlisten = \"127.0.0.1:0\"\n",
        state.display()
    );
    std::fs::write(&file, text).unwrap();
    let mut passwords = Vec::new();
    for _ in 0..2 {
        let mut child = Command::new(env!("CARGO_BIN_EXE_aim-coordinator"))
            .args(["--config", file.to_str().unwrap(), "serve"])
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = child.stderr.take().unwrap();
        let lines = std::io::BufRead::lines(std::io::BufReader::new(stderr));
        let up = lines.map_while(Result::ok).find(|line| line.contains("the coordinator is up"));
        assert!(up.is_some(), "it never came up");
        rustix::process::kill_process(
            rustix::process::Pid::from_child(&child),
            rustix::process::Signal::TERM,
        )
        .unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0));
        passwords.push(std::fs::read_to_string(state.join("initial-admin-password")).unwrap());
    }
    assert_eq!(passwords[0], passwords[1], "the second start makes no second admin");
}

#[tokio::test(flavor = "multi_thread")]
async fn sup_05_each_task_that_dies_ends_the_coordinator_by_name() {
    let names: Vec<&str> = {
        let fixture = Fixture::start().await;
        let names = fixture.running.tasks.handles().map(|(name, _)| name).collect();
        fixture.stop().await;
        names
    };
    assert!(names.contains(&"https"));
    for name in names {
        let mut fixture = Fixture::start().await;
        let (_, handle) = fixture.running.tasks.handles().find(|(known, _)| *known == name).unwrap();
        handle.abort();
        let died = tokio::time::timeout(Duration::from_secs(5), fixture.running.first_death()).await.unwrap();
        assert_eq!(died.name, name);
        fixture.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn qui_14_a_dead_endpoint_ends_the_coordinator_within_5_s() {
    let mut fixture = Fixture::start().await;
    let (_, link) = fixture.running.tasks.handles().find(|(name, _)| *name == "link").unwrap();
    link.abort();
    let whole = async {
        let died = fixture.running.first_death().await;
        assert!(died.name == "link" && died.to_string().contains("the process ends"), "{died}");
        fixture.stop().await
    };
    // The main function ends the process with 70 then, or after 4 s of waiting for the others.
    drop(tokio::time::timeout(Duration::from_secs(5), whole).await.expect("within 5 s"));
}

#[tokio::test(flavor = "multi_thread")]
async fn sup_05_a_handler_that_panics_costs_its_own_request_only() {
    use axum::routing::get;
    use tower::ServiceExt;
    let fixture = Fixture::start().await;
    let routes = axum::Router::new()
        .route("/panics", get(|| async { if true { panic!("on purpose: secret") } else { "" } }))
        .route("/works", get(|| async { "works" }));
    let table = AccessTable::new(["/panics", "/works"].map(|path| access::public(http::Method::GET, path)));
    let app = SharedApp::clone(&fixture.running.app);
    let router = router::layered(routes, table, app, KnownHosts::new([]));
    for (path, status) in [("/works", 200), ("/panics", 500), ("/works", 200)] {
        let request = http::Request::get(path)
            .header("host", "localhost")
            .extension(PeerAddress("127.0.0.1".parse().unwrap()))
            .body(axum::body::Body::empty());
        let answer = router.clone().oneshot(request.unwrap()).await.unwrap();
        assert_eq!(answer.status().as_u16(), status, "{path}");
        let body = axum::body::to_bytes(answer.into_body(), 10_000).await.unwrap();
        assert!(!String::from_utf8_lossy(&body).contains("secret"), "{body:?}");
    }
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_http_serves_a_proxy_on_a_unix_socket_and_believes_its_forwarded_address() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let socket = tempfile::tempdir().unwrap();
    let path = socket.path().join("http.sock");
    let fixture = Fixture::start_with(|config| {
        config.https.plain_listen = Some(format!("unix:{}", path.display()));
        config.https.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()];
    })
    .await;
    let mut stream = tokio::net::UnixStream::connect(&path).await.unwrap();
    let body = r#"{"username":"admin","password":"a wrong password"}"#;
    let request = format!(
        "POST /api/v1/auth/login HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-Forwarded-For: 9.9.9.9\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).await.unwrap();
    assert!(said.starts_with("HTTP/1.1 401"), "{said}");
    let records = fixture.audit().await;
    assert_eq!(records.last().unwrap().source, "9.9.9.9");
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_keeps_users_and_sessions() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    let directory = fixture.stop().await;
    let running = serve::start(config(&directory)).await.unwrap();
    let url = format!("https://localhost:{}/api/v1/auth/session", running.https_addr.port());
    let response = client(&running).get(url).bearer_auth(&admin).send().await.unwrap();
    assert!(response.status().is_success(), "{}", response.status());
    running.shutdown().await;
}
