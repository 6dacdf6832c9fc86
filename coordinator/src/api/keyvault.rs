//! The KeyVault's endpoints. The shapes of the first two are fixed: installers depend on them.

use std::time::Duration;

use aim_common::api::keyvault::{
    ApprovalRequest, ApprovalResponse, EnrolRequest, EnrolResponse, GenerateTokenRequest,
    GenerateTokenResponse, GeneratedTokens, MasterPubResponse, ProofRequest, ProofResponse,
};
use aim_common::api::problem::Problem;
use aim_common::enrolment::TokenPurpose;
use axum::extract::{Extension, RawQuery, State};
use http::{HeaderMap, Method, StatusCode, header};
use tower_http::timeout::TimeoutLayer;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Resource;
use super::access::{permission, public};
use super::extract::{Json, OptionalJson};
use super::problem::ApiError;
use super::requester::{Anonymous, everywhere};
use crate::app::SharedApp;
use crate::auth::Caller;
use crate::keyvault::Requester;
use crate::keyvault::tokens::{PresentedToken, TokenOrder};

/// Longest time of a handler; the body has its own in `limits`, because it is read before (ENR-20).
const TIMEOUT: Duration = Duration::from_secs(10);

const SALT_GENERATE: &str = "/api/keyvault/salt/generate-token";
const SALT_MASTER_PUB: &str = "/api/keyvault/salt/master-pub";
const AGENT_GENERATE: &str = "/api/keyvault/agent/generate-token";
const AGENT_ENROLL: &str = "/api/keyvault/agent/enroll";
const AGENT_RECOVER: &str = "/api/keyvault/agent/recover";
const AGENT_RENEW: &str = "/api/keyvault/agent/renew";
const AGENT_REQUEST: &str = "/api/keyvault/agent/request";

/// The resource.
pub fn resource() -> Resource {
    Resource {
        name: "keyvault",
        router: || {
            OpenApiRouter::new()
                .routes(routes!(generate_salt_token))
                .routes(routes!(master_pub))
                .routes(routes!(generate_agent_token))
                .routes(routes!(enroll))
                .routes(routes!(recover))
                .routes(routes!(renew))
                .routes(routes!(request))
                .layer(TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, TIMEOUT))
        },
        access: || {
            vec![
                permission(Method::POST, SALT_GENERATE, "keyvault", "create"),
                public(Method::GET, SALT_MASTER_PUB),
                permission(Method::POST, AGENT_GENERATE, "keyvault", "create"),
                public(Method::POST, AGENT_ENROLL),
                public(Method::POST, AGENT_RECOVER),
                public(Method::POST, AGENT_RENEW),
                public(Method::POST, AGENT_REQUEST),
            ]
        },
    }
}

/// Tokens for installers of Salt minions; the body may be empty.
#[utoipa::path(post, path = SALT_GENERATE, tag = "keyvault", request_body = Option<GenerateTokenRequest>,
    responses((status = 200, body = GenerateTokenResponse), (status = 400, body = Problem), (status = 429, body = Problem)))]
async fn generate_salt_token(
    State(app): State<SharedApp>,
    Extension(caller): Extension<Caller>,
    OptionalJson(request): OptionalJson<GenerateTokenRequest>,
) -> Result<Json<GenerateTokenResponse>, ApiError> {
    generate(&app, &caller, TokenPurpose::SaltMasterPub, request.unwrap_or_default()).await
}

/// Tokens for agents, each bound to a node's name, with the join string.
#[utoipa::path(post, path = AGENT_GENERATE, tag = "keyvault", request_body = GenerateTokenRequest,
    responses((status = 200, body = GenerateTokenResponse), (status = 400, body = Problem), (status = 429, body = Problem)))]
async fn generate_agent_token(
    State(app): State<SharedApp>,
    Extension(caller): Extension<Caller>,
    Json(request): Json<GenerateTokenRequest>,
) -> Result<Json<GenerateTokenResponse>, ApiError> {
    generate(&app, &caller, TokenPurpose::AgentEnrol, request).await
}

async fn generate(
    app: &SharedApp,
    caller: &Caller,
    purpose: TokenPurpose,
    request: GenerateTokenRequest,
) -> Result<Json<GenerateTokenResponse>, ApiError> {
    everywhere(caller, "keyvault", "create")?;
    let order = TokenOrder::new(purpose, request)?;
    let mut tokens = app.keyvault.issue_tokens(&order, &Requester::from(caller)).await?;
    let answer = match tokens.pop() {
        Some(token) if !order.is_list => GenerateTokenResponse::One(Box::new(token)),
        last => {
            tokens.extend(last);
            GenerateTokenResponse::Many(GeneratedTokens { tokens })
        }
    };
    Ok(Json(answer))
}

/// The Salt master's public key, for a token that is destroyed by it.
#[utoipa::path(get, path = SALT_MASTER_PUB, tag = "keyvault",
    params(("X-AIM-Token" = Option<String>, Header), ("X-AIM-Signature" = Option<String>, Header),
        ("X-AIM-Nonce" = Option<String>, Header),
        ("Authorization" = Option<String>, Header, description = "AIM token=…,nonce=…,signature=… instead")),
    responses((status = 200, body = MasterPubResponse), (status = 401, body = Problem), (status = 503, body = Problem)))]
async fn master_pub(
    State(app): State<SharedApp>,
    caller: Anonymous,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Json<MasterPubResponse>, ApiError> {
    let query = query.filter(|_| app.keyvault.config().master_pub_query);
    let presented = presented_token(&headers, query.as_deref());
    let pub_key =
        app.keyvault.redeem_salt_token(presented.as_ref(), caller.source, &caller.requester).await?;
    Ok(Json(MasterPubResponse { pub_key }))
}

/// A token in the three headers, in `Authorization`, or in the query where that is switched on.
fn presented_token(headers: &HeaderMap, query: Option<&str>) -> Option<PresentedToken> {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if let (Some(token), Some(nonce), Some(signature)) =
        (header("x-aim-token"), header("x-aim-nonce"), header("x-aim-signature"))
    {
        return PresentedToken::parse(token, nonce, signature);
    }
    let pairs: Vec<(&str, &str)> = match (header(header::AUTHORIZATION.as_str()), query) {
        (Some(authorization), _) => {
            let parameters = authorization.strip_prefix("AIM ")?;
            parameters.split(',').filter_map(|pair| pair.trim().split_once('=')).collect()
        }
        // Token, nonce and signature are hexadecimal digits and dashes: nothing in them is ever escaped.
        (None, Some(query)) => query.split('&').filter_map(|pair| pair.split_once('=')).collect(),
        (None, None) => return None,
    };
    let value = |wanted: &str| pairs.iter().find(|(name, _)| *name == wanted).map(|(_, value)| *value);
    PresentedToken::parse(value("token")?, value("nonce")?, value("signature")?)
}

/// Enrols a node: a token and a certificate request become an identity.
#[utoipa::path(post, path = AGENT_ENROLL, tag = "keyvault", request_body = EnrolRequest,
    responses((status = 200, body = EnrolResponse), (status = 400, body = Problem), (status = 401, body = Problem),
        (status = 409, body = Problem), (status = 429, body = Problem)))]
async fn enroll(
    State(app): State<SharedApp>,
    caller: Anonymous,
    Json(request): Json<EnrolRequest>,
) -> Result<Json<EnrolResponse>, ApiError> {
    Ok(Json(app.keyvault.enrol(&request, caller.source, &caller.requester).await?))
}

/// Fetches a certificate whose answer was lost, by proof of its key.
#[utoipa::path(post, path = AGENT_RECOVER, tag = "keyvault", request_body = ProofRequest,
    responses((status = 200, body = ProofResponse), (status = 401, body = Problem), (status = 429, body = Problem)))]
async fn recover(
    State(app): State<SharedApp>,
    caller: Anonymous,
    Json(request): Json<ProofRequest>,
) -> Result<Json<ProofResponse>, ApiError> {
    Ok(Json(app.keyvault.recover(&request, caller.source, &caller.requester).await?))
}

/// Renews a certificate, also some time after its end, by proof of its key.
#[utoipa::path(post, path = AGENT_RENEW, tag = "keyvault", request_body = ProofRequest,
    responses((status = 200, body = ProofResponse), (status = 401, body = Problem), (status = 429, body = Problem)))]
async fn renew(
    State(app): State<SharedApp>,
    caller: Anonymous,
    Json(request): Json<ProofRequest>,
) -> Result<Json<ProofResponse>, ApiError> {
    Ok(Json(app.keyvault.renew_by_proof(&request, caller.source, &caller.requester).await?))
}

/// Asks to be approved without a token; repeated, it tells where the request stands.
#[utoipa::path(post, path = AGENT_REQUEST, tag = "keyvault", request_body = ApprovalRequest,
    responses((status = 200, body = ApprovalResponse), (status = 400, body = Problem), (status = 404, body = Problem),
        (status = 429, body = Problem)))]
async fn request(
    State(app): State<SharedApp>,
    caller: Anonymous,
    Json(request): Json<ApprovalRequest>,
) -> Result<Json<ApprovalResponse>, ApiError> {
    Ok(Json(app.keyvault.request_approval(&request, caller.source, &caller.requester).await?))
}
