//! Paths of the API, built from segments so that no name can become another path.

use reqwest::Url;

/// One path with its query.
#[derive(Debug, Clone)]
pub(crate) struct Route {
    segments: Vec<String>,
    query: Vec<(String, String)>,
}

impl Route {
    /// `/api/v1/…`
    pub(crate) fn v1<const N: usize>(segments: [&str; N]) -> Self {
        Self::under("v1", &segments)
    }

    /// `/api/keyvault/…`
    pub(crate) fn keyvault<const N: usize>(segments: [&str; N]) -> Self {
        Self::under("keyvault", &segments)
    }

    fn under(root: &str, segments: &[&str]) -> Self {
        let segments = ["api", root].iter().chain(segments).map(|&segment| segment.to_owned()).collect();
        Self { segments, query: Vec::new() }
    }

    /// Adds a query parameter.
    #[must_use]
    pub(crate) fn query(mut self, name: &str, value: impl Into<String>) -> Self {
        self.query.push((name.to_owned(), value.into()));
        self
    }

    /// Adds a query parameter where there is a value.
    #[must_use]
    pub(crate) fn query_some(self, name: &str, value: Option<impl Into<String>>) -> Self {
        match value {
            Some(value) => self.query(name, value),
            None => self,
        }
    }

    /// The path, for messages.
    pub(crate) fn path(&self) -> String {
        format!("/{}", self.segments.join("/"))
    }

    /// The whole address.
    pub(super) fn url(&self, base: &Url) -> Url {
        let mut url = base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.clear().extend(&self.segments);
        }
        if !self.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&self.query);
        }
        url
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_name_stays_one_segment() {
        let base = Url::parse("https://coordinator.aim.internal:8443").unwrap();
        let route = Route::v1(["nodes", "../users?x=1#y/z", "live"]).query("a", "b&c=d");
        let url = route.url(&base);
        assert_eq!(url.path(), "/api/v1/nodes/..%2Fusers%3Fx=1%23y%2Fz/live");
        assert_eq!(url.query(), Some("a=b%26c%3Dd"));
        // A lone ".." cannot climb either: it is left out.
        assert_eq!(Route::v1(["nodes", "..", "live"]).url(&base).path(), "/api/v1/nodes/live");
    }
}
