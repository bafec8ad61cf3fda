//! Contents of the files in the identity folder. Other programs on the machine read them: fields are only ever added.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The version written into every file.
pub const VERSION: u32 = 1;

/// `current/identity.json`: the facts of one certificate, which never change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// [`VERSION`].
    pub version: u32,
    /// The SPIFFE ID.
    pub identity: String,
    /// `machine` or `person`.
    pub role: String,
    /// The name within the role.
    pub name: String,
    /// The trust domain.
    pub trust_domain: String,
    /// Id of the enrollment or lineage.
    pub id: String,
    /// Serial number, hex.
    pub serial: String,
    /// SHA-256 of the public key, hex.
    pub key: String,
    /// Start of validity, seconds since the Unix epoch, like all times here.
    pub not_before: u64,
    /// End of validity.
    pub not_after: u64,
    /// Earliest time to renew.
    pub renew_after: u64,
    /// Time by which renewal should have succeeded.
    pub renew_by: u64,
    /// `host:port` of the enroll face.
    pub gateway: String,
    /// `host:port` of the manage face.
    pub manage: String,
    /// The pin of the root at first contact, hex.
    pub pin: String,
    /// When it was issued, by the gateway's clock.
    pub received: u64,
    /// The greatest [`pki::Order`] accepted from the gateway when it was issued.
    #[serde(default)]
    pub order: u64,
    /// The requested name, when the approver assigned another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wanted_name: Option<String>,
}

/// `state.json`: the facts of the certificate in use and the state of the contact with the gateway. Only `lychgate` writes it, any
/// program may read it. If it is lost, only the information about the last contact is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The certificate in use.
    #[serde(flatten)]
    pub facts: Facts,
    /// Seconds to add to the local clock to get the gateway's.
    #[serde(default)]
    pub clock_offset: i64,
    /// When the gateway last answered, by its clock.
    #[serde(default)]
    pub last_contact: Option<u64>,
    /// The current problem with the gateway, if there is one.
    #[serde(default)]
    pub trouble: Option<Trouble>,
    /// `host:port` of the gateway's proxy face, as of the last contact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<String>,
    /// The name that the machine gets at its next renewal, as of the last contact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renaming: Option<String>,
    /// The kinds of evidence that a renewal may carry, as of the last contact. Empty for an older gateway, which refuses all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<String>,
    /// Written by `lychgate run`, which may have ended since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunState>,
}

/// A problem with the contact to the gateway or with renewal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// A stable code, such as `unreachable` or `locked`.
    pub code: String,
    /// A sentence for people.
    pub what: String,
    /// Time of the first failure, by the gateway's clock as far as known.
    pub since: u64,
    /// Number of failed attempts since then.
    pub failures: u32,
    /// Whether the gateway refuses until a person changes that, for example by lifting a lock.
    #[serde(default)]
    pub locked: bool,
}

/// `pending.json`: an unfinished enrollment. It may contain a join token, so it is as secret as the key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// [`VERSION`].
    pub version: u32,
    /// `host:port` of the enroll face.
    pub gateway: String,
    /// The root's pin, hex.
    pub pin: String,
    /// The join token for the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// The requested name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Self-reported attributes.
    #[serde(default)]
    pub attributes: BTreeMap<String, String>,
    /// When `join` began it.
    pub created: u64,
    /// Present once the gateway has recorded the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<RequestAtGate>,
    /// Present when a person has denied it: `run` does not send it again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub denied: Option<Denied>,
    /// Why the last attempt failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<Trouble>,
}

/// The denial of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Denied {
    /// When the client received it, by the local clock.
    pub at: u64,
    /// The gateway's message.
    pub what: String,
}

/// State of `lychgate run`; valid while its process holds `run.lock`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunState {
    /// Its process id.
    pub pid: u32,
    /// When it started, by the local clock.
    pub since: u64,
    /// The services that it exposes, each with its mode.
    #[serde(default)]
    pub exposes: Vec<String>,
    /// The services on other machines that it offers locally.
    #[serde(default)]
    pub reaches: Vec<String>,
    /// Its tunnel; absent for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tunnel: Option<TunnelState>,
}

/// State of the tunnel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TunnelState {
    /// Whether it is established, so that services of this machine can be reached.
    pub up: bool,
    /// When it came up or went down, by the local clock.
    pub since: u64,
    /// Why it is down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// A request that the gateway has recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestAtGate {
    /// The id of the enrollment.
    pub id: String,
    /// SHA-256 of its public key, hex. The request can be polled only with this key.
    pub key: String,
    /// The waiting code.
    pub code: String,
    /// When it expires, by the gateway's clock.
    pub expires: u64,
}

impl std::fmt::Debug for Pending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pending")
            .field("gateway", &self.gateway)
            .field("has_token", &self.token.is_some())
            .field("request", &self.request)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
impl Facts {
    /// An identity for a day from 100,000.
    pub(crate) fn example() -> Self {
        Self {
            version: VERSION,
            identity: "spiffe://td.example/machine/edge-07".into(),
            role: "machine".into(),
            name: "edge-07".into(),
            trust_domain: "td.example".into(),
            id: "e1".into(),
            serial: "01".repeat(16),
            key: "ab".repeat(32),
            not_before: 99_700,
            not_after: 186_400,
            renew_after: 143_200,
            renew_by: 164_800,
            gateway: "gw.example:443".into(),
            manage: "gw.example:8443".into(),
            pin: "cd".repeat(32),
            received: 100_000,
            order: 0,
            wanted_name: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_from_the_future_are_ignored_and_missing_ones_have_meanings() {
        let mut value = serde_json::to_value(Facts::example()).unwrap();
        value["from_the_future"] = true.into();
        let state: State = serde_json::from_value(value).unwrap();
        assert_eq!(state.facts, Facts::example());
        assert_eq!((state.clock_offset, state.last_contact, state.trouble), (0, None, None));
    }

    #[test]
    fn a_pending_request_never_shows_its_token() {
        let pending = Pending {
            version: VERSION,
            gateway: "gw:1".into(),
            pin: String::new(),
            token: Some("eyJsecret".into()),
            name: None,
            attributes: BTreeMap::new(),
            created: 0,
            request: None,
            denied: None,
            trouble: None,
        };
        assert!(!format!("{pending:?}").contains("secret"));
    }
}
