//! `init`: creates authority, store, configuration, policy, and a token for the first person.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use pki::{GatewayName, TrustDomain};

use super::{at_home, authority::builder_with, by_owner};
use crate::{
    complaint::Complaint,
    config::Config,
    core::{audit::Event, change::Changes},
    flow::{
        asked::TokenWish,
        shell::{Actor, Shell},
        tokens::{By, make},
    },
    ports::{
        clock::Clock,
        entropy::Entropy,
        files::{self, Existing, FileAccess},
        home,
    },
    server,
    signer::{Authority, Passphrase},
    store::Engine,
};

/// The group of the first person, as named in the default policy.
pub const FIRST_GROUP: &str = "admins";

/// Lifetime of the first person's token: enough time to carry it to another machine.
const FIRST_TOKEN_TTL: Duration = Duration::from_secs(24 * 3600);

/// The options of `init`.
#[derive(Clone, Debug)]
pub struct InitOptions {
    /// Not checked yet.
    pub trust_domain: String,
    /// The host name or address that clients use.
    pub name: Option<String>,
    /// Address of the enroll face.
    pub listen: SocketAddr,
    /// Address of the manage face; by default the next port.
    pub listen_manage: Option<SocketAddr>,
    /// Address of the proxy face; by default the port after that.
    pub listen_proxy: Option<SocketAddr>,
    /// Engine of the store.
    pub engine: Engine,
    /// One port for each face, or one for all.
    pub ports: Ports,
}

/// Whether the faces share a port.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Ports {
    /// Each face has its own port.
    Apart,
    /// All faces have one port; the SNI selects the face.
    Shared,
}

/// The folders of a gateway.
#[derive(Clone, Debug)]
pub struct Folders {
    config: PathBuf,
    data: PathBuf,
}

impl Folders {
    /// One folder for all files.
    #[must_use]
    pub fn one(dir: &Path) -> Self {
        Self { config: dir.to_owned(), data: dir.to_owned() }
    }

    /// `config` for configuration, policy and the passphrase; `data` for records and keys.
    #[must_use]
    pub fn two(config: &Path, data: &Path) -> Self {
        Self { config: config.to_owned(), data: data.to_owned() }
    }

    fn apart(&self) -> bool {
        self.config != self.data
    }

    /// Creates missing folders. The configuration's folder is readable for the service, which must not write to it.
    fn make(&self) -> Result<(), Complaint> {
        if self.apart() {
            files::make_public_dir(&self.config).map_err(Complaint::failed)?;
        }
        files::make_private_dir(&self.data).map_err(Complaint::failed)
    }

    fn policy(&self) -> Result<PathBuf, Complaint> {
        let dir = self.config.join("policy");
        let made = if self.apart() { files::make_public_dir(&dir) } else { files::make_private_dir(&dir) };
        made.map_err(Complaint::failed)?;
        Ok(dir)
    }
}

/// Result of [`init`].
#[derive(Clone, Debug)]
pub struct Initialized {
    folders: Folders,
    pin: String,
    token: String,
}

impl Initialized {
    /// Prints the files and the next steps.
    pub fn announce(&self) {
        let (dir, data) = (self.folders.config.display(), self.folders.data.display());
        eprintln!("made a gateway in {dir}");
        if self.folders.apart() {
            eprintln!("  records     {data}");
        }
        eprintln!("  root pin    sha256 {}", self.pin);
        eprintln!("  settings    {dir}/gateway.toml");
        eprintln!("  policy      {dir}/policy/default.cedar");
        eprintln!(
            "  passphrase  {dir}/ca-passphrase   (keep a copy elsewhere: without it the keys in {data}/ca are lost)"
        );
        eprintln!();
        if self.folders.apart() {
            eprintln!("start it:                    systemctl enable --now lychgate-gateway");
        } else {
            eprintln!("start it:                    lychgate-gateway run --config {dir}/gateway.toml");
        }
        eprintln!("then join as first person:   lychgate join - --name YOUR-NAME < {dir}/first-person.token");
        eprintln!("                             (the token is valid for 24 hours and for one person)");
        println!("{}", self.token);
    }
}

/// Creates a gateway. `gateway.toml` is written last, so an interrupted `init` leaves no gateway that would start. In an existing
/// folder, all files get the owner of the folder.
///
/// # Errors
/// A file exists already or cannot be written; nothing is overwritten.
pub fn init(folders: &Folders, options: &InitOptions) -> Result<Initialized, Complaint> {
    // the complaint about the configuration would name a file that does not exist yet
    TrustDomain::parse(&options.trust_domain)
        .map_err(|bad| Complaint::wrong(format!("the trust domain `{}` is not legal: {bad}", options.trust_domain)))?;
    let config_path = folders.config.join("gateway.toml");
    if files::exists(&config_path) {
        return Err(Complaint::failed(format!("`{}` already contains a gateway", folders.config.display()))
            .hint("choose another folder, or start that one with `run`"));
    }
    let text = config_text(folders, options)?;
    let config = Config::parse(&text, &config_path).map_err(Complaint::wrong)?;
    let passphrase = Passphrase::generate(&Entropy::os());
    folders.make()?;
    let in_config = |work: &(dyn Fn() -> Result<(), Complaint> + Sync)| {
        home::within(&folders.config, || {
            home::check(&folders.config).map_err(Complaint::wrong)?;
            work()
        })
        .map_err(Complaint::wrong)?
    };
    in_config(&|| {
        passphrase.save(&folders.config.join("ca-passphrase")).map_err(Complaint::failed)?;
        let policy = folders.policy()?;
        write(&policy.join("default.cedar"), policy::DEFAULT_POLICY.as_bytes())?;
        write(&policy.join("default.cases.toml"), policy::DEFAULT_CASES.as_bytes())
    })?;
    let (pin, token) = at_home(&config_path, &config, async |config| authority(config, passphrase).await)?;
    in_config(&|| {
        let file = folders.config.join("first-person.token");
        files::write_atomic(&file, token.as_bytes(), FileAccess::Private, Existing::Replace)
            .map_err(Complaint::failed)?;
        write(&config_path, text.as_bytes())
    })?;
    Ok(Initialized { folders: folders.clone(), pin, token })
}

/// Creates the files in the data folder: authority, store, lock epoch. Returns the root's pin and a token for the first person.
async fn authority(config: &Config, passphrase: Passphrase) -> Result<(String, String), Complaint> {
    let builder = builder_with(config, passphrase);
    let ca = Authority::create(&builder).map_err(|error| {
        Complaint::failed(error).hint("an interrupted `init` leaves files behind: remove the folder and start again")
    })?;
    let shell = server::shell(config, ca, builder.clock, builder.entropy).await?;
    let token = first_token(&shell).await?;
    let mut changes = Changes::new();
    changes.event(Event::GatewayInitialised { trust_domain: builder.domain.as_str().to_owned() });
    let _ = shell.commit(changes, &Actor { who: "gateway", instance: "init" }).await;
    let pin = shell.ca().pin().hex();
    shell.store.close().await;
    server::begin_epoch(config)?;
    Ok((pin, token))
}

/// Prints a token for another administrator. No administrator need agree: a user who can read the gateway's files could do anything
/// anyway.
///
/// # Errors
/// The store is open, damaged or cannot be read, or the authority's keys cannot be loaded.
pub fn invite(path: &Path) -> Result<(), Complaint> {
    let config = super::load(path)?;
    let passphrase = by_owner(path, || {
        Passphrase::load(&config.passphrase_file).map_err(|error| {
            Complaint::failed(error).hint(
                "it is read from `[ca] passphrase_file` or, as `ca-passphrase`, from $CREDENTIALS_DIRECTORY, the data \
                 folder, or beside the configuration",
            )
        })
    })?;
    let token = at_home(path, &config, async |config| {
        let (clock, entropy) = (Clock::system(), Entropy::os());
        let ca =
            Authority::load(&config.data_dir, &config.trust_domain, &passphrase, &clock).map_err(Complaint::failed)?;
        let shell = server::shell(config, ca, clock, entropy).await?;
        let token = first_token(&shell).await;
        shell.store.close().await;
        token
    })?;
    println!("{token}");
    Ok(())
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Complaint> {
    files::write_atomic(path, bytes, FileAccess::Public, Existing::Keep).map_err(Complaint::failed)
}

/// Creates a token for an administrator.
///
/// # Errors
/// The commit failed; if its outcome is unknown, an unused token may be in the store until it expires.
pub async fn first_token(shell: &Shell) -> Result<String, Complaint> {
    let asked = TokenWish {
        role: Some("person".to_owned()),
        ttl: Some(FIRST_TOKEN_TTL.as_secs()),
        groups: vec![FIRST_GROUP.to_owned()],
        ..TokenWish::default()
    };
    let actor = Actor { who: "gateway", instance: "init" };
    let made = make(shell, &asked, By::Gateway, &actor).await.map_err(Complaint::failed)?;
    Ok(made.token)
}

/// The text of `gateway.toml`: the options of `init`, and a reference to the explanation of all others.
fn config_text(folders: &Folders, options: &InitOptions) -> Result<String, Complaint> {
    let listen = options.listen;
    let beside = |steps: u16| {
        SocketAddr::new(listen.ip(), if listen.port() == 0 { 0 } else { listen.port().saturating_add(steps) })
    };
    let manage = options.listen_manage.unwrap_or_else(|| beside(1));
    let proxy = options.listen_proxy.unwrap_or_else(|| beside(2));
    let name = match &options.name {
        Some(name) => {
            GatewayName::parse(name)
                .map_err(|bad| Complaint::wrong(format!("the name `{name}` is not legal: {bad}")))?;
            name.clone()
        }
        None if listen.ip().is_unspecified() => {
            return Err(Complaint::wrong(format!("clients cannot connect to `{}`", listen.ip()))
                .hint("give the host name or address that they use with --name"));
        }
        None => listen.ip().to_string(),
    };
    let faces = match options.ports {
        Ports::Apart => apart(&name, options, manage, proxy),
        Ports::Shared => shared(&name, listen)?,
    };
    let data =
        if folders.apart() { format!("data_dir = {:?}\n", folders.data.display().to_string()) } else { String::new() };
    let store = match options.engine {
        Engine::Sled => String::new(),
        other @ (Engine::Redb | Engine::Memory) => format!("\n[store]\nengine = \"{other}\"\n"),
    };
    Ok(format!(
        "# Every key with its meaning: gateway.example.toml. Paths are relative to this file.\n\
         trust_domain = {:?}\n{data}\n{faces}\n[policy]\nfiles = [\"policy/default.cedar\"]\n{store}",
        options.trust_domain
    ))
}

/// The sections for faces on one port, each with its own name.
fn shared(name: &str, listen: SocketAddr) -> Result<String, Complaint> {
    if name.parse::<std::net::IpAddr>().is_ok() {
        return Err(Complaint::wrong("faces on one port need DNS names, and `--name` is an address")
            .hint("give a DNS name; `manage.NAME` and `proxy.NAME` must lead to this gateway too"));
    }
    Ok(format!(
        "[listen]\nshared = \"{listen}\"\n\n\
         [names]\nenroll = [\"{name}\"]\nmanage = [\"manage.{name}\"]\nproxy = [\"proxy.{name}\"]\n"
    ))
}

/// The sections for faces on separate ports.
fn apart(name: &str, options: &InitOptions, manage: SocketAddr, proxy: SocketAddr) -> String {
    let listen = options.listen;
    let mut names = vec![name.to_owned()];
    if listen.ip().is_loopback() {
        names.extend(["localhost".to_owned(), listen.ip().to_string()]);
    }
    // clients are told the first name
    let mut seen = std::collections::BTreeSet::new();
    names.retain(|name| seen.insert(name.clone()));
    let listed = |names: &[String]| names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
    let list = listed(&names);
    // OpenSSL accepts no wildcard below a name of one label, so such a name cannot have services below it
    if !names.iter().any(|name| name.contains('.') && name.parse::<std::net::IpAddr>().is_err()) {
        names.push(format!("gateway.{}", options.trust_domain));
    }
    let proxy_list = listed(&names);
    format!(
        "[listen]\nenroll = \"{listen}\"\nmanage = \"{manage}\"\nproxy = \"{proxy}\"\n\n\
         [names]\nenroll = [{list}]\nmanage = [{list}]\nproxy = [{proxy_list}]\n"
    )
}
