//! The configuration file, deserialized. `gateway.example.toml` has the meaning and default of each key.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;

/// A string and its position in the file.
pub(super) type RawText = Spanned<String>;

/// A number and its position in the file.
pub(super) type Count = Spanned<u64>;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawConfig {
    pub trust_domain: Option<RawText>,
    pub name: Option<RawText>,
    pub data_dir: Option<RawText>,
    #[serde(default)]
    pub listen: RawListen,
    #[serde(default)]
    pub names: RawNames,
    #[serde(default)]
    pub public: RawPublic,
    #[serde(default)]
    pub store: RawStore,
    #[serde(default)]
    pub policy: RawPolicy,
    #[serde(default)]
    pub ca: RawCa,
    #[serde(default)]
    pub enroll: RawEnroll,
    pub attest: Option<BTreeMap<Spanned<String>, toml::Table>>,
    #[serde(default)]
    pub audit: RawAudit,
    #[serde(default)]
    pub log: RawLog,
    #[serde(default)]
    pub limits: RawLimits,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawListen {
    pub enroll: Option<RawText>,
    pub manage: Option<RawText>,
    pub proxy: Option<RawText>,
    pub shared: Option<RawText>,
    pub proxy_protocol_from: Option<Vec<RawText>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawNames {
    pub enroll: Option<Vec<RawText>>,
    pub manage: Option<Vec<RawText>>,
    pub proxy: Option<Vec<RawText>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPublic {
    pub enroll: Option<RawText>,
    pub manage: Option<RawText>,
    pub proxy: Option<RawText>,
    pub dial_back: Option<RawText>,
    pub crl: Option<RawText>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawStore {
    pub engine: Option<RawText>,
    pub path: Option<RawText>,
    pub cache_mib: Option<Count>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPolicy {
    pub files: Option<Vec<RawText>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawCa {
    pub passphrase_file: Option<RawText>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawEnroll {
    pub pending_ttl: Option<RawText>,
    pub pending_max: Option<Count>,
    pub pending_max_per_prefix: Option<Count>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawAudit {
    pub retention: Option<RawText>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLog {
    pub format: Option<RawText>,
    pub level: Option<RawText>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLimits {
    pub connections: Option<Count>,
    pub connections_per_prefix: Option<Count>,
    pub connections_enroll: Option<Count>,
    pub connections_enroll_per_prefix: Option<Count>,
    pub handshakes: Option<Count>,
    pub handshakes_per_prefix: Option<Count>,
    pub tunnels_per_second: Option<Count>,
    pub certificates_per_life: Option<Count>,
    pub handshake_time: Option<RawText>,
    pub head_time: Option<RawText>,
    pub body_time: Option<RawText>,
    pub idle_enroll: Option<RawText>,
    pub idle_manage: Option<RawText>,
    pub write_stall: Option<RawText>,
    pub drain_time: Option<RawText>,
    pub anonymous_per_prefix: Option<RawText>,
    pub anonymous_total: Option<RawText>,
    pub poll_per_prefix: Option<RawText>,
    pub poll_total: Option<RawText>,
    pub machine_per_prefix: Option<RawText>,
    pub machine_total: Option<RawText>,
    pub person_per_prefix: Option<RawText>,
    pub person_total: Option<RawText>,
    pub connect_per_prefix: Option<RawText>,
    pub connect_total: Option<RawText>,
    pub health_per_prefix: Option<RawText>,
    pub health_total: Option<RawText>,
}
