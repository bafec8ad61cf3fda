//! The services that a machine exposes, and the remote services that its own programs can reach: the flags of `run`, the file
//! `services.toml`, and the decision about each stream. The machine checks the caller of a stream itself, after the gateway has.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use pki::{Identity, Name, Role};
use serde::Deserialize;
use wire::tunnel::{Hello, Mode, Open, OpenRefusal, SERVICES_MAX, ServiceOffer, is_service_name};

use crate::text::report::{Complaint, Exit, Refusal};

/// The file in the identity folder.
pub const FILE: &str = "services.toml";

/// The address of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServiceTarget {
    /// `host:port`.
    Tcp(String),
    /// A Unix socket.
    Unix(PathBuf),
}

impl fmt::Display for ServiceTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => f.write_str(address),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Callers that the owner allows, among those that the gateway allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllowedCaller {
    /// Every person, or every machine.
    Role(Role),
    /// One person or machine.
    Named(Role, Name),
    /// The people of a group.
    Group(String),
    /// Machines with a label, `key=value`.
    Label(String),
}

impl AllowedCaller {
    fn parse(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_once('/').map_or((text, None), |(kind, rest)| (kind, Some(rest)));
        match (kind, rest) {
            ("person", None) => Some(Self::Role(Role::Person)),
            ("machine", None) => Some(Self::Role(Role::Machine)),
            ("person", Some(name)) => Name::parse(name).ok().map(|name| Self::Named(Role::Person, name)),
            ("machine", Some(name)) => Name::parse(name).ok().map(|name| Self::Named(Role::Machine, name)),
            ("group", Some(group)) if !group.is_empty() => Some(Self::Group(group.to_owned())),
            ("label", Some(label)) if label.split_once('=').is_some_and(|(key, _)| !key.is_empty()) => {
                Some(Self::Label(label.to_owned()))
            }
            _ => None,
        }
    }

    fn admits(&self, caller: &Identity, labels: &[String]) -> bool {
        match self {
            Self::Role(role) => caller.role == *role,
            Self::Named(role, name) => caller.role == *role && caller.name == *name,
            Self::Group(group) => caller.role == Role::Person && labels.contains(group),
            Self::Label(label) => caller.role == Role::Machine && labels.contains(label),
        }
    }
}

/// A service that this machine exposes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExposedService {
    /// Where the machine connects to.
    pub target: ServiceTarget,
    /// Whether the gateway can read its bytes.
    pub mode: Mode,
    /// A caller must match one of these.
    pub allow: Vec<AllowedCaller>,
}

/// Which streams a caller accepts. The caller decides this, not the gateway.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sealing {
    /// Only sealed ones, unless the service encrypts by itself.
    #[default]
    Usual,
    /// Unsealed ones too, which the gateway can read.
    Raw,
}

impl Sealing {
    /// From the flag `--raw`.
    #[must_use]
    pub const fn from_flag(raw: bool) -> Self {
        if raw { Self::Raw } else { Self::Usual }
    }

    /// Checks the mode that the gateway reports for a stream to `service`. Sealed is always accepted, because the machine proves its
    /// identity.
    ///
    /// # Errors
    /// When the stream is unsealed, so that the gateway could read it, and the caller does not accept that.
    pub fn check(self, service: &str, machine: &Name, offered: Mode) -> Result<(), Box<Refusal>> {
        if offered == Mode::Sealed || self == Self::Raw || ENCRYPTED_NAMES.contains(&service) {
            return Ok(());
        }
        Err(Box::new(Refusal {
            status: 403,
            code: "not-sealed".to_owned(),
            detail: format!(
                "`{service}` on `{machine}` is not sealed, by what the gateway says: it could read what passes; nothing was sent"
            ),
            hint: Some(
                "if the machine's owner exposes it so, and you want that, say so with `--raw` (in `--reach`: `,raw`)"
                    .to_owned(),
            ),
            instance: String::new(),
            retry_after: None,
            rules: vec![],
        }))
    }
}

/// A service on another machine that programs of this machine reach at a local address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteService {
    /// The local address, `host:port`.
    pub listen: String,
    /// Name of the service on `machine`.
    pub service: String,
    /// The machine that exposes it.
    pub machine: Name,
    /// Which streams are accepted.
    pub sealing: Sealing,
}

/// The services of `run`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Services {
    exposed: BTreeMap<String, ExposedService>,
    reaches: BTreeMap<String, RemoteService>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    #[serde(default)]
    expose: BTreeMap<String, RawService>,
    #[serde(default)]
    reach: BTreeMap<String, RawReach>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawService {
    target: String,
    mode: Option<String>,
    allow: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawReach {
    listen: Option<String>,
    to: String,
    mode: Option<String>,
}

/// The options of a `--reach`.
#[derive(Default)]
struct ReachOptions {
    listen: Option<String>,
    mode: Option<String>,
}

fn usage(what: String, hint: &str) -> Complaint {
    Complaint::new(Exit::Usage, "usage", what).hint(hint)
}

const ALLOW_HINT: &str = "write person, machine, person/NAME, machine/NAME, group/NAME or label/KEY=VALUE";
const EXPOSE_HINT: &str = "write NAME=PORT, NAME=HOST:PORT or NAME=unix:/PATH, then if wanted ,raw or ,sealed and ,allow=WHO, \
such as ssh=127.0.0.1:22 or db=unix:/run/db.sock,sealed,allow=group/dba";
const REACH_HINT: &str = "write NAME=SERVICE@MACHINE:PORT, such as puppet=puppet@infra:8140: programs here then connect to \
127.0.0.1:8140";

impl Services {
    /// No services.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Parses the file. `place` is its path for complaints.
    ///
    /// # Errors
    /// When it is invalid.
    pub fn parse(text: &str, place: &str) -> Result<Self, Complaint> {
        let raw: RawFile = toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
            usage(format!("{place}:{line}: {}", error.message()), "see `lychgate run --help`, and the owner's guide")
        })?;
        let mut services = Self::default();
        for (name, raw) in raw.expose {
            let allow = raw.allow.unwrap_or_else(|| vec!["person".to_owned()]);
            services.add(&name, &raw.target, raw.mode.as_deref(), &allow).map_err(|c| in_file(c, place))?;
        }
        for (name, raw) in raw.reach {
            let wanted = ReachOptions { listen: raw.listen, mode: raw.mode };
            services.add_reach(&name, &raw.to, wanted).map_err(|c| in_file(c, place))?;
        }
        Ok(services)
    }

    /// The services of the file, if there is one, and of the flags `--expose` and `--reach`.
    ///
    /// # Errors
    /// When either is invalid, or two flags of one kind name the same service.
    pub fn configured(file: Option<&str>, expose: &[String], reach: &[String]) -> Result<Self, Complaint> {
        let mut services = file.map_or_else(|| Ok(Self::none()), |text| Self::parse(text, FILE))?;
        once_each("--expose", expose)?;
        once_each("--reach", reach)?;
        expose.iter().try_for_each(|flag| services.expose(flag))?;
        reach.iter().try_for_each(|flag| services.reach(flag))?;
        Ok(services)
    }

    /// Adds the service of an `--expose`. It replaces one of the same name in the file.
    ///
    /// # Errors
    /// When a part of it cannot be parsed, or more than [`SERVICES_MAX`] services are exposed.
    pub fn expose(&mut self, flag: &str) -> Result<(), Complaint> {
        let bad = || usage(format!("`--expose {flag}` makes no sense"), EXPOSE_HINT);
        let (name, rest) = flag.split_once('=').ok_or_else(bad)?;
        let mut parts = rest.split(',');
        let target = parts.next().ok_or_else(bad)?;
        let (mut mode, mut allow) = (None, Vec::new());
        for part in parts {
            match part.split_once('=') {
                None if Mode::parse(part).is_some() => mode = Some(part),
                Some(("allow", who)) => allow.push(who.to_owned()),
                _ => return Err(bad()),
            }
        }
        if allow.is_empty() {
            allow.push("person".to_owned());
        }
        self.add(name, target, mode, &allow)
    }

    /// Adds the service of a `--reach`.
    ///
    /// # Errors
    /// When a part of it cannot be parsed.
    pub fn reach(&mut self, flag: &str) -> Result<(), Complaint> {
        let bad = || usage(format!("`--reach {flag}` makes no sense"), REACH_HINT);
        let (name, rest) = flag.split_once('=').ok_or_else(bad)?;
        let mut parts = rest.split(',');
        let to = parts.next().ok_or_else(bad)?;
        let mut wanted = ReachOptions::default();
        for part in parts {
            match part.split_once('=') {
                None if Mode::parse(part).is_some() => wanted.mode = Some(part.to_owned()),
                Some(("listen", listen)) => wanted.listen = Some(listen.to_owned()),
                _ => return Err(bad()),
            }
        }
        self.add_reach(name, to, wanted)
    }

    fn add(&mut self, name: &str, target: &str, mode: Option<&str>, allow: &[String]) -> Result<(), Complaint> {
        if !is_service_name(name) {
            return Err(usage(
                format!("`{name}` cannot name a service"),
                "use a-z, 0-9 and single hyphens inside, at most 32 characters",
            ));
        }
        let target = parse_target(target)
            .ok_or_else(|| usage(format!("`{target}` is no place for the service `{name}`"), EXPOSE_HINT))?;
        let mode = match mode {
            Some(text) => Mode::parse(text)
                .ok_or_else(|| usage(format!("`{text}` is no mode of `{name}`"), "write raw or sealed"))?,
            None => usual_mode(name, &target),
        };
        let who = |text: &String| {
            AllowedCaller::parse(text)
                .ok_or_else(|| usage(format!("`{text}` does not say whom `{name}` is for"), ALLOW_HINT))
        };
        let allow = allow.iter().map(who).collect::<Result<Vec<_>, _>>()?;
        self.exposed.insert(name.to_owned(), ExposedService { target, mode, allow });
        if self.exposed.len() > SERVICES_MAX {
            return Err(usage(format!("more than {SERVICES_MAX} services are exposed"), "leave some out"));
        }
        Ok(())
    }

    fn add_reach(&mut self, name: &str, to: &str, wanted: ReachOptions) -> Result<(), Complaint> {
        let bad = || usage(format!("`{to}` is no service for `{name}` to lead to"), REACH_HINT);
        let (place, port) = match to.rsplit_once(':') {
            Some((place, port)) => (place, Some(port.parse::<u16>().map_err(|_| bad())?)),
            None => (to, None),
        };
        // The dot is an earlier spelling.
        let (service, machine) = place.split_once('@').or_else(|| place.split_once('.')).ok_or_else(bad)?;
        let machine = Name::parse(machine).map_err(|_| bad())?;
        if !is_service_name(service) {
            return Err(bad());
        }
        let sealing = match wanted.mode.as_deref().map(Mode::parse) {
            None | Some(Some(Mode::Sealed)) => Sealing::Usual,
            Some(Some(Mode::Raw)) => Sealing::Raw,
            Some(None) => return Err(bad()),
        };
        let listen = match (wanted.listen, port) {
            (Some(listen), _) if matches!(parse_target(&listen), Some(ServiceTarget::Tcp(_))) => listen,
            (Some(_), _) => return Err(bad()),
            (None, Some(port)) => format!("127.0.0.1:{port}"),
            (None, None) => return Err(bad()),
        };
        let reach = RemoteService { listen, service: service.to_owned(), machine, sealing };
        self.reaches.insert(name.to_owned(), reach);
        Ok(())
    }

    /// The exposed services, each as `name (mode)`.
    #[must_use]
    pub fn offers(&self) -> Vec<String> {
        self.exposed.iter().map(|(name, service)| format!("{name} ({})", service.mode.as_str())).collect()
    }

    /// The exposed services as reported to the gateway: names without targets.
    #[must_use]
    pub fn hello(&self) -> Hello {
        let services =
            self.exposed.iter().map(|(name, service)| ServiceOffer { name: name.clone(), mode: service.mode });
        Hello { client: env!("CARGO_PKG_VERSION").to_owned(), services: services.collect() }
    }

    /// The remote services, by name.
    pub fn reaches(&self) -> impl Iterator<Item = (&str, &RemoteService)> {
        self.reaches.iter().map(|(name, reach)| (name.as_str(), reach))
    }

    /// The names of the exposed services.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.exposed.keys().map(String::as_str)
    }

    /// Whether there are no services of either kind.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.exposed.is_empty() && self.reaches.is_empty()
    }

    /// Whether any exposed service is sealed, so that this machine needs a server certificate.
    #[must_use]
    pub fn any_sealed(&self) -> bool {
        self.exposed.values().any(|service| service.mode == Mode::Sealed)
    }

    /// Decides about a stream that the gateway allowed.
    ///
    /// # Errors
    /// The protocol's refusal code, and a sentence for the caller.
    pub fn decide(&self, open: &Open) -> Result<&ExposedService, (OpenRefusal, String)> {
        let service = self
            .exposed
            .get(&open.service)
            .ok_or_else(|| (OpenRefusal::NotExposed, format!("`{}` is not exposed here", open.service)))?;
        let caller = Identity::parse(&open.caller)
            .map_err(|_| (OpenRefusal::NotAllowed, "the caller has no identity".to_owned()))?;
        if service.allow.iter().any(|who| who.admits(&caller, &open.labels)) {
            Ok(service)
        } else {
            Err((OpenRefusal::NotAllowed, format!("its owner does not let {caller} in to `{}`", open.service)))
        }
    }
}

fn in_file(mut complaint: Complaint, place: &str) -> Complaint {
    complaint.what = format!("{place}: {}", complaint.what);
    complaint
}

fn parse_target(text: &str) -> Option<ServiceTarget> {
    if let Some(path) = text.strip_prefix("unix:") {
        return path.starts_with('/').then(|| ServiceTarget::Unix(PathBuf::from(path)));
    }
    // A port alone is on the loopback address.
    let (host, digits) = text.rsplit_once(':').unwrap_or(("127.0.0.1", text));
    let port: u16 = digits.parse().ok()?;
    (!host.is_empty() && port != 0).then(|| ServiceTarget::Tcp(format!("{host}:{digits}")))
}

/// Ports of services that use TLS or SSH themselves, so that sealing adds nothing: SSH, HTTPS, LDAPS, DNS over TLS, FTPS, IMAPS,
/// POP3S, AMQPS, Kubernetes, syslog over TLS, Puppet, HTTPS again, MQTT over TLS.
const ENCRYPTED: [u16; 14] = [22, 443, 636, 853, 990, 993, 995, 5671, 6443, 6514, 8140, 8443, 8883, 9443];

/// Services with these names encrypt by themselves, on any port.
const ENCRYPTED_NAMES: [&str; 2] = ["ssh", "https"];

/// The default mode: sealed, unless the service is known to encrypt by itself.
fn usual_mode(name: &str, target: &ServiceTarget) -> Mode {
    let port = match target {
        ServiceTarget::Tcp(address) => address.rsplit_once(':').and_then(|(_, port)| port.parse().ok()),
        ServiceTarget::Unix(_) => None,
    };
    let encrypted = ENCRYPTED_NAMES.contains(&name) || port.is_some_and(|port: u16| ENCRYPTED.contains(&port));
    if encrypted { Mode::Raw } else { Mode::Sealed }
}

/// Refuses two flags with the same name, because it is unclear which one is meant.
fn once_each(option: &str, flags: &[String]) -> Result<(), Complaint> {
    let name = |flag: &String| flag.split_once('=').map(|(name, _)| name.to_owned());
    let names: Vec<String> = flags.iter().filter_map(name).collect();
    match names.iter().enumerate().find(|(at, name)| names.iter().take(*at).any(|other| other == *name)) {
        Some((_, twice)) => Err(Complaint::new(Exit::Usage, "usage", format!("`{option} {twice}=...` is given twice"))
            .hint("leave one out")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(service: &str, caller: &str, labels: &[&str]) -> Open {
        Open {
            session: "s".into(),
            service: service.into(),
            caller: format!("spiffe://td.example/{caller}"),
            dial_back: None,
            dial_back_at: None,
            labels: labels.iter().map(|label| (*label).to_owned()).collect(),
        }
    }

    #[track_caller]
    fn mode(flag: &str, want: Mode) {
        let mut services = Services::none();
        services.expose(flag).unwrap();
        assert_eq!(services.hello().services[0].mode, want, "{flag}");
    }

    #[test]
    fn sealed_is_the_callers_choice() {
        let machine = Name::parse("edge-7").unwrap();
        for (sealing, service, offered, good) in [
            (Sealing::Usual, "web", Mode::Sealed, true),
            (Sealing::Usual, "web", Mode::Raw, false),
            (Sealing::Usual, "db", Mode::Raw, false),
            (Sealing::Usual, "ssh", Mode::Raw, true),
            (Sealing::Usual, "https", Mode::Raw, true),
            (Sealing::Usual, "ssh", Mode::Sealed, true),
            (Sealing::Raw, "web", Mode::Raw, true),
            (Sealing::Raw, "web", Mode::Sealed, true),
        ] {
            let outcome = sealing.check(service, &machine, offered);
            assert_eq!(outcome.is_ok(), good, "{sealing:?} {service} {offered:?}");
            if let Err(refusal) = outcome {
                let complaint = refusal.complaint();
                assert_eq!((complaint.exit, complaint.code.as_str()), (Exit::Refused, "not-sealed"));
                assert!(complaint.what.contains(service) && complaint.hint.unwrap().contains("--raw"));
            }
        }
    }

    #[test]
    fn what_encrypts_by_itself_is_raw_and_the_rest_sealed() {
        mode("ssh=127.0.0.1:2222", Mode::Raw);
        mode("login=127.0.0.1:22", Mode::Raw);
        mode("web=127.0.0.1:443", Mode::Raw);
        mode("web=127.0.0.1:80", Mode::Sealed);
        mode("web=127.0.0.1:80,raw", Mode::Raw);
        mode("ssh=127.0.0.1:22,sealed", Mode::Sealed);
        mode("db=unix:/run/db.sock", Mode::Sealed);
    }

    #[track_caller]
    fn refused(flag: &str, words: &str) {
        let mut services = Services::none();
        let complaint = services.expose(flag).unwrap_err();
        assert!(complaint.what.contains(words) && complaint.hint.is_some(), "{flag}: {}", complaint.what);
    }

    #[test]
    fn flags_that_make_no_sense() {
        refused("ssh", "makes no sense");
        refused("ssh=127.0.0.1:22,loud", "makes no sense");
        refused("SSH=127.0.0.1:22", "cannot name a service");
        refused("a--b=127.0.0.1:22", "cannot name a service");
        refused("ssh=127.0.0.1", "is no place");
        refused("ssh=:22", "is no place");
        refused("ssh=unix:run/x", "is no place");
        refused("ssh=127.0.0.1:0", "is no place");
        refused("ssh=127.0.0.1:22,allow=everybody", "whom `ssh` is for");
        let mut services = Services::none();
        for flag in [
            "puppet",
            "puppet=infra:8140",
            "puppet=puppet.infra",
            "puppet=puppet.infra:x",
            "p=A.infra:1",
            "p=p.infra,listen=",
        ] {
            assert!(services.reach(flag).is_err(), "{flag}");
        }
    }

    #[test]
    fn whom_the_owner_lets_in() {
        let mut services = Services::none();
        services.expose("ssh=127.0.0.1:22").unwrap();
        services.expose("db=127.0.0.1:5432,allow=group/dba,allow=machine/backup,allow=label/role=app").unwrap();
        for (ask, want) in [
            (open("ssh", "person/ann", &[]), None),
            (open("ssh", "machine/ann", &[]), Some(OpenRefusal::NotAllowed)),
            (open("web", "person/ann", &[]), Some(OpenRefusal::NotExposed)),
            (open("db", "person/ann", &["dba"]), None),
            (open("db", "person/ann", &["role=app"]), Some(OpenRefusal::NotAllowed)),
            (open("db", "machine/backup", &[]), None),
            (open("db", "person/backup", &[]), Some(OpenRefusal::NotAllowed)),
            (open("db", "machine/web-1", &["role=app"]), None),
            (open("db", "machine/web-1", &["dba"]), Some(OpenRefusal::NotAllowed)),
        ] {
            assert_eq!(services.decide(&ask).err().map(|(why, _)| why), want, "{ask:?}");
        }
        let nobody = Open { caller: "ann".into(), ..open("ssh", "person/ann", &[]) };
        assert_eq!(services.decide(&nobody).err().map(|(why, _)| why), Some(OpenRefusal::NotAllowed));
    }

    #[test]
    fn the_file_and_the_flags() {
        let file = "[expose.ssh]\ntarget = \"127.0.0.1:22\"\n\n[expose.web]\ntarget = \"127.0.0.1:80\"\nmode = \"raw\"\n\
                    allow = [\"group/ops\"]\n\n[reach.puppet]\nto = \"puppet.infra:8140\"\n\n[reach.salt]\n\
                    to = \"salt.infra\"\nlisten = \"127.0.0.2:4505\"\n";
        let mut services = Services::parse(file, "services.toml").unwrap();
        services.expose("ssh=127.0.0.1:2222").unwrap();
        services.reach("chef=chef.infra:443,listen=127.0.0.1:8443").unwrap();
        assert_eq!(services.names().collect::<Vec<_>>(), ["ssh", "web"]);
        let ask = open("ssh", "person/ann", &[]);
        assert_eq!(services.decide(&ask).unwrap().target, ServiceTarget::Tcp("127.0.0.1:2222".into()));
        let listens: Vec<&str> = services.reaches().map(|(_, reach)| reach.listen.as_str()).collect();
        assert_eq!(listens, ["127.0.0.1:8443", "127.0.0.1:8140", "127.0.0.2:4505"]);
        assert!(!services.any_sealed());
        for bad in ["[expose.ssh]\n", "[expose.ssh]\ntarget = \"x\"\n", "[exposed]\n", "[reach.x]\nto = \"y\"\n"] {
            let complaint = Services::parse(bad, "services.toml").unwrap_err();
            assert!(complaint.what.contains("services.toml"), "{}", complaint.what);
        }
    }

    #[test]
    fn of_one_name_only_one() {
        let flags = |list: &[&str]| list.iter().map(|flag| (*flag).to_owned()).collect::<Vec<_>>();
        assert!(once_each("--expose", &flags(&["a=1:2", "b=1:2"])).is_ok());
        let complaint = once_each("--expose", &flags(&["a=1:2", "b=1:2", "a=3:4"])).unwrap_err();
        assert_eq!(complaint.what, "`--expose a=...` is given twice");
    }
}
