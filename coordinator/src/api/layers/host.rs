//! Only known names of the coordinator are answered (API-09): a foreign `Host` is DNS rebinding or a mistake.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header;
use http::uri::Authority;

use crate::api::peer::LocalAddress;
use crate::api::problem::ApiError;

/// The names by which the coordinator is reached, in lower case.
#[derive(Debug, Clone)]
pub struct KnownHosts(Arc<HashSet<String>>);

impl KnownHosts {
    /// These names, and `localhost`.
    pub fn new(names: impl IntoIterator<Item = String>) -> Self {
        let names = names.into_iter().map(|name| name.trim_matches(['[', ']']).to_ascii_lowercase());
        Self(Arc::new(names.chain(["localhost".to_owned()]).collect()))
    }

    /// A known name, or the very address that the connection came in on.
    fn knows(&self, host: &str, local: Option<IpAddr>) -> bool {
        let host = host.trim_matches(['[', ']']).to_ascii_lowercase();
        self.0.contains(&host)
            || host.parse::<IpAddr>().is_ok_and(|address| {
                local.is_some_and(|local| local.to_canonical() == address.to_canonical())
            })
    }
}

/// See the module.
pub async fn check(State(known): State<KnownHosts>, request: Request, next: Next) -> Response {
    let local = request.extensions().get::<LocalAddress>().map(|local| local.0);
    match host_of(&request) {
        Some(host) if known.knows(host.host(), local) => next.run(request).await,
        _ => ApiError::Misdirected.into_response(),
    }
}

/// The one host that the request names; `None` where there is none, or two that differ.
pub(super) fn host_of(request: &Request) -> Option<Authority> {
    let mut named = request.headers().get_all(header::HOST).iter();
    let header = match (named.next(), named.next()) {
        (Some(value), None) => Some(value.to_str().ok()?.parse::<Authority>().ok()?),
        (None, _) => None,
        (Some(_), Some(_)) => return None,
    };
    match (request.uri().authority(), header) {
        (Some(target), Some(header)) if *target != header => None,
        (Some(target), _) => Some(target.clone()),
        (None, header) => header,
    }
    .filter(|host| !host.as_str().contains('@'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(uri: &str, hosts: &[&str]) -> bool {
        let mut request = http::Request::builder().uri(uri);
        for host in hosts {
            request = request.header(header::HOST, *host);
        }
        let request = request.body(axum::body::Body::empty()).unwrap();
        let known = KnownHosts::new(["aim.example.org".to_owned(), "[fd00::1]".to_owned()]);
        let local: IpAddr = "10.0.0.1".parse().unwrap();
        host_of(&request).is_some_and(|host| known.knows(host.host(), Some(local)))
    }

    #[test]
    fn api_09_only_known_hosts_are_answered() {
        assert!(accepted("/", &["aim.example.org:8443"]));
        assert!(accepted("/", &["AIM.example.org"]));
        assert!(accepted("/", &["localhost"]));
        assert!(accepted("/", &["[fd00::1]:8443"]));
        assert!(accepted("/", &["10.0.0.1:8443"]));
        assert!(accepted("https://aim.example.org:8443/", &[]));

        assert!(!accepted("/", &[]));
        assert!(!accepted("/", &["evil.example.org"]));
        assert!(!accepted("/", &["aim.example.org.evil.org"]));
        assert!(!accepted("/", &["10.0.0.2"]));
        assert!(!accepted("/", &["aim.example.org", "evil.example.org"]));
        assert!(!accepted("https://aim.example.org/", &["evil.example.org"]));
        assert!(!accepted("/", &["aim.example.org@evil.org"]));
        assert!(!accepted("/", &["evil@aim.example.org"]));
    }
}
