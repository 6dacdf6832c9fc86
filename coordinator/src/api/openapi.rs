//! The OpenAPI document, generated from the handlers, and a viewer of it that needs no other host.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderValue, Method, header};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Resource;
use super::access::public;
use super::extract::Path;
use super::problem::ApiError;

/// The viewer runs its own script and style from here and nothing else; its icons are `data:` images.
const VIEWER_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

const PAGE: &str = r#"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>AIM API</title>
<link rel="stylesheet" href="/viewer/swagger-ui.css">
<link rel="icon" href="/viewer/favicon-32x32.png">
</head>
<body>
<div id="viewer"></div>
<script src="/viewer/swagger-ui-bundle.js"></script>
<script src="/viewer/start.js"></script>
</body>
</html>
"#;

const START: &str = r##"SwaggerUIBundle({
  url: "/api/v1/openapi.json",
  dom_id: "#viewer",
  deepLinking: true,
  validatorUrl: null,
});
"##;

/// The resource.
pub fn resource() -> Resource {
    Resource {
        name: "openapi",
        router: || {
            OpenApiRouter::new()
                .routes(routes!(document))
                .routes(routes!(viewer))
                .routes(routes!(viewer_file))
        },
        access: || {
            vec![
                public(Method::GET, "/api/v1/openapi.json"),
                public(Method::GET, "/"),
                public(Method::GET, "/viewer/{file}"),
            ]
        },
    }
}

/// This document.
#[utoipa::path(get, path = "/api/v1/openapi.json", tag = "system",
    responses((status = 200, content_type = "application/json", body = serde_json::Value)))]
async fn document() -> Result<Response, ApiError> {
    static DOCUMENT: LazyLock<Result<String, serde_json::Error>> =
        LazyLock::new(|| super::router::routes().1.to_json());
    match &*DOCUMENT {
        Ok(text) => Ok(([(header::CONTENT_TYPE, "application/json")], text.as_str()).into_response()),
        Err(error) => Err(ApiError::internal(anyhow::anyhow!("the OpenAPI document: {error}"))),
    }
}

/// The viewer of this document.
#[utoipa::path(get, path = "/", tag = "system", responses((status = 200, content_type = "text/html", body = str)))]
async fn viewer() -> Response {
    asset("text/html; charset=utf-8", PAGE)
}

/// A file of the viewer.
#[utoipa::path(get, path = "/viewer/{file}", tag = "system",
    params(("file" = String, Path, description = "Name of the file")),
    responses((status = 200, body = Vec<u8>), (status = 404)))]
async fn viewer_file(Path(file): Path<String>) -> Result<Response, ApiError> {
    if file == "start.js" {
        return Ok(asset("text/javascript; charset=utf-8", START));
    }
    let found = FILES.get(file.as_str()).ok_or(ApiError::NotFound("the viewer's file"))?;
    let mut response = asset(&found.kind, found.bytes.clone());
    if found.zipped {
        response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    Ok(response)
}

/// A file of the viewer's bundle; every answer shares its bytes, however many are not read (API-10).
struct BundleFile {
    kind: String,
    bytes: Bytes,
    zipped: bool,
}

/// Only these: the bundle's own page and initializer would load a foreign example.
static FILES: LazyLock<HashMap<&str, BundleFile>> = LazyLock::new(|| {
    let config = Arc::new(utoipa_swagger_ui::Config::default());
    let wanted = ["swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png"];
    let file = |name| {
        let found = utoipa_swagger_ui::serve(name, Arc::clone(&config)).ok().flatten()?;
        let file = BundleFile {
            kind: found.content_type,
            bytes: Bytes::from(found.bytes.into_owned()),
            zipped: found.gzpipped,
        };
        Some((name, file))
    };
    wanted.into_iter().filter_map(file).collect()
});

fn asset(kind: &str, bytes: impl Into<axum::body::Body>) -> Response {
    let mut response = Response::new(bytes.into());
    let headers = response.headers_mut();
    if let Ok(kind) = HeaderValue::from_str(kind) {
        headers.insert(header::CONTENT_TYPE, kind);
    }
    headers.insert(header::CONTENT_SECURITY_POLICY, VIEWER_POLICY);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}
