//! What the files of the identity folder say. Their names and fields are a promise to other programs on the machine:
//! fields are only ever added.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The version written into every file.
pub const VERSION: u32 = 1;

/// `current/identity.json`: what is true of one certificate for as long as it exists.
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
    /// The enrollment or lineage.
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
    /// The root's pin given at first contact, hex.
    pub pin: String,
    /// When it was issued, by the gateway's clock.
    pub received: u64,
    /// The greatest order of what the gateway vouched for that was heard when it was issued.
    #[serde(default)]
    pub order: u64,
    /// The name that was asked for, when an approver gave it another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wanted_name: Option<String>,
}

/// `state.json`: the facts of the certificate in use and how things stand with the gateway. Written by us, for anybody to
/// read; when it is lost, nothing is lost but the memory of the last contact.
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
    /// What stands in the way, if anything.
    #[serde(default)]
    pub trouble: Option<Trouble>,
    /// `host:port` of the gateway's proxy face, as last heard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<String>,
    /// The name that the gateway wants it to take with its next renewal, as last heard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renaming: Option<String>,
    /// The kinds of evidence that a renewal may carry, as the gateway last said; an older one says none and refuses them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<String>,
    /// What `lychgate run` wrote; it may have ended since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunState>,
}

/// What stands in the way of looking or renewing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// A stable code, such as `unreachable` or `locked`.
    pub code: String,
    /// In words.
    pub what: String,
    /// Since when, by the gateway's clock as far as known.
    pub since: u64,
    /// Attempts that failed since.
    pub failures: u32,
    /// Whether the gateway refuses on purpose, until a person changes that.
    #[serde(default)]
    pub locked: bool,
}

/// `pending.json`: a request to join that is not finished. It may hold a join token, so it is as secret as the key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// [`VERSION`].
    pub version: u32,
    /// `host:port` of the enroll face.
    pub gateway: String,
    /// The root's pin, hex.
    pub pin: String,
    /// The join token to show.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// The wanted name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What we say about ourselves.
    #[serde(default)]
    pub attributes: BTreeMap<String, String>,
    /// When it was begun.
    pub created: u64,
    /// The request at the gate, once the gateway has recorded it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<RequestAtGate>,
    /// A person has turned it away: it is not asked again by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub denied: Option<Denied>,
    /// Why the last attempt came to nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<Trouble>,
}

/// What a person decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Denied {
    /// When we heard of it, by our clock.
    pub at: u64,
    /// In the gateway's words.
    pub what: String,
}

/// What `lychgate run` does and has heard; true for as long as its process holds the lock of the folder.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunState {
    /// Its process.
    pub pid: u32,
    /// Since when, by the clock of this machine.
    pub since: u64,
    /// The services that it exposes, each with its mode.
    #[serde(default)]
    pub exposes: Vec<String>,
    /// The services elsewhere that it offers here.
    #[serde(default)]
    pub reaches: Vec<String>,
    /// Its tunnel; a person has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tunnel: Option<TunnelState>,
}

/// How the tunnel stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TunnelState {
    /// Whether it is established: people reach the services of this machine.
    pub up: bool,
    /// Since when, by the clock of this machine.
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
    /// SHA-256 of its public key, hex: a request by another key is not ours to ask about.
    pub key: String,
    /// The waiting code as shown.
    pub code: String,
    /// When it lapses, by the gateway's clock.
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
