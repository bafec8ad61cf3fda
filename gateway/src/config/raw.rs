//! What the configuration file says, as it says it. Each key's meaning and default stand in `gateway.example.toml`.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;

/// A string, with where it stands.
pub(super) type Text = Spanned<String>;

/// A count, with where it stands.
pub(super) type Count = Spanned<u64>;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawConfig {
    pub trust_domain: Option<Text>,
    pub data_dir: Option<Text>,
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
    pub enroll: Option<Text>,
    pub manage: Option<Text>,
    pub proxy: Option<Text>,
    pub shared: Option<Text>,
    pub proxy_protocol_from: Option<Vec<Text>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawNames {
    pub enroll: Option<Vec<Text>>,
    pub manage: Option<Vec<Text>>,
    pub proxy: Option<Vec<Text>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPublic {
    pub enroll: Option<Text>,
    pub manage: Option<Text>,
    pub proxy: Option<Text>,
    pub crl: Option<Text>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawStore {
    pub engine: Option<Text>,
    pub path: Option<Text>,
    pub cache_mib: Option<Count>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPolicy {
    pub files: Option<Vec<Text>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawCa {
    pub passphrase_file: Option<Text>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawEnroll {
    pub pending_ttl: Option<Text>,
    pub pending_max: Option<Count>,
    pub pending_max_per_prefix: Option<Count>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawAudit {
    pub retention: Option<Text>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLog {
    pub format: Option<Text>,
    pub level: Option<Text>,
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
    pub handshake_time: Option<Text>,
    pub head_time: Option<Text>,
    pub body_time: Option<Text>,
    pub idle_enroll: Option<Text>,
    pub idle_manage: Option<Text>,
    pub write_stall: Option<Text>,
    pub drain_time: Option<Text>,
    pub anonymous_per_prefix: Option<Text>,
    pub anonymous_total: Option<Text>,
    pub poll_per_prefix: Option<Text>,
    pub poll_total: Option<Text>,
    pub machine_per_prefix: Option<Text>,
    pub machine_total: Option<Text>,
    pub person_per_prefix: Option<Text>,
    pub person_total: Option<Text>,
    pub connect_per_prefix: Option<Text>,
    pub connect_total: Option<Text>,
    pub health_per_prefix: Option<Text>,
    pub health_total: Option<Text>,
}
