//! Requests to the manage face, with the certificate of a machine or person.

use serde::Serialize;
use serde::de::DeserializeOwned;
use wire::enroll::IssuedReply;
use wire::manage::RenewRequest;

use super::keystore::Credential;
use super::net::{CallError, Connection, HttpReply, HttpRequest, NetError, TlsClient};
use super::verifier::GatewayVerifier;
use crate::core::enrollment::Challenge;
use crate::core::proof::Exporter;
use crate::core::target::Address;
use crate::core::trust::GatewayCertificate;

/// The manage face, with one connection that is reused while it is open.
pub struct ManageFace {
    address: Address,
    manners: TlsClient,
    connection: Option<Connection>,
}

impl ManageFace {
    /// As the holder of `credential`.
    pub fn new(credential: &Credential) -> Result<Self, NetError> {
        let verifier = GatewayVerifier::new(credential.expected(), credential.manage.host());
        Ok(Self {
            address: credential.manage.clone(),
            manners: TlsClient::identified(verifier, credential)?,
            connection: None,
        })
    }

    /// Where it is.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The gateway's certificate in the last handshake.
    #[must_use]
    pub fn shown(&self) -> Option<GatewayCertificate> {
        self.manners.shown()
    }

    /// The exporter value of the connection that the next request will use, for a proof bound to it. If that connection breaks
    /// before the request, the gateway refuses the proof and the caller must make another.
    pub async fn exporter(&mut self) -> Result<Exporter, CallError> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => Connection::open(&self.address, &self.manners).await?,
        };
        let exporter = *connection.exporter();
        self.connection = Some(connection);
        Ok(exporter)
    }

    /// `GET`.
    pub async fn get<T: DeserializeOwned>(&mut self, path: &str) -> Result<T, CallError> {
        self.call(HttpRequest { method: "GET", path, proof: None, body: None }).await
    }

    /// `POST`.
    pub async fn post<T: DeserializeOwned>(&mut self, path: &str, body: &impl Serialize) -> Result<T, CallError> {
        let body = serde_json::to_vec(body).map_err(|e| NetError::Setup(e.to_string()))?;
        self.call(HttpRequest { method: "POST", path, proof: None, body: Some(body) }).await
    }

    /// `PATCH`.
    pub async fn patch<T: DeserializeOwned>(&mut self, path: &str, body: &impl Serialize) -> Result<T, CallError> {
        let body = serde_json::to_vec(body).map_err(|e| NetError::Setup(e.to_string()))?;
        self.call(HttpRequest { method: "PATCH", path, proof: None, body: Some(body) }).await
    }

    /// `DELETE`.
    pub async fn delete<T: DeserializeOwned>(&mut self, path: &str) -> Result<T, CallError> {
        self.call(HttpRequest { method: "DELETE", path, proof: None, body: None }).await
    }

    /// Asks for a renewal.
    pub async fn renew(&mut self, request: &RenewRequest) -> Result<RenewalReply, CallError> {
        let body = serde_json::to_vec(request).map_err(|e| NetError::Setup(e.to_string()))?;
        let reply = self.send(HttpRequest { method: "POST", path: "/v1/renew", proof: None, body: Some(body) }).await?;
        match reply.challenge() {
            Some(challenge) => Ok(RenewalReply::Challenge(challenge)),
            None => reply.decode(&self.address).map(|issued| RenewalReply::Issued(Box::new(issued))),
        }
    }

    async fn call<T: DeserializeOwned>(&mut self, ask: HttpRequest<'_>) -> Result<T, CallError> {
        let reply = self.send(ask).await?;
        reply.decode(&self.address)
    }

    async fn send(&mut self, ask: HttpRequest<'_>) -> Result<HttpReply, CallError> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => Connection::open(&self.address, &self.manners).await?,
        };
        let reply = connection.call(ask).await?;
        self.connection = Some(connection);
        Ok(reply)
    }
}

/// The reply to a renewal.
pub enum RenewalReply {
    /// A certificate.
    Issued(Box<IssuedReply>),
    /// Attestors of the gateway have challenges.
    Challenge(Challenge),
}

/// Percent-encodes a path segment (RFC 3986 2.1).
#[must_use]
pub fn segment(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'~' => out.push(char::from(byte)),
            // `.` and `..` as segments change the path (RFC 3986 5.2.4).
            b'.' if text.bytes().any(|b| b != b'.') => out.push('.'),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// A query string of the parameters that have a value.
#[must_use]
pub fn query(parameters: &[(&str, Option<String>)]) -> String {
    let pairs: Vec<String> = parameters
        .iter()
        .filter_map(|(name, value)| value.as_ref().map(|value| format!("{name}={}", segment(value))))
        .collect();
    if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_cannot_leave_their_place() {
        for (text, want) in [
            ("edge-07", "edge-07"),
            ("a/b", "a%2Fb"),
            ("..", "%2E%2E"),
            ("a.b", "a.b"),
            ("x?y#z", "x%3Fy%23z"),
            ("a b\r\n", "a%20b%0D%0A"),
            ("ä", "%C3%A4"),
        ] {
            assert_eq!(segment(text), want);
        }
    }

    #[test]
    fn queries_leave_out_what_is_not_asked() {
        assert_eq!(query(&[("a", None)]), "");
        assert_eq!(query(&[("a", None), ("b", Some("x y".into())), ("c", Some("1".into()))]), "?b=x%20y&c=1");
    }
}
