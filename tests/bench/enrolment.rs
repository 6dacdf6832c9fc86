//! Enrolments per second of one core: new TLS connection, token check, certificate, durable commit.

use std::sync::Arc;

use aim_common::api::keyvault::{EnrolRequest, EnrolResponse, GeneratedToken};
use anyhow::{Context, ensure};
use rcgen::{CertificateParams, KeyPair};

use crate::figure::{Figure, Hold};
use crate::process::cpu_seconds;
use crate::site::Site;

/// Enrolments in parallel, as the row in the table of figures says.
const PARALLEL: usize = 32;
/// Enrolments in all.
const COUNT: u16 = 960;

/// Enrols `COUNT` nodes and divides by the coordinator's CPU seconds.
pub(crate) async fn measure(site: &Site) -> anyhow::Result<Vec<Figure>> {
    let tokens = site.tokens(&format!("enrol[0001-{COUNT:04}]")).await?;
    ensure!(tokens.len() == usize::from(COUNT), "{} tokens came back instead of {COUNT}", tokens.len());
    // The nodes' own work is done before the clock starts.
    let requests = tokens.into_iter().map(request).collect::<anyhow::Result<Vec<_>>>()?;
    let clients = (0..requests.len()).map(|_| site.client()).collect::<anyhow::Result<Vec<_>>>()?;
    let url: Arc<str> = site.url("/api/keyvault/agent/enroll").into();

    let began = tokio::time::Instant::now();
    let before = cpu_seconds(site.coordinator.pid());
    let mut running = tokio::task::JoinSet::new();
    for (client, request) in clients.into_iter().zip(requests) {
        if running.len() == PARALLEL {
            running.join_next().await.context("no enrolment runs")???;
        }
        running.spawn(enrol(client, Arc::clone(&url), request));
    }
    while let Some(done) = running.join_next().await {
        done??;
    }
    let cpu = cpu_seconds(site.coordinator.pid()) - before;
    let wall = began.elapsed().as_secs_f64();
    let note = format!("{COUNT} enrolments, {PARALLEL} in parallel, {cpu:.2} CPU s, {wall:.2} s wall");
    Ok(vec![Figure::new("enrol_per_core_s", f64::from(COUNT) / cpu, "1/s", Hold::AtLeast(300.0)).note(note)])
}

fn request(token: GeneratedToken) -> anyhow::Result<EnrolRequest> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    let csr = params.serialize_request(&key)?.pem()?;
    let node = token.node.context("the token is bound to no node")?;
    Ok(EnrolRequest { token: token.token, signature: token.signature, nonce: token.nonce, node, csr })
}

async fn enrol(client: reqwest::Client, url: Arc<str>, request: EnrolRequest) -> anyhow::Result<()> {
    let response = client.post(&*url).json(&request).send().await?;
    let status = response.status();
    let text = response.text().await?;
    ensure!(status.is_success(), "enrolment answered {status}: {text}");
    serde_json::from_str::<EnrolResponse>(&text)?;
    Ok(())
}
