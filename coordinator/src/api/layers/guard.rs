//! Authentication and the access table, on the matched route: a route without a row is refused (IDN-03, RBA-01).

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{Method, header};

use serde_json::json;

use super::exchange::RequestId;
use super::host::host_of;
use crate::api::access::{Access, Rule};
use crate::api::peer::PeerAddress;
use crate::api::problem::ApiError;
use crate::app::SharedApp;
use crate::audit;
use crate::auth::credential::Credential;
use crate::auth::{Origin, Outage};

/// What an operator must be able to do while the database is gone.
const WORKS_IN_OUTAGE: [&str; 1] = ["/api/v1/nodes/{node}/revoke"];

/// The access table, ready to be asked.
#[derive(Debug, Clone)]
pub struct AccessTable(Arc<HashMap<&'static str, Vec<(Method, Rule)>>>);

impl AccessTable {
    /// The table of these rows.
    pub fn new(rows: impl IntoIterator<Item = Access>) -> Self {
        let mut table: HashMap<_, Vec<_>> = HashMap::new();
        for row in rows {
            table.entry(row.path).or_default().push((row.method, row.rule));
        }
        Self(Arc::new(table))
    }

    /// The rule of a route. `HEAD` is answered by the handler of `GET`, and so stands under its rule.
    fn rule(&self, method: &Method, path: &str) -> Result<Rule, ApiError> {
        let Some(rows) = self.0.get(path) else {
            tracing::error!(path, "a route has no row in the access table");
            return Err(ApiError::Forbidden("of a route that has a rule".to_owned()));
        };
        let method = if method == Method::HEAD { &Method::GET } else { method };
        rows.iter().find(|(known, _)| known == method).map(|(_, rule)| *rule).ok_or_else(|| {
            ApiError::MethodNotAllowed(rows.iter().map(|(method, _)| method.clone()).collect())
        })
    }
}

/// See the module.
pub async fn guard(
    State((app, table)): State<(SharedApp, AccessTable)>,
    path: MatchedPath,
    mut request: Request,
    next: Next,
) -> Response {
    let mut response = match admit(&app, &table, &path, &mut request).await {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    };
    response.extensions_mut().insert(path);
    response
}

async fn admit(
    app: &SharedApp,
    table: &AccessTable,
    path: &MatchedPath,
    request: &mut Request,
) -> Result<(), ApiError> {
    let rule = table.rule(request.method(), path.as_str())?;
    if rule == Rule::Public {
        return Ok(());
    }
    let by_cookie = matches!(Credential::of(request.headers()), Some(Credential::Cookie(_)));
    if by_cookie && !same_origin(request) {
        return Err(ApiError::ForeignOrigin);
    }
    let works_in_outage = WORKS_IN_OUTAGE.contains(&path.as_str());
    let outage = if works_in_outage { Outage::Tolerate } else { Outage::Refuse };
    let session = app.auth.authenticate(request.method(), request.headers(), outage).await?;
    let Origin { source, request_id } = origin(request.extensions());
    let caller = session.caller(source, request_id);
    if let Rule::Permission { resource, verb } = rule
        && !caller.may_somewhere(resource, verb)
    {
        let needed = format!("{resource}:{verb}");
        let detail = json!({"needed": needed, "method": request.method().as_str()});
        let target = request.uri().path().to_owned();
        app.audit.denied(audit::allowed(&caller, app.clock.now(), "request", target, detail)).await;
        return Err(ApiError::Forbidden(needed));
    }
    request.extensions_mut().insert(caller);
    Ok(())
}

/// A browser names the origin of the page that asks, on event streams and changes alike; scripts name none.
fn same_origin(request: &Request) -> bool {
    let Some(origin) = request.headers().get(header::ORIGIN) else { return true };
    let asking = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
    asking.is_some_and(|(_, page)| {
        host_of(request).is_some_and(|host| host.as_str().eq_ignore_ascii_case(page))
    })
}

/// Where a request comes from, for those who have no session yet.
pub fn origin(extensions: &http::Extensions) -> Origin {
    Origin {
        source: extensions.get::<PeerAddress>().map(ToString::to_string).unwrap_or_default(),
        request_id: extensions.get::<RequestId>().map(|id| id.0.clone()).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idn_03_a_route_or_method_without_a_row_is_refused() {
        let row = crate::api::access::public(Method::GET, "/known");
        let table = AccessTable::new([row]);
        assert_eq!(table.rule(&Method::GET, "/known").ok(), Some(Rule::Public));
        assert!(matches!(table.rule(&Method::GET, "/added"), Err(ApiError::Forbidden(_))));
        assert!(matches!(table.rule(&Method::POST, "/known"), Err(ApiError::MethodNotAllowed(_))));
    }

    #[test]
    fn pki_12_what_works_in_an_outage_is_a_route_of_the_table() {
        let rows: Vec<Access> = crate::api::resources().iter().flat_map(|r| (r.access)()).collect();
        for path in WORKS_IN_OUTAGE {
            assert!(rows.iter().any(|row| row.path == path && row.method == Method::POST), "{path}");
        }
    }
}
