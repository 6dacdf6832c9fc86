//! Authentication and the access table, on the matched route: a route without a row is refused (IDN-03, RBA-01).

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::Method;

use crate::api::access::{Access, Rule};
use crate::api::problem::ApiError;
use crate::app::SharedApp;

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
    State((_app, table)): State<(SharedApp, AccessTable)>,
    path: MatchedPath,
    request: Request,
    next: Next,
) -> Response {
    let rule = match table.rule(request.method(), path.as_str()) {
        Ok(rule) => rule,
        Err(refusal) => return refusal.into_response(),
    };
    let mut response = match rule {
        Rule::Public => next.run(request).await,
        Rule::Session | Rule::Permission { .. } => ApiError::Unauthenticated.into_response(),
    };
    response.extensions_mut().insert(path);
    response
}
