//! From the endpoint table to a router: rate, size, caller, handler, answer. Nothing is served that is not in the table.

use std::{
    collections::{BTreeMap, HashMap},
    future::Future,
    ops::Deref,
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{RawPathParams, Request, rejection::RawPathParamsRejection},
    http::{HeaderMap, HeaderValue, Response, StatusCode, header},
    routing::{MethodFilter, on},
};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use pki::{Peer, Role};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    content::Content,
    endpoints::{self, Callers, Carries, Endpoint},
    framing::BadFraming,
    fronts::{Front, native::Native},
    headers,
};
use crate::{
    core::{
        admission::{Caller, Use},
        change,
        enroll::Inbound,
        face::Face,
        proven::ProvenKey,
        refusal::{ForWhom, Malformed, Missing, Refusal},
    },
    flow::{admit::admit, shell::Shell},
    limits::REQUEST_TIME,
    ports::{
        metrics::Metrics,
        rate::{Class, Prefix, Rates},
    },
    registry::live::{CloseReason, Conn},
};

/// Room for the answer with a certificate and its chain, so that it need not be moved while it is written.
const REPLY_BYTES: usize = 4096;

/// Characters of an unknown member's name that are said back.
const QUERY_NAME_SHOWN: usize = 64;

/// What a handler gives back.
pub type Answer = Result<Response<Body>, Refusal>;

/// A boxed answer, as the table wants it.
pub type Boxed = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// What a row of the table does, for whom.
#[derive(Copy, Clone, Debug)]
pub enum Handler {
    /// For anybody who can connect.
    Anyone(fn(Call) -> Boxed),
    /// For whoever proves a key in the request, which the handler sees to.
    KeyHolder(fn(Call) -> Boxed),
    /// For a machine or a person with a certificate in use.
    Holder(fn(HolderCall) -> Boxed),
    /// For a machine with a certificate in use.
    Machine(fn(HolderCall) -> Boxed),
    /// For a person with a certificate in use.
    Person(fn(HolderCall) -> Boxed),
}

impl Handler {
    /// Who may call it.
    #[must_use]
    pub const fn callers(&self) -> Callers {
        match self {
            Self::Anyone(_) => Callers::Anyone,
            Self::KeyHolder(_) => Callers::KeyHolder,
            Self::Holder(_) => Callers::Holder,
            Self::Machine(_) => Callers::Machine,
            Self::Person(_) => Callers::Person,
        }
    }
}

/// One request that passed the table's checks.
pub struct Call {
    /// Everything.
    pub shell: Arc<Shell>,
    /// The connection.
    pub conn: Arc<Conn>,
    /// What the certificate is used for.
    pub intent: Use,
    /// Parameters in the path.
    pub path: HashMap<String, String>,
    /// The path itself.
    pub uri: String,
    /// Parameters in the query.
    pub query: HashMap<String, String>,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// Correlation id.
    pub instance: String,
}

impl Call {
    /// A request to join for a key that was proven, with all that is known of whoever asks by their connection.
    #[must_use]
    pub fn inbound(&self, key: ProvenKey) -> Inbound {
        Inbound {
            key,
            requester: self.conn.requester().clone(),
            wanted_name: None,
            pin: None,
            evidence: Vec::new(),
            ticket: None,
            attributes: BTreeMap::new(),
            source: self.conn.source(),
            prefix: Prefix::of(self.conn.source()).to_string(),
        }
    }

    /// What a header says, if it is there and plain text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// A parameter in the path; empty when there is none of that name.
    #[must_use]
    pub fn param(&self, name: &str) -> &str {
        self.path.get(name).map_or("", String::as_str)
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// [`Refusal::Malformed`] naming line and column.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Refusal> {
        wire::strict::from_slice(&self.body).map_err(|error| Refusal::Malformed(Malformed::Json(error.to_string())))
    }

    /// The size of page asked for.
    ///
    /// # Errors
    /// [`Refusal::Malformed`].
    pub fn limit(&self) -> Result<usize, Refusal> {
        let limit: usize = self.number("limit")?.unwrap_or(100);
        Ok(limit.clamp(1, wire::limits::PAGE_MAX))
    }

    /// A number in the query.
    ///
    /// # Errors
    /// [`Refusal::Malformed`].
    pub fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, Refusal> {
        let parse = |text: &String| text.parse().map_err(|_| Refusal::Malformed(Malformed::Number(name.to_owned())));
        self.query.get(name).map(parse).transpose()
    }
}

/// One request by the holder of a certificate in use.
pub struct HolderCall {
    call: Call,
    /// Who calls, as admitted for this request.
    pub caller: Box<Caller>,
    /// The certificate of the handshake.
    pub peer: Arc<Peer>,
}

impl Deref for HolderCall {
    type Target = Call;

    fn deref(&self) -> &Call {
        &self.call
    }
}

/// A JSON answer.
///
/// # Errors
/// Never for our own types.
pub fn json(status: StatusCode, body: &impl Serialize) -> Answer {
    typed(status, "application/json", change::json(body, REPLY_BYTES))
}

/// An answer of some media type.
///
/// # Errors
/// Never.
pub fn typed(status: StatusCode, kind: &'static str, body: impl Into<Body>) -> Answer {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    Ok(response)
}

/// A file that may be kept: for how long, and how to ask whether there is a newer one (RFC 9110 8.8, 13.1.2; RFC 9111 5.2).
#[derive(Clone, Debug)]
pub struct Kept {
    /// The media type.
    pub kind: &'static str,
    /// What the file says.
    pub body: Bytes,
    /// What tells it from any other version of it.
    pub version: String,
    /// When it was made.
    pub modified: pki::UnixTime,
    /// For how long it need not be asked for again.
    pub max_age: Duration,
}

/// The answer with a file that may be kept, or, to whoever has it, that it is still the newest.
///
/// # Errors
/// Never.
pub fn kept(file: Kept, if_none_match: Option<&str>) -> Answer {
    let tag = format!("\"{}\"", file.version);
    let has =
        |given: &str| given.split(',').map(str::trim).any(|one| one == "*" || one.trim_start_matches("W/") == tag);
    let (status, body) = match if_none_match {
        Some(given) if has(given) => (StatusCode::NOT_MODIFIED, Bytes::new()),
        Some(_) | None => (StatusCode::OK, file.body),
    };
    let mut response = typed(status, file.kind, body)?;
    let headers = response.headers_mut();
    let mut set = |name, text: String| HeaderValue::from_str(&text).map(|value| drop(headers.insert(name, value)));
    let _ = set(header::CACHE_CONTROL, format!("public, max-age={}", file.max_age.as_secs()));
    let _ = set(header::ETAG, tag);
    let _ = file.modified.http_date().map(|date| set(header::LAST_MODIFIED, date));
    Ok(response)
}

/// The router of one face.
pub fn router(shell: &Arc<Shell>, limiter: &Arc<Rates>, face: Face) -> Router {
    router_of(endpoints::all(), shell, limiter, face)
}

/// The router of one face, from a table of endpoints.
pub fn router_of(table: Vec<Endpoint>, shell: &Arc<Shell>, limiter: &Arc<Rates>, face: Face) -> Router {
    let mut router = Router::new();
    for endpoint in table.into_iter().filter(|endpoint| endpoint.face == face) {
        let Ok(filter) = MethodFilter::try_from(endpoint.method.clone()) else { continue };
        let endpoint = Arc::new(endpoint);
        let (shell, limiter) = (Arc::clone(shell), Arc::clone(limiter));
        let path = endpoint.path;
        let handler = move |params: Result<RawPathParams, RawPathParamsRejection>, request: Request| {
            let (endpoint, shell, limiter) = (Arc::clone(&endpoint), Arc::clone(&shell), Arc::clone(&limiter));
            async move { answer(&endpoint, shell, &limiter, params.ok(), request).await }
        };
        router = router.route(path, on(filter, handler));
    }
    let astray = |status: StatusCode| {
        let (shell, limiter) = (Arc::clone(shell), Arc::clone(limiter));
        move |request: Request| async move { astray(&shell, &limiter, face, status, &request) }
    };
    router.fallback(astray(StatusCode::NOT_FOUND)).method_not_allowed_fallback(astray(StatusCode::METHOD_NOT_ALLOWED))
}

/// What a request is answered instead of what it asks for. Goes with the request as an extension.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Instead {
    /// Its connection is being cut.
    Ended(CloseReason),
    /// It is no request.
    Malformed(BadFraming),
}

/// Whose dialect is spoken where no row of the table says it.
const ASTRAY: (&dyn Front, Content) = (&Native, Content::Data);

/// Answers for a path or method that is not in the table. Limited and counted like the rest, or it would be the one thing
/// that anybody may ask for at any rate.
fn astray(shell: &Shell, limiter: &Rates, face: Face, status: StatusCode, request: &Request) -> Response<Body> {
    let instance = hex::encode(shell.entropy.bytes::<8>());
    let started = tokio::time::Instant::now();
    let class = if face.row().is_open() { Class::Poll } else { Class::Machine };
    if let Some(instead) = request.extensions().get::<Instead>() {
        let response = match *instead {
            Instead::Ended(reason) => Native.ended(reason, &instance),
            // The guard has logged it.
            Instead::Malformed(why) => Native.refused(&why.into(), &instance),
        };
        return finished(response, &instance, &shell.metrics, (face, "none", Content::Data), started);
    }
    let conn = request.extensions().get::<Arc<Conn>>();
    let response = match conn.map_or(Ok(()), |conn| limiter.check(class, conn.source())) {
        Err(limited) => refuse(ASTRAY, &limited.into(), &instance),
        Ok(()) if status == StatusCode::METHOD_NOT_ALLOWED => refuse(ASTRAY, &Refusal::Method, &instance),
        Ok(()) => refuse(ASTRAY, &Refusal::NotFound(Missing::Endpoint), &instance),
    };
    finished(response, &instance, &shell.metrics, (face, "none", Content::Data), started)
}

/// What every answer carries, and its count.
fn finished(
    mut response: Response<Body>,
    instance: &str,
    metrics: &Metrics,
    (face, endpoint, content): (Face, &str, Content),
    started: tokio::time::Instant,
) -> Response<Body> {
    if let Ok(value) = HeaderValue::from_str(instance) {
        response.headers_mut().insert("lychgate-instance", value);
    }
    content.mark(response.headers_mut());
    metrics.request(face.as_str(), endpoint, response.status().as_u16(), started.elapsed());
    response
}

async fn answer(
    endpoint: &Endpoint,
    shell: Arc<Shell>,
    limiter: &Rates,
    params: Option<RawPathParams>,
    request: Request,
) -> Response<Body> {
    let instance = hex::encode(shell.entropy.bytes::<8>());
    let started = tokio::time::Instant::now();
    let metrics = Arc::clone(&shell.metrics);
    let time = REQUEST_TIME + Duration::from_secs(wire::limits::WAIT_MAX_SECS);
    let outcome = tokio::time::timeout(time, checked(endpoint, shell, limiter, params, request, &instance)).await;
    let response = match outcome {
        Ok(Ok(response)) => response,
        Ok(Err(refusal)) => refuse((endpoint.front, endpoint.content), &refusal, &instance),
        Err(_) => refuse((endpoint.front, endpoint.content), &Refusal::TooSlow(time.as_secs()), &instance),
    };
    finished(response, &instance, &metrics, (endpoint.face, endpoint.path, endpoint.content), started)
}

fn refuse((front, content): (&dyn Front, Content), refusal: &Refusal, instance: &str) -> Response<Body> {
    match refusal {
        Refusal::Ours(fault) => tracing::error!(instance, %fault, "request failed"),
        // What anybody can cause at any rate must not fill the log.
        Refusal::TooFast { .. } | Refusal::NotFound(_) | Refusal::Method => {
            tracing::debug!(instance, %refusal, "request refused")
        }
        other => tracing::info!(instance, refusal = %other, "request refused"),
    }
    content.refused(front, refusal, instance)
}

async fn checked(
    endpoint: &Endpoint,
    shell: Arc<Shell>,
    limiter: &Rates,
    params: Option<RawPathParams>,
    request: Request,
    instance: &str,
) -> Answer {
    let (parts, body) = request.into_parts();
    let Some(conn) = parts.extensions.get::<Arc<Conn>>().cloned() else {
        return Err(Refusal::WrongCaller(ForWhom::Connections));
    };
    limiter.check(endpoint.rate, conn.source())?;
    // Before a certificate is looked at, whose first use changes something.
    headers::check(&parts.headers, endpoint.changes, endpoint.front)?;
    let params = params.ok_or(Refusal::Malformed(Malformed::Path))?;
    let query = query(parts.uri.query().unwrap_or_default(), endpoint.query)?;
    let dispatch = dispatch(endpoint.run, endpoint.intent, &shell, &conn, instance).await?;
    let body_max = match endpoint.carries {
        Carries::Evidence => endpoint.body_max.max(shell.settings.load().attestors.body_max()),
        Carries::Nothing => endpoint.body_max,
    };
    let body = if body_max == 0 { Bytes::new() } else { read(body, body_max).await? };
    let call = Call {
        shell,
        conn,
        intent: endpoint.intent,
        path: params.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        uri: parts.uri.path().to_owned(),
        headers: parts.headers,
        query,
        body,
        instance: instance.to_owned(),
    };
    match dispatch {
        Dispatch::Open(run) => run(call).await,
        Dispatch::Held(run, caller, peer) => run(HolderCall { call, caller, peer }).await,
    }
}

/// A handler, with whoever it is for.
enum Dispatch {
    Open(fn(Call) -> Boxed),
    Held(fn(HolderCall) -> Boxed, Box<Caller>, Arc<Peer>),
}

/// Lets in whom a row is for.
async fn dispatch(run: Handler, intent: Use, shell: &Shell, conn: &Conn, instance: &str) -> Result<Dispatch, Refusal> {
    let (run, role) = match run {
        Handler::Anyone(run) | Handler::KeyHolder(run) => return Ok(Dispatch::Open(run)),
        Handler::Holder(run) => (run, None),
        Handler::Machine(run) => (run, Some((Role::Machine, ForWhom::Machines))),
        Handler::Person(run) => (run, Some((Role::Person, ForWhom::People))),
    };
    let peer = conn.requester().ours().ok_or(Refusal::WrongCaller(ForWhom::Holders))?;
    match role {
        Some((role, whom)) if peer.identity.role != role => Err(Refusal::WrongCaller(whom)),
        Some(_) | None => Ok(Dispatch::Held(run, admit(shell, peer, intent, instance).await?, Arc::clone(peer))),
    }
}

async fn read(body: Body, max: usize) -> Result<Bytes, Refusal> {
    // Before any of it is asked for: a client that waits for `100 Continue` (RFC 9110 10.1.1) need not send it.
    if hyper::body::Body::size_hint(&body).lower() > max as u64 {
        return Err(Refusal::TooLarge { max });
    }
    match Limited::new(body, max).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => Err(Refusal::TooLarge { max }),
        Err(error) if is_late(&*error) => Err(Refusal::Unfinished),
        Err(_) => Err(Refusal::Malformed(Malformed::Body)),
    }
}

/// Whether a body ended because its time did.
fn is_late(error: &(dyn std::error::Error + 'static)) -> bool {
    let io = error.downcast_ref::<std::io::Error>();
    io.is_some_and(|io| io.kind() == std::io::ErrorKind::TimedOut) || error.source().is_some_and(is_late)
}

/// The members of a query: those that the endpoint knows, each once.
fn query(text: &str, known: &[&str]) -> Result<HashMap<String, String>, Refusal> {
    let pairs: Vec<(String, String)> =
        serde_urlencoded::from_str(text).map_err(|_| Refusal::Malformed(Malformed::Query))?;
    let mut query = HashMap::new();
    for (name, value) in pairs {
        if !known.contains(&name.as_str()) {
            return Err(Refusal::Malformed(unknown(&name, known)));
        }
        if query.insert(name.clone(), value).is_some() {
            return Err(Refusal::Malformed(Malformed::QueryTwice(name)));
        }
    }
    Ok(query)
}

fn unknown(name: &str, known: &[&str]) -> Malformed {
    let shown: String = name.chars().take(QUERY_NAME_SHOWN).map(|c| if c.is_control() { '?' } else { c }).collect();
    let instead = match (policy::did_you_mean(&shown, known.iter().copied()), known) {
        (Some(guess), _) => guess,
        (None, []) => "this endpoint takes none".to_owned(),
        (None, known) => format!("this endpoint takes `{}`", known.join("`, `")),
    };
    Malformed::QueryUnknown { name: shown, instead }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, known: &[&str], want: Result<&[(&str, &str)], &str>) {
        let owned = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let want = want.map(owned).map_err(str::to_owned);
        assert_eq!(query(text, known).map_err(|refusal| refusal.to_string()), want, "{text}");
    }

    #[test]
    fn queries() {
        let known = &["machine", "after", "limit"][..];
        check("", known, Ok(&[]));
        check("machine=m-1&limit=5", known, Ok(&[("machine", "m-1"), ("limit", "5")]));
        check("machin=m-1", known, Err("unknown parameter `machin` in the query; did you mean `machine`?"));
        check("Machine=m-1", known, Err("unknown parameter `Machine` in the query; did you mean `machine`?"));
        let takes = "this endpoint takes `machine`, `after`, `limit`";
        check("x=1", known, Err(&format!("unknown parameter `x` in the query; {takes}")));
        check("=1", known, Err(&format!("unknown parameter `` in the query; {takes}")));
        check("wait=1", &[], Err("unknown parameter `wait` in the query; this endpoint takes none"));
        check("after=1&after=2", known, Err("`after` is in the query twice"));
        check(
            &"y".repeat(500),
            &[],
            Err(&format!("unknown parameter `{}` in the query; this endpoint takes none", "y".repeat(64))),
        );
    }
}
