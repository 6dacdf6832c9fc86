//! The API's client.
//!
//! Enters: a profile, routes and JSON. Leaves: the API's JSON, or a [`CliError`] that says what was tried on what.
//! Refreshes the session by itself, across processes. Never: an unverified server, a secret in a URL or a message.

mod route;
mod sse;
mod trust;

use std::cell::Cell;
use std::net::SocketAddr;
use std::time::Duration;

use aim_common::api::auth::{LoginRequest, LoginResponse, RefreshRequest};
use aim_common::api::problem::Problem;
use aim_common::units::EpochMs;
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url, header};
use serde::de::DeserializeOwned;
use serde_json::Value;

pub(crate) use self::route::Route;
pub(crate) use self::sse::Event;
use crate::clock;
use crate::error::CliError;
use crate::profile::{CredentialStore, Credentials, Profile, Trust};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A whole request; the longest is the full list of a large fleet.
const REQUEST_TIMEOUT: Duration = Duration::from_mins(1);
/// Between two pieces of a stream; the coordinator's keep-alive comments come far more often.
const STREAM_SILENCE: Duration = Duration::from_mins(1);
/// A full list of 50,000 nodes is about 50 MB.
const MAX_ANSWER_BYTES: usize = 512 * 1024 * 1024;
/// An access token this near to its end is renewed first.
const REFRESH_AHEAD_MS: i64 = 30_000;
/// Rows asked for at once; the API's largest page.
const PAGE: usize = 1000;

/// One coordinator.
pub(crate) struct Client {
    http: reqwest::Client,
    base: Url,
    /// The address as the profile has it, for messages.
    server: String,
    credentials: CredentialStore,
    /// One refresh at a time within this process; the file lock keeps other processes out.
    refreshing: tokio::sync::Mutex<()>,
    /// Coordinator's clock less this machine's, from the `Date` of its last answer.
    clock_offset_ms: Cell<i64>,
}

impl Client {
    /// Prepares connections; nothing is dialled yet.
    pub(crate) async fn new(profile: &Profile, credentials: CredentialStore) -> Result<Self, CliError> {
        let mut base = parse_server(&profile.server)?;
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(trust::client_config(&profile.trust)?)
            .https_only(true)
            // A proxy would see the API's credentials only inside TLS, but nodes' networks are direct.
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .user_agent(concat!("aimctl/", env!("CARGO_PKG_VERSION")));
        if let Trust::Pin { trust_domain, .. } = &profile.trust {
            // The certificate carries this fixed name, whatever address is dialled.
            let name = trust_domain.coordinator_server_name();
            let addresses = resolve(&base, &profile.server).await?;
            builder = builder.resolve_to_addrs(&name, &addresses);
            base.set_host(Some(&name))
                .map_err(|error| CliError::Usage(format!("trust domain {trust_domain}: {error}")))?;
        }
        let http = builder.build().map_err(|error| CliError::Failed(format!("preparing HTTPS: {error}")))?;
        Ok(Self {
            http,
            base,
            server: profile.server.clone(),
            credentials,
            refreshing: tokio::sync::Mutex::new(()),
            clock_offset_ms: Cell::new(0),
        })
    }

    /// The address as the profile has it.
    pub(crate) fn server(&self) -> &str {
        &self.server
    }

    /// Now, by the coordinator's clock as far as it is known.
    pub(crate) fn now(&self) -> EpochMs {
        clock::now().plus_ms(self.clock_offset_ms.get())
    }

    /// Logs in and keeps the session.
    pub(crate) async fn login(&self, request: &LoginRequest) -> Result<LoginResponse, CliError> {
        let call = Call::new(Method::POST, Route::v1(["auth", "login"])).with_body(request)?;
        let answer: LoginResponse = parse(&call, self.read(&call, self.dispatch(&call, None).await?).await?)?;
        let _lock = self.credentials.lock()?;
        self.credentials.save(&credentials_of(&call, &answer)?)?;
        Ok(answer)
    }

    /// Ends the session there and forgets it here; forgets it even where the coordinator cannot be asked.
    pub(crate) async fn logout(&self) -> Result<(), CliError> {
        let ended = self.send(Call::new(Method::POST, Route::v1(["auth", "logout"]))).await;
        self.credentials.remove()?;
        match ended {
            Ok(_) | Err(CliError::NotLoggedIn(_)) => Ok(()),
            Err(CliError::Refused { problem, .. }) if problem.status == 401 => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// `GET` of one object.
    pub(crate) async fn get(&self, route: Route) -> Result<Value, CliError> {
        self.send(Call::new(Method::GET, route)).await
    }

    /// `GET` of a list, page after page, until `limit` rows are there or the list ends.
    pub(crate) async fn list(&self, route: Route, limit: Option<usize>) -> Result<Vec<Value>, CliError> {
        let wanted = limit.unwrap_or(usize::MAX);
        let mut rows = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let size = PAGE.min(wanted.saturating_sub(rows.len()));
            let mut page = route.clone().query("limit", size.to_string());
            if let Some(cursor) = &cursor {
                page = page.query("cursor", cursor);
            }
            let call = Call::new(Method::GET, page);
            let answer = self.send_call(&call).await?;
            let page: aim_common::api::Page<Value> = parse(&call, answer)?;
            rows.extend(page.items);
            match page.next_cursor {
                // A cursor that does not move would never end.
                Some(next) if rows.len() < wanted && cursor.as_ref() != Some(&next) => cursor = Some(next),
                _ => return Ok(rows),
            }
        }
    }

    /// `GET` of a list that comes whole.
    pub(crate) async fn whole_list(&self, route: Route) -> Result<Vec<Value>, CliError> {
        let call = Call::new(Method::GET, route);
        let answer = self.send_call(&call).await?;
        parse(&call, answer)
    }

    /// `POST`, `PUT`, `PATCH` or `DELETE`; an empty answer is `null`.
    pub(crate) async fn change(
        &self,
        method: Method,
        route: Route,
        body: Option<&impl serde::Serialize>,
    ) -> Result<Value, CliError> {
        let mut call = Call::new(method, route);
        if let Some(body) = body {
            call = call.with_body(body)?;
        }
        self.send(call).await
    }

    /// `DELETE`.
    pub(crate) async fn delete(&self, route: Route) -> Result<(), CliError> {
        self.send(Call::new(Method::DELETE, route)).await.map(drop)
    }

    /// Opens a stream of server-sent events.
    pub(crate) async fn events(&self, route: Route) -> Result<EventStream, CliError> {
        let call = Call { streams: true, ..Call::new(Method::GET, route) };
        let response = self.authorised(&call).await?;
        Ok(EventStream {
            response,
            tried: self.tried(&call),
            parser: sse::Parser::default(),
            ready: std::collections::VecDeque::new(),
        })
    }

    async fn send(&self, call: Call) -> Result<Value, CliError> {
        self.send_call(&call).await
    }

    async fn send_call(&self, call: &Call) -> Result<Value, CliError> {
        let response = self.authorised(call).await?;
        self.read(call, response).await
    }

    /// Sends with the session's token; where that is refused, renews the session once.
    async fn authorised(&self, call: &Call) -> Result<Response, CliError> {
        let token = self.access_token().await?;
        match self.dispatch(call, Some(&token)).await {
            Err(CliError::Refused { problem, .. })
                if problem.status == 401 && problem.code == "unauthenticated" =>
            {
                let token = self.refresh(Some(&token)).await?;
                self.dispatch(call, Some(&token)).await
            }
            outcome => outcome,
        }
    }

    async fn access_token(&self) -> Result<String, CliError> {
        let credentials = self.credentials.load()?.ok_or_else(|| self.not_logged_in("not logged in"))?;
        if self.is_fresh(&credentials) { Ok(credentials.access_token) } else { self.refresh(None).await }
    }

    fn is_fresh(&self, credentials: &Credentials) -> bool {
        credentials.access_expires_at.since_ms(self.now()) > REFRESH_AHEAD_MS
    }

    fn not_logged_in(&self, why: &str) -> CliError {
        CliError::NotLoggedIn(format!("{why} on {}; log in with: aimctl login", self.server))
    }

    /// Exchanges the refresh token; `refused` is the access token that was just refused, if any.
    async fn refresh(&self, refused: Option<&str>) -> Result<String, CliError> {
        let _turn = self.refreshing.lock().await;
        // Held while the coordinator answers, on purpose: a refresh token is good for one use on this whole machine.
        let _lock = self.credentials.lock()?;
        let held = self.credentials.load()?.ok_or_else(|| self.not_logged_in("not logged in"))?;
        if self.is_fresh(&held) && refused != Some(held.access_token.as_str()) {
            return Ok(held.access_token);
        }
        let request = RefreshRequest { refresh_token: Some(held.refresh_token) };
        let call = Call::new(Method::POST, Route::v1(["auth", "refresh"])).with_body(&request)?;
        let response = match self.dispatch(&call, None).await {
            Err(CliError::Refused { problem, .. }) if problem.status == 401 => {
                return Err(self.not_logged_in("the session has ended"));
            }
            outcome => outcome?,
        };
        let answer: LoginResponse = parse(&call, self.read(&call, response).await?)?;
        let fresh = credentials_of(&call, &answer)?;
        self.credentials.save(&fresh)?;
        Ok(fresh.access_token)
    }

    /// One request; anything but success becomes an error.
    async fn dispatch(&self, call: &Call, token: Option<&str>) -> Result<Response, CliError> {
        let mut request: RequestBuilder = self.http.request(call.method.clone(), call.route.url(&self.base));
        request = if call.streams {
            request.header(header::ACCEPT, "text/event-stream")
        } else {
            request.header(header::ACCEPT, "application/json").timeout(REQUEST_TIMEOUT)
        };
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = &call.body {
            request = request.json(body);
        }
        let response = request.send().await.map_err(|error| self.unreachable(call, &error))?;
        self.note_clock(&response);
        if response.status().is_success() { Ok(response) } else { Err(self.refused(call, response).await) }
    }

    fn note_clock(&self, response: &Response) {
        let at =
            response.headers().get(header::DATE).and_then(|value| value.to_str().ok()).and_then(|text| {
                time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc2822).ok()
            });
        if let Some(at) = at {
            let offset = EpochMs(at.unix_timestamp().saturating_mul(1000)).since_ms(clock::now());
            // The header has whole seconds: below that there is nothing to correct.
            self.clock_offset_ms.set(if offset.abs() < 2000 { 0 } else { offset });
        }
    }

    async fn read(&self, call: &Call, mut response: Response) -> Result<Value, CliError> {
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(|error| self.unreachable(call, &error))? {
            if body.len() + piece.len() > MAX_ANSWER_BYTES {
                return Err(CliError::BadAnswer {
                    tried: self.tried(call),
                    detail: format!("the answer is longer than {MAX_ANSWER_BYTES} bytes"),
                });
            }
            body.extend_from_slice(&piece);
        }
        if body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&body).map_err(|error| CliError::BadAnswer {
            tried: self.tried(call),
            detail: format!("the answer is not JSON ({error}); is {} an AIM coordinator?", self.server),
        })
    }

    async fn refused(&self, call: &Call, response: Response) -> CliError {
        let status = response.status();
        let body = match self.read(call, response).await {
            Ok(body) => body,
            Err(_) => Value::Null,
        };
        match serde_json::from_value::<Problem>(body) {
            Ok(problem) => CliError::Refused { tried: self.tried(call), problem: Box::new(problem) },
            Err(_) => CliError::BadAnswer { tried: self.tried(call), detail: plain_status(status) },
        }
    }

    fn tried(&self, call: &Call) -> String {
        format!("{} {} on {}", call.method, call.route.path(), self.server)
    }

    fn unreachable(&self, call: &Call, error: &reqwest::Error) -> CliError {
        let mut reasons: Vec<String> = Vec::new();
        let mut source: Option<&dyn std::error::Error> = std::error::Error::source(error);
        while let Some(cause) = source {
            let text = cause.to_string();
            // Layers repeat each other's words.
            if !reasons.last().is_some_and(|last| last.contains(&text)) {
                reasons.push(text);
            }
            source = cause.source();
        }
        let reason = if error.is_timeout() {
            "no answer in time".to_owned()
        } else {
            reasons.last().cloned().unwrap_or_else(|| error.to_string())
        };
        let advice = if reason.contains("certificate") {
            "whoever answers there could not prove to be your coordinator; if its CA was made anew, log in with the \
             new --root-sha256, and never without knowing why it changed"
        } else {
            "check that aim-coordinator runs there and that the address and port are right (aimctl login changes them)"
        };
        CliError::Unreachable { tried: self.tried(call), reason, advice: advice.to_owned() }
    }
}

/// An open stream of server-sent events.
pub(crate) struct EventStream {
    response: Response,
    tried: String,
    parser: sse::Parser,
    ready: std::collections::VecDeque<Event>,
}

impl EventStream {
    /// The next event; `None` where the coordinator closed the stream.
    pub(crate) async fn next(&mut self) -> Result<Option<Event>, CliError> {
        let lost = |tried: &str, reason: String| CliError::Unreachable {
            tried: tried.to_owned(),
            reason,
            advice: "the stream was cut; start the command again".to_owned(),
        };
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(Some(event));
            }
            let piece = tokio::time::timeout(STREAM_SILENCE, self.response.chunk()).await;
            match piece {
                Err(_) => return Err(lost(&self.tried, "the stream went silent".to_owned())),
                Ok(Err(error)) => return Err(lost(&self.tried, error.to_string())),
                Ok(Ok(None)) => return Ok(None),
                Ok(Ok(Some(piece))) => {
                    let events = self.parser.push(&piece).map_err(|error| CliError::BadAnswer {
                        tried: self.tried.clone(),
                        detail: error.to_string(),
                    })?;
                    self.ready.extend(events);
                }
            }
        }
    }
}

/// One request.
struct Call {
    method: Method,
    route: Route,
    body: Option<Value>,
    streams: bool,
}

impl Call {
    fn new(method: Method, route: Route) -> Self {
        Self { method, route, body: None, streams: false }
    }

    fn with_body(mut self, body: &impl serde::Serialize) -> Result<Self, CliError> {
        let body = serde_json::to_value(body)
            .map_err(|error| CliError::Failed(format!("writing the request as JSON: {error}")))?;
        self.body = Some(body);
        Ok(self)
    }
}

fn parse<T: DeserializeOwned>(call: &Call, answer: Value) -> Result<T, CliError> {
    serde_json::from_value(answer).map_err(|error| CliError::BadAnswer {
        tried: format!("{} {}", call.method, call.route.path()),
        detail: format!(
            "the answer has another shape than expected ({error}); is aimctl older than the coordinator?"
        ),
    })
}

fn credentials_of(call: &Call, answer: &LoginResponse) -> Result<Credentials, CliError> {
    match (&answer.access_token, &answer.refresh_token) {
        (Some(access), Some(refresh)) => Ok(Credentials {
            access_token: access.clone(),
            access_expires_at: answer.access_expires_at,
            refresh_token: refresh.clone(),
            refresh_expires_at: answer.refresh_expires_at,
        }),
        _ => Err(CliError::BadAnswer {
            tried: format!("{} {}", call.method, call.route.path()),
            detail: "the answer holds no tokens".to_owned(),
        }),
    }
}

fn plain_status(status: StatusCode) -> String {
    format!(
        "the answer was {status} without an explanation; is this an AIM coordinator, and nothing between?"
    )
}

/// Checks the address of a profile.
pub(crate) fn parse_server(server: &str) -> Result<Url, CliError> {
    let refuse = |why: &str| {
        CliError::Usage(format!("server {server:?} is not usable: {why}; expected https://HOST:PORT"))
    };
    let url = Url::parse(server).map_err(|error| refuse(&error.to_string()))?;
    if url.scheme() != "https" {
        return Err(refuse("it does not begin with https://"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refuse("it holds a user name or password"));
    }
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
        return Err(refuse("it holds a path"));
    }
    Ok(url)
}

/// The addresses behind a profile's address.
async fn resolve(base: &Url, server: &str) -> Result<Vec<SocketAddr>, CliError> {
    let host = base.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let port = base.port_or_known_default().unwrap_or(443);
    let found = tokio::net::lookup_host((host.as_str(), port)).await;
    let addresses: Vec<SocketAddr> = found.map(Iterator::collect).unwrap_or_default();
    if addresses.is_empty() {
        return Err(CliError::Unreachable {
            tried: format!("looking up {host} of {server}"),
            reason: "the name has no address".to_owned(),
            advice: "check the name in the profile (aimctl login changes it) and this machine's DNS"
                .to_owned(),
        });
    }
    Ok(addresses)
}
