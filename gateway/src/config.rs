//! The configuration: [`raw`] has the values as in the file, [`Config`] the parsed ones with all defaults. `gateway.example.toml`
//! explains every key.

mod raw;
mod read;
pub mod reload;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use pki::{GatewayName, ListsUrl, Name, TrustDomain};
use thiserror::Error;
use toml::Spanned;

use self::{
    raw::{RawConfig, RawLimits, RawListen, RawNames, RawPublic, RawText},
    read::SourceFile,
};
use crate::{
    attest::Attestors,
    core::{
        evidence::{Section, Sections},
        face::{Face, FaceNames},
        network::Network,
    },
    limits::{ClassLimits, Limits, RateLimits},
    ports::{
        files::{self, FileError},
        log::{self, Log, LogFormat},
    },
    store::Engine,
};

/// Why the configuration does not load.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("the configuration {0}")]
    File(#[from] FileError),
    /// The file has no text.
    #[error("`{file}` is empty; start from gateway.example.toml")]
    Empty {
        /// The file.
        file: PathBuf,
    },
    /// The last line has no line break, so the file may be truncated.
    #[error(
        "`{file}` ends in the middle of line {line}; was it cut short? end the last line with a line break if it is whole"
    )]
    Truncated {
        /// The file.
        file: PathBuf,
        /// Number of the last line, from 1.
        line: usize,
    },
    /// Not TOML, or an unknown key.
    #[error("{file}:{line}: near `{near}`: {message}")]
    Syntax {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The key or the start of the line, without the value.
        near: String,
        /// The parser's message.
        message: String,
    },
    /// A value is invalid.
    #[error("{file}:{line}: `{key}`: {what}; {fix}")]
    Value {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// As `section.key`.
        key: &'static str,
        /// Why it is invalid.
        what: String,
        /// What to write instead.
        fix: &'static str,
    },
    /// A required key is missing.
    #[error("{file}: `{key}` is missing; {fix}")]
    Missing {
        /// The file.
        file: PathBuf,
        /// As `section.key`.
        key: &'static str,
        /// What to write.
        fix: &'static str,
    },
}

/// The parsed configuration. Paths are resolved, defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Cannot be changed after `init`.
    pub trust_domain: TrustDomain,
    /// Name of this gateway, unique among the gateways with the same store. Its own certificate carries it.
    pub name: Name,
    /// Folder of the keys and, by default, the store.
    pub data_dir: PathBuf,
    /// Addresses of the faces.
    pub listen: Listen,
    /// Load balancers that send a PROXY protocol header before TLS.
    pub proxy_protocol_from: Vec<Network>,
    /// Names of each face, for SNI and the gateway's certificate.
    pub names: FaceNames,
    /// Addresses that clients are told.
    pub public: Public,
    /// Engine and folder of the records.
    pub store: StoreConfig,
    /// Policy files, read as one policy. By default the file that `init` writes.
    pub policy_files: Vec<PathBuf>,
    /// File with the passphrase of the CA keys.
    pub passphrase_file: PathBuf,
    /// Limits of waiting requests.
    pub enroll: Enroll,
    /// Sections `[attest.<kind>]`.
    pub attest: Sections,
    /// How long audit events are kept.
    pub audit_retention: Duration,
    /// Format and level.
    pub log: Log,
    /// Limits of connections and requests.
    pub limits: Limits,
}

/// Addresses to listen on.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// Each face has its own port.
    Separate {
        /// Of the enroll face.
        enroll: SocketAddr,
        /// Of the manage face.
        manage: SocketAddr,
        /// Of the proxy face; without one, people cannot connect to machines.
        proxy: Option<SocketAddr>,
    },
    /// One port; the SNI selects the face.
    Shared(SocketAddr),
}

/// Addresses that clients are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Public {
    /// Of the enroll face.
    pub enroll: HostPort,
    /// Of the manage face.
    pub manage: HostPort,
    /// Of the proxy face, if there is one.
    pub proxy: Option<HostPort>,
    /// Where dial-backs to this gateway connect; without it, to the address where the tunnel or the helper's connection is.
    pub dial_back: Option<HostPort>,
    /// Of the CRLs; without it certificates have no `cRLDistributionPoints` (RFC 5280 4.2.1.13).
    pub crl: Option<ListsUrl>,
}

/// A DNS name or IP address, and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// DNS name or IP address.
    pub host: GatewayName,
    /// 0 means any free port, chosen at start.
    pub port: u16,
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            GatewayName::Dns(name) => write!(f, "{name}:{}", self.port),
            GatewayName::Ip(address) => SocketAddr::new(*address, self.port).fmt(f),
        }
    }
}

/// Settings of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreConfig {
    /// Must be the engine that created the folder.
    pub engine: Engine,
    /// Folder of the store.
    pub path: PathBuf,
    /// Size of the engine's cache, in bytes.
    pub cache_bytes: u64,
}

/// Limits of requests that wait for approval.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Enroll {
    /// How long a request may wait.
    pub pending_ttl: Duration,
    /// Most waiting requests.
    pub pending_max: usize,
    /// Most waiting requests from one source prefix.
    pub pending_max_per_prefix: usize,
}

const PENDING_TTL: Duration = Duration::from_hours(24);
/// A record of a waiting request takes some 4 kB: 40 MB at worst.
const PENDING_MAX: usize = 10_000;
/// A class room; a hundredth of the queue.
const PENDING_MAX_PER_PREFIX: usize = 100;
/// A year and a month, so that last year's audit can still be read when this year's is due.
const AUDIT_RETENTION: Duration = Duration::from_hours(400 * 24);
const CACHE_MIB: usize = 64;
/// Name of a gateway if the configuration gives none: the only one with its store.
const OWN_NAME: &str = "gateway";

impl Config {
    /// Reads a file. The only environment variable used is `CREDENTIALS_DIRECTORY`, in which a service manager puts secrets.
    ///
    /// # Errors
    /// [`ConfigError`]; its text names file, line, key and remedy.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
        let mut config = Self::parse_complete(&files::read_text(path)?, path, credentials.as_deref())?;
        // where `init` writes it if configuration and data have separate folders: the service gets it as a credential, and root
        // reads it here for the offline commands
        let beside = path.with_file_name("ca-passphrase");
        if config.passphrase_file == config.data_dir.join("ca-passphrase")
            && !files::exists(&config.passphrase_file)
            && files::exists(&beside)
        {
            config.passphrase_file = beside;
        }
        Ok(config)
    }

    /// Parses a file that must end with a line break: a truncated file often is valid TOML, with a shortened value or missing keys.
    fn parse_complete(text: &str, path: &Path, credentials: Option<&Path>) -> Result<Self, ConfigError> {
        if !text.is_empty() && !text.ends_with('\n') {
            return Err(ConfigError::Truncated { file: path.to_owned(), line: text.lines().count() });
        }
        Self::read(text, path, credentials)
    }

    /// Parses a text as if it were the file at `path`, without credentials of a service manager.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        Self::read(text, path, None)
    }

    fn read(text: &str, path: &Path, credentials: Option<&Path>) -> Result<Self, ConfigError> {
        if text.trim().is_empty() {
            return Err(ConfigError::Empty { file: path.to_owned() });
        }
        let r = SourceFile { path, text };
        let raw: RawConfig = toml::from_str(text).map_err(|error| r.syntax(&error))?;

        let domain = raw.trust_domain.ok_or_else(|| {
            r.missing("trust_domain", "write the name all identities lie under, such as \"kernel.example\"")
        })?;
        let data_dir = match &raw.data_dir {
            Some(raw) => r.path("data_dir", raw)?,
            None => r.folder(),
        };
        let listen = listen(&r, &raw.listen)?;
        let balancers = raw.listen.proxy_protocol_from.as_deref().unwrap_or_default();
        let balancers = r.list("listen.proxy_protocol_from", balancers, str::parse::<Network>, NETWORK_FIX)?;
        let names = names(&r, &raw.names, listen)?;
        let public = public(&r, &raw.public, &names, listen)?;
        let optional_path =
            |key, raw: Option<&RawText>, default: PathBuf| raw.map_or(Ok(default), |raw| r.path(key, raw));
        let default_passphrase = credentials.unwrap_or(&data_dir).join("ca-passphrase");
        let level = |text: &str| log::parse_level(text).map(|_| text.to_owned());
        Ok(Self {
            trust_domain: r.parse("trust_domain", &domain, TrustDomain::parse, DOMAIN_FIX)?,
            name: own_name(&r, raw.name.as_ref())?,
            listen,
            proxy_protocol_from: balancers,
            names,
            public,
            store: StoreConfig {
                engine: r.parse_or("store.engine", raw.store.engine.as_ref(), str::parse, ENGINE_FIX, Engine::Sled)?,
                path: optional_path("store.path", raw.store.path.as_ref(), data_dir.join("store"))?,
                cache_bytes: r.count("store.cache_mib", raw.store.cache_mib.as_ref(), CACHE_MIB)? as u64 * 1024 * 1024,
            },
            policy_files: match &raw.policy.files {
                None => vec![data_dir.join("policy/default.cedar")],
                Some(paths) => paths.iter().map(|raw| r.path("policy.files", raw)).collect::<Result<_, _>>()?,
            },
            passphrase_file: optional_path("ca.passphrase_file", raw.ca.passphrase_file.as_ref(), default_passphrase)?,
            enroll: Enroll {
                pending_ttl: r.duration("enroll.pending_ttl", raw.enroll.pending_ttl.as_ref(), PENDING_TTL)?,
                pending_max: r.count("enroll.pending_max", raw.enroll.pending_max.as_ref(), PENDING_MAX)?,
                pending_max_per_prefix: r.count(
                    "enroll.pending_max_per_prefix",
                    raw.enroll.pending_max_per_prefix.as_ref(),
                    PENDING_MAX_PER_PREFIX,
                )?,
            },
            attest: attest(&r, raw.attest.unwrap_or_default())?,
            audit_retention: r.duration("audit.retention", raw.audit.retention.as_ref(), AUDIT_RETENTION)?,
            log: Log {
                format: r.parse_or("log.format", raw.log.format.as_ref(), log_format, LOG_FIX, LogFormat::Human)?,
                level: r.parse_or("log.level", raw.log.level.as_ref(), level, LEVEL_FIX, "info".to_owned())?,
            },
            limits: limits(&r, &raw.limits)?,
            data_dir,
        })
    }
}

fn own_name(r: &SourceFile<'_>, raw: Option<&RawText>) -> Result<Name, ConfigError> {
    match raw {
        Some(raw) => r.parse("name", raw, Name::parse, OWN_NAME_FIX),
        None => Name::parse(OWN_NAME).map_err(|_| r.missing("name", OWN_NAME_FIX)),
    }
}

/// The sections of the attestors; each must build its attestor.
fn attest(r: &SourceFile<'_>, raw: BTreeMap<Spanned<String>, toml::Table>) -> Result<Sections, ConfigError> {
    let spans: BTreeMap<String, _> = raw.keys().map(|kind| (kind.get_ref().clone(), kind.span())).collect();
    let section =
        |(kind, values): (Spanned<String>, toml::Table)| (kind.into_inner(), Section { values, folder: r.folder() });
    let sections: Sections = raw.into_iter().map(section).collect();
    match Attestors::from(&sections) {
        Ok(_) => Ok(sections),
        Err((kind, bad)) => {
            let span = spans.get(&kind).cloned().unwrap_or_default();
            Err(r.bad("attest", &span, format!("`[attest.{kind}]`: {bad}"), ATTEST_FIX))
        }
    }
}

const ATTEST_FIX: &str = "gateway.example.toml has the section of each attestor with its keys";
const OWN_NAME_FIX: &str =
    "write a name as a machine's: lower-case letters, digits and inner hyphens, such as \"gw-a\"";
const DOMAIN_FIX: &str = "write a lower-case DNS-like name such as \"kernel.example\"";
const NETWORK_FIX: &str = "write an address or a network such as \"192.0.2.0/28\"";
const ADDRESS_FIX: &str = "write an address and port such as \"0.0.0.0:443\" or \"[::]:443\"";
const NAME_FIX: &str = "write a DNS name or an address such as \"join.kernel.example\"";
const HOST_PORT_FIX: &str = "write a name and port such as \"join.kernel.example:443\"";
const LISTS_FIX: &str = "write the address under which the lists lie, such as \"http://crl.kernel.example\"";
const ENGINE_FIX: &str = "write \"sled\", \"redb\" or \"memory\"";
const LOG_FIX: &str = "write \"human\" or \"json\"";
const LEVEL_FIX: &str = "write \"error\", \"warn\", \"info\", \"debug\" or \"trace\"";

fn log_format(text: &str) -> Result<LogFormat, &'static str> {
    match text {
        "human" => Ok(LogFormat::Human),
        "json" => Ok(LogFormat::Json),
        _ => Err("no such format"),
    }
}

fn listen(r: &SourceFile<'_>, raw: &RawListen) -> Result<Listen, ConfigError> {
    let address = |key, raw: &RawText| r.parse(key, raw, str::parse::<SocketAddr>, ADDRESS_FIX);
    match (&raw.shared, &raw.enroll, &raw.manage) {
        (Some(shared), None, None) if raw.proxy.is_none() => Ok(Listen::Shared(address("listen.shared", shared)?)),
        (Some(shared), _, _) => Err(r.bad(
            "listen.shared",
            &shared.span(),
            "it cannot stand beside `enroll`, `manage` or `proxy`",
            "keep either one shared port or the separate ones",
        )),
        (None, Some(enroll), Some(manage)) => {
            let span = manage.span();
            let (enroll, manage) = (address("listen.enroll", enroll)?, address("listen.manage", manage)?);
            if enroll == manage && enroll.port() != 0 {
                let fix = "use `shared` if both faces are to have one port";
                return Err(r.bad("listen.manage", &span, "it is the same as `enroll`", fix));
            }
            let proxy =
                raw.proxy.as_ref().map(|raw| address("listen.proxy", raw).map(|at| (raw.span(), at))).transpose()?;
            if let Some((span, proxy)) = &proxy
                && proxy.port() != 0
                && (*proxy == enroll || *proxy == manage)
            {
                let fix = "use `shared` if all faces are to have one port";
                return Err(r.bad("listen.proxy", span, "it is the same as another face's", fix));
            }
            Ok(Listen::Separate { enroll, manage, proxy: proxy.map(|(_, proxy)| proxy) })
        }
        (None, None, None) => Err(r.missing("listen", "write `shared`, or both `enroll` and `manage`, under [listen]")),
        (None, None, Some(_)) => Err(r.missing("listen.enroll", ADDRESS_FIX)),
        (None, Some(_), None) => Err(r.missing("listen.manage", ADDRESS_FIX)),
    }
}

fn names(r: &SourceFile<'_>, raw: &RawNames, listen: Listen) -> Result<FaceNames, ConfigError> {
    let read = |key, raw: &[RawText]| r.list(key, raw, GatewayName::parse, NAME_FIX);
    let enroll = read("names.enroll", raw.enroll.as_deref().unwrap_or_default())?;
    if enroll.is_empty() {
        return Err(r.missing("names.enroll", NAME_FIX));
    }
    let manage = raw.manage.as_deref().map(|raw| read("names.manage", raw)).transpose()?;
    let proxy = read("names.proxy", raw.proxy.as_deref().unwrap_or_default())?;
    if let Some((text, _)) = raw
        .proxy
        .iter()
        .flatten()
        .zip(&proxy)
        .find(|(_, name)| matches!(name, GatewayName::Dns(n) if n.starts_with('*')))
    {
        let fix = "write the name alone: the machines' services below it are understood";
        return Err(r.bad("names.proxy", &text.span(), "it has a `*`", fix));
    }
    match listen {
        Listen::Separate { proxy: listens, .. } => {
            let manage = manage.filter(|names| !names.is_empty()).unwrap_or_else(|| enroll.clone());
            let proxy = match (listens, proxy.is_empty()) {
                (Some(_), true) => manage.clone(),
                (Some(_), false) => proxy,
                (None, true) => vec![],
                (None, false) => return Err(r.missing("listen.proxy", ADDRESS_FIX)),
            };
            Ok(FaceNames { enroll, manage, proxy })
        }
        Listen::Shared(_) => {
            const FIX: &str =
                "on a shared port each face needs a DNS name of its own, by which connections are told apart";
            let manage = manage.unwrap_or_default();
            let has_dns = |names: &[GatewayName]| names.iter().any(|name| matches!(name, GatewayName::Dns(_)));
            if !has_dns(&manage) {
                return Err(r.missing("names.manage", FIX));
            }
            if !has_dns(&enroll) {
                return Err(r.missing("names.enroll", FIX));
            }
            let twice = raw.manage.iter().flatten().zip(&manage).find(|(_, name)| enroll.contains(name));
            if let Some((text, _)) = twice {
                return Err(r.bad("names.manage", &text.span(), "it is also a name of the enroll face", FIX));
            }
            let other = |name: &GatewayName| enroll.contains(name) || manage.contains(name);
            if let Some((text, _)) = raw.proxy.iter().flatten().zip(&proxy).find(|(_, name)| other(name)) {
                return Err(r.bad("names.proxy", &text.span(), "it is also a name of another face", FIX));
            }
            if !proxy.is_empty() && !has_dns(&proxy) {
                return Err(r.missing("names.proxy", FIX));
            }
            Ok(FaceNames { enroll, manage, proxy })
        }
    }
}

fn public(r: &SourceFile<'_>, raw: &RawPublic, names: &FaceNames, listen: Listen) -> Result<Public, ConfigError> {
    let (enroll, manage, proxy) = match listen {
        Listen::Separate { enroll, manage, proxy } => (enroll.port(), manage.port(), proxy.map(|proxy| proxy.port())),
        Listen::Shared(address) => (address.port(), address.port(), Some(address.port())),
    };
    let public_address = |key, raw: Option<&RawText>, names: &[GatewayName], port| match raw {
        Some(raw) => r.parse(key, raw, host_port, HOST_PORT_FIX),
        None => names
            .iter()
            .find(|name| !matches!(name, GatewayName::Dns(name) if name.starts_with('*')))
            .map(|host| HostPort { host: host.clone(), port })
            .ok_or_else(|| r.missing(key, HOST_PORT_FIX)),
    };
    Ok(Public {
        enroll: public_address("public.enroll", raw.enroll.as_ref(), &names.enroll, enroll)?,
        manage: public_address("public.manage", raw.manage.as_ref(), &names.manage, manage)?,
        proxy: match proxy.filter(|_| !names.proxy.is_empty()) {
            Some(port) => {
                let proxy = public_address("public.proxy", raw.proxy.as_ref(), &names.proxy, port)?;
                // clients that use another name are refused in the handshake
                if let (Some(text), GatewayName::Dns(name)) = (&raw.proxy, &proxy.host)
                    && !names.is_of_proxy(name)
                {
                    let what = format!("`{name}` is no name of the face");
                    return Err(r.bad("public.proxy", &text.span(), what, "use one that stands in `names.proxy`"));
                }
                Some(proxy)
            }
            None if raw.proxy.is_some() => return Err(r.missing("listen.proxy", ADDRESS_FIX)),
            None => None,
        },
        dial_back: raw.dial_back.as_ref().map(|raw| dial_back(r, raw, names, listen)).transpose()?,
        crl: raw.crl.as_ref().map(|raw| r.parse("public.crl", raw, ListsUrl::parse, LISTS_FIX)).transpose()?,
    })
}

/// Where streams move to: a name of a face that takes them, or nobody could come in there.
fn dial_back(r: &SourceFile<'_>, raw: &RawText, names: &FaceNames, listen: Listen) -> Result<HostPort, ConfigError> {
    let at = r.parse("public.dial_back", raw, host_port, HOST_PORT_FIX)?;
    let is_ours = match (&at.host, listen) {
        (GatewayName::Dns(name), _) => match names.face_of(name) {
            Some(Face::Manage | Face::Proxy) => names.raw(name).is_none(),
            Some(Face::Enroll | Face::Tunnel) | None => false,
        },
        (GatewayName::Ip(_), Listen::Separate { .. }) => {
            names.manage.contains(&at.host) || names.proxy.contains(&at.host)
        }
        // An address is no name in the handshake, by which faces are told apart there.
        (GatewayName::Ip(_), Listen::Shared(_)) => false,
    };
    if is_ours {
        return Ok(at);
    }
    let what = format!("`{}` is no name of the manage or proxy face", raw.get_ref());
    Err(r.bad("public.dial_back", &raw.span(), what, "use one that stands in `names.manage` or `names.proxy`"))
}

fn host_port(text: &str) -> Result<HostPort, String> {
    let (host, port) = text.rsplit_once(':').ok_or("the port is missing")?;
    let port = port.parse().map_err(|_| format!("`{port}` is not a port"))?;
    if host.contains(':') && !host.starts_with('[') {
        return Err("an IPv6 address needs brackets".to_owned());
    }
    if host.starts_with('*') {
        return Err("a name with `*` is no place to connect to".to_owned());
    }
    let host = GatewayName::parse(host).map_err(|error| error.to_string())?;
    Ok(HostPort { host, port })
}

fn limits(r: &SourceFile<'_>, raw: &RawLimits) -> Result<Limits, ConfigError> {
    let d = Limits::default();
    Ok(Limits {
        connections: r.count("limits.connections", raw.connections.as_ref(), d.connections)?,
        connections_per_prefix: r.count(
            "limits.connections_per_prefix",
            raw.connections_per_prefix.as_ref(),
            d.connections_per_prefix,
        )?,
        connections_enroll: r.count(
            "limits.connections_enroll",
            raw.connections_enroll.as_ref(),
            d.connections_enroll,
        )?,
        connections_enroll_per_prefix: r.count(
            "limits.connections_enroll_per_prefix",
            raw.connections_enroll_per_prefix.as_ref(),
            d.connections_enroll_per_prefix,
        )?,
        handshakes: r.count("limits.handshakes", raw.handshakes.as_ref(), d.handshakes)?,
        handshakes_per_prefix: r.count(
            "limits.handshakes_per_prefix",
            raw.handshakes_per_prefix.as_ref(),
            d.handshakes_per_prefix,
        )?,
        tunnels_per_second: r.count(
            "limits.tunnels_per_second",
            raw.tunnels_per_second.as_ref(),
            d.tunnels_per_second,
        )?,
        certificates_per_life: r.count(
            "limits.certificates_per_life",
            raw.certificates_per_life.as_ref(),
            d.certificates_per_life,
        )?,
        handshake_time: r.duration("limits.handshake_time", raw.handshake_time.as_ref(), d.handshake_time)?,
        head_time: r.duration("limits.head_time", raw.head_time.as_ref(), d.head_time)?,
        body_time: r.duration("limits.body_time", raw.body_time.as_ref(), d.body_time)?,
        idle_enroll: r.duration("limits.idle_enroll", raw.idle_enroll.as_ref(), d.idle_enroll)?,
        idle_manage: r.duration("limits.idle_manage", raw.idle_manage.as_ref(), d.idle_manage)?,
        write_stall: r.duration("limits.write_stall", raw.write_stall.as_ref(), d.write_stall)?,
        drain_time: r.duration("limits.drain_time", raw.drain_time.as_ref(), d.drain_time)?,
        rates: rates(r, raw)?,
    })
}

fn rates(r: &SourceFile<'_>, raw: &RawLimits) -> Result<RateLimits, ConfigError> {
    let d = RateLimits::default();
    let class = |[prefix, total]: [(&'static str, &Option<RawText>); 2], default: &ClassLimits| {
        let quota = |(key, raw): (_, &Option<RawText>), default| r.quota(key, raw.as_ref(), default);
        Ok::<_, ConfigError>(ClassLimits {
            per_prefix: quota(prefix, default.per_prefix)?,
            total: quota(total, default.total)?,
        })
    };
    Ok(RateLimits {
        anonymous: class(
            [
                ("limits.anonymous_per_prefix", &raw.anonymous_per_prefix),
                ("limits.anonymous_total", &raw.anonymous_total),
            ],
            &d.anonymous,
        )?,
        poll: class(
            [("limits.poll_per_prefix", &raw.poll_per_prefix), ("limits.poll_total", &raw.poll_total)],
            &d.poll,
        )?,
        machine: class(
            [("limits.machine_per_prefix", &raw.machine_per_prefix), ("limits.machine_total", &raw.machine_total)],
            &d.machine,
        )?,
        person: class(
            [("limits.person_per_prefix", &raw.person_per_prefix), ("limits.person_total", &raw.person_total)],
            &d.person,
        )?,
        connect: class(
            [("limits.connect_per_prefix", &raw.connect_per_prefix), ("limits.connect_total", &raw.connect_total)],
            &d.connect,
        )?,
        health: class(
            [("limits.health_per_prefix", &raw.health_per_prefix), ("limits.health_total", &raw.health_total)],
            &d.health,
        )?,
    })
}
