//! Makes a new gateway: authority, store, configuration, policy, and a token for the first person.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use pki::{GatewayName, TrustDomain};

use super::{at_home, by_owner};
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

/// The group of the first person, as the default policy knows it.
pub const FIRST_GROUP: &str = "admins";

/// How long the first person's token lives: long enough to be carried to another machine.
const FIRST_TOKEN_TTL: Duration = Duration::from_secs(24 * 3600);

/// What was asked for.
#[derive(Clone, Debug)]
pub struct Wishes {
    /// The trust domain.
    pub trust_domain: String,
    /// The host name or address that clients use.
    pub name: Option<String>,
    /// Where newcomers connect.
    pub listen: SocketAddr,
    /// Where holders connect.
    pub listen_manage: Option<SocketAddr>,
    /// Where people connect on their way to machines.
    pub listen_proxy: Option<SocketAddr>,
    /// What keeps the records.
    pub engine: Engine,
    /// How the faces are told apart.
    pub ports: Ports,
}

/// How the faces of a gateway are told apart.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Ports {
    /// Each has a port.
    Apart,
    /// By name, on one port.
    Shared,
}

/// Where a gateway lies.
#[derive(Clone, Debug)]
pub struct Folders {
    config: PathBuf,
    data: PathBuf,
}

impl Folders {
    /// Everything in one.
    #[must_use]
    pub fn one(dir: &Path) -> Self {
        Self { config: dir.to_owned(), data: dir.to_owned() }
    }

    /// Configuration, policy and secrets of the operator here, records and keys there.
    #[must_use]
    pub fn two(config: &Path, data: &Path) -> Self {
        Self { config: config.to_owned(), data: data.to_owned() }
    }

    fn apart(&self) -> bool {
        self.config != self.data
    }

    /// Makes what is not there. What only root should change, the service must be able to read.
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

/// What was made.
#[derive(Clone, Debug)]
pub struct Initialized {
    folders: Folders,
    pin: String,
    token: String,
}

impl Initialized {
    /// Says what to do next.
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

/// Makes it. `gateway.toml` is written last, so an interrupted `init` leaves no gateway that would start. In a folder that is
/// there already, everything belongs to whom the folder belongs to.
///
/// # Errors
/// When something is there already, or cannot be written.
pub fn init(folders: &Folders, wishes: &Wishes) -> Result<Initialized, Complaint> {
    let domain = TrustDomain::parse(&wishes.trust_domain)
        .map_err(|bad| Complaint::wrong(format!("the trust domain `{}` is not legal: {bad}", wishes.trust_domain)))?;
    let config_path = folders.config.join("gateway.toml");
    if files::exists(&config_path) {
        return Err(Complaint::failed(format!("`{}` already contains a gateway", folders.config.display()))
            .hint("choose another folder, or start that one with `run`"));
    }
    let text = config_text(folders, wishes)?;
    let config = Config::parse(&text, &config_path).map_err(Complaint::wrong)?;
    let passphrase = Passphrase::generate(&Entropy::os());
    folders.make()?;
    let in_config = |work: &(dyn Fn() -> Result<(), Complaint> + Sync)| {
        home::within(&folders.config, || {
            home::believed(&folders.config).map_err(Complaint::wrong)?;
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
    let (pin, token) = at_home(&config_path, &config, async |config| authority(config, &domain, &passphrase).await)?;
    in_config(&|| {
        let file = folders.config.join("first-person.token");
        files::write_atomic(&file, token.as_bytes(), FileAccess::Private, Existing::Replace)
            .map_err(Complaint::failed)?;
        write(&config_path, text.as_bytes())
    })?;
    Ok(Initialized { folders: folders.clone(), pin, token })
}

/// What lies in the data folder: authority, store, lock epoch. Gives the root's pin and a token for the first person.
async fn authority(
    config: &Config,
    domain: &TrustDomain,
    passphrase: &Passphrase,
) -> Result<(String, String), Complaint> {
    let (clock, entropy) = (Clock::system(), Entropy::os());
    let ca = Authority::create(&config.data_dir, domain, passphrase, &clock, &entropy).map_err(|error| {
        Complaint::failed(error).hint("an interrupted `init` leaves files behind: remove the folder and start again")
    })?;
    let shell = server::shell(config, ca, clock, entropy).await?;
    let token = first_token(&shell).await?;
    let mut changes = Changes::new();
    changes.event(Event::GatewayInitialised { trust_domain: domain.as_str().to_owned() });
    let _ = shell.commit(changes, &Actor { who: "gateway", instance: "init" }).await;
    let pin = shell.ca().pin().hex();
    shell.store.close().await;
    server::begin_epoch(config)?;
    Ok((pin, token))
}

/// Prints a token for one more administrator, made without any: whoever holds the gateway's files is one anyhow.
///
/// # Errors
/// When the authority or the store cannot be used.
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

/// A token for the first person, or for another one when the first has lost everything.
///
/// # Errors
/// When the store fails.
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

/// The configuration a new gateway starts with: what was asked for, and where the rest is explained.
fn config_text(folders: &Folders, wishes: &Wishes) -> Result<String, Complaint> {
    let listen = wishes.listen;
    let beside = |steps: u16| {
        SocketAddr::new(listen.ip(), if listen.port() == 0 { 0 } else { listen.port().saturating_add(steps) })
    };
    let manage = wishes.listen_manage.unwrap_or_else(|| beside(1));
    let proxy = wishes.listen_proxy.unwrap_or_else(|| beside(2));
    let name = match &wishes.name {
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
    let faces = match wishes.ports {
        Ports::Apart => apart(&name, wishes, manage, proxy),
        Ports::Shared => shared(&name, listen)?,
    };
    let data =
        if folders.apart() { format!("data_dir = {:?}\n", folders.data.display().to_string()) } else { String::new() };
    let store = match wishes.engine {
        Engine::Sled => String::new(),
        other @ (Engine::Redb | Engine::Memory) => format!("\n[store]\nengine = \"{other}\"\n"),
    };
    Ok(format!(
        "# Every key with its meaning: gateway.example.toml. Paths are relative to this file.\n\
         trust_domain = {:?}\n{data}\n{faces}\n[policy]\nfiles = [\"policy/default.cedar\"]\n{store}",
        wishes.trust_domain
    ))
}

/// The faces on one port, each by a name of its own.
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

/// The faces on ports of their own.
fn apart(name: &str, wishes: &Wishes, manage: SocketAddr, proxy: SocketAddr) -> String {
    let listen = wishes.listen;
    let mut names = vec![name.to_owned()];
    if listen.ip().is_loopback() {
        names.extend(["localhost".to_owned(), listen.ip().to_string()]);
    }
    // The first name is what clients are told.
    let mut seen = std::collections::BTreeSet::new();
    names.retain(|name| seen.insert(name.clone()));
    let listed = |names: &[String]| names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
    let list = listed(&names);
    // A name below which services are understood has more than one label, or OpenSSL takes no certificate for what is below.
    if !names.iter().any(|name| name.contains('.') && name.parse::<std::net::IpAddr>().is_err()) {
        names.push(format!("gateway.{}", wishes.trust_domain));
    }
    let proxy_list = listed(&names);
    format!(
        "[listen]\nenroll = \"{listen}\"\nmanage = \"{manage}\"\nproxy = \"{proxy}\"\n\n\
         [names]\nenroll = [{list}]\nmanage = [{list}]\nproxy = [{proxy_list}]\n"
    )
}
