//! Who may call which route: one row a route, deny by default. A route without a row is refused and fails a test.

use http::Method;

/// The rule of one route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Anybody: health, login, and routes that check a credential of their own (token, proof).
    Public,
    /// Any living session.
    Session,
    /// A grant of `resource:verb` in some scope; the handler checks the object where scopes matter.
    Permission {
        /// The resource.
        resource: &'static str,
        /// The verb.
        verb: &'static str,
    },
}

/// One row.
#[derive(Debug, Clone)]
pub struct Access {
    /// The method.
    pub method: Method,
    /// The path as axum and the OpenAPI document write it (`/api/v1/nodes/{node}`).
    pub path: &'static str,
    /// The rule.
    pub rule: Rule,
}

/// A row for a route that needs a permission.
pub const fn permission(
    method: Method,
    path: &'static str,
    resource: &'static str,
    verb: &'static str,
) -> Access {
    Access { method, path, rule: Rule::Permission { resource, verb } }
}

/// A row for a route that needs a session.
pub const fn session(method: Method, path: &'static str) -> Access {
    Access { method, path, rule: Rule::Session }
}

/// A row for a public route.
pub const fn public(method: Method, path: &'static str) -> Access {
    Access { method, path, rule: Rule::Public }
}
