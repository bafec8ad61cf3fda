//! Makes a new gateway: authority, store, configuration, policy, and a token for the first person.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use pki::{GatewayName, TrustDomain};
use wire::admin::TokenRequest;

use super::Complaint;
use crate::{
    config::Config,
    core::{audit::Event, change::Changes},
    edge::{
        clock::Clock,
        entropy::Entropy,
        files::{self, Access, Existing},
        signer::{CaSet, Passphrase},
    },
    flow::{
        admin::make_token,
        shell::{Actor, Shell},
    },
    server,
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
}

/// What was made.
#[derive(Clone, Debug)]
pub struct Made {
    dir: PathBuf,
    pin: String,
    token: String,
}

impl Made {
    /// Says what to do next.
    pub fn announce(&self) {
        let dir = self.dir.display();
        eprintln!("made a gateway in {dir}");
        eprintln!("  root pin    sha256 {}", self.pin);
        eprintln!("  settings    {dir}/gateway.toml");
        eprintln!("  policy      {dir}/policy/default.cedar");
        eprintln!(
            "  passphrase  {dir}/ca-passphrase   (keep a copy elsewhere: without it the keys in {dir}/ca are lost)"
        );
        eprintln!();
        eprintln!("start it:                    lychgate-gateway run --config {dir}/gateway.toml");
        eprintln!("then join as first person:   lychgate join $(cat {dir}/first-person.token) --name YOUR-NAME");
        eprintln!("                             (the token is good for 24 hours and for one person)");
        println!("{}", self.token);
    }
}

/// Makes it. `gateway.toml` is written last, so an interrupted `init` leaves no gateway that would start.
///
/// # Errors
/// When something is there already, or cannot be written.
pub async fn init(dir: &Path, wishes: &Wishes) -> Result<Made, Complaint> {
    let domain = TrustDomain::parse(&wishes.trust_domain)
        .map_err(|bad| Complaint::wrong(format!("the trust domain `{}` is not legal: {bad}", wishes.trust_domain)))?;
    let config_path = dir.join("gateway.toml");
    if files::exists(&config_path) {
        return Err(Complaint::failed(format!("`{}` holds a gateway already", dir.display()))
            .hint("choose another folder, or start that one with `run`"));
    }
    let text = config_text(wishes)?;
    let config = Config::parse(&text, &config_path).map_err(Complaint::wrong)?;
    files::make_private_dir(dir).map_err(Complaint::failed)?;
    let (clock, entropy) = (Clock::system(), Entropy::os());
    let passphrase = Passphrase::generate(&entropy);
    passphrase.save(&config.passphrase_file).map_err(Complaint::failed)?;
    let ca = CaSet::create(&config.data_dir, &domain, &passphrase, &clock, &entropy).map_err(|error| {
        Complaint::failed(error).hint("an interrupted `init` leaves files behind: remove the folder and start again")
    })?;
    let policy_dir = dir.join("policy");
    files::make_private_dir(&policy_dir).map_err(Complaint::failed)?;
    write(&policy_dir.join("default.cedar"), policy::DEFAULT_POLICY.as_bytes())?;
    write(&policy_dir.join("default.cases.toml"), policy::DEFAULT_CASES.as_bytes())?;
    let shell = server::shell(&config, ca, clock, entropy).await?;
    let token = first_token(&shell).await?;
    let mut changes = Changes::new();
    changes.event(Event::GatewayInitialised { trust_domain: domain.as_str().to_owned() });
    let _ = shell.commit(changes, &Actor { who: "gateway", instance: "init" }).await;
    let pin = shell.pin.hex();
    shell.store.close().await;
    let file = dir.join("first-person.token");
    files::write_atomic(&file, token.as_bytes(), Access::Private, Existing::Replace).map_err(Complaint::failed)?;
    write(&config_path, text.as_bytes())?;
    Ok(Made { dir: dir.to_owned(), pin, token })
}

/// Prints a token for one more administrator, made without any: whoever holds the gateway's files is one anyhow.
///
/// # Errors
/// When the authority or the store cannot be used.
pub async fn invite(config: &Path) -> Result<(), Complaint> {
    let config = super::load(config)?;
    let (clock, entropy) = (Clock::system(), Entropy::os());
    let passphrase = Passphrase::load(&config.passphrase_file).map_err(Complaint::failed)?;
    let ca = CaSet::load(&config.data_dir, &config.trust_domain, &passphrase, &clock, &entropy)
        .map_err(Complaint::failed)?;
    let shell = server::shell(&config, ca, clock, entropy).await?;
    let token = first_token(&shell).await;
    shell.store.close().await;
    println!("{}", token?);
    Ok(())
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Complaint> {
    files::write_atomic(path, bytes, Access::Public, Existing::Keep).map_err(Complaint::failed)
}

/// A token for the first person, or for another one when the first has lost everything.
///
/// # Errors
/// When the store fails.
pub async fn first_token(shell: &Shell) -> Result<String, Complaint> {
    let asked = TokenRequest {
        role: Some("person".to_owned()),
        ttl: Some(FIRST_TOKEN_TTL.as_secs()),
        groups: vec![FIRST_GROUP.to_owned()],
        ..TokenRequest::default()
    };
    let actor = Actor { who: "gateway", instance: "init" };
    let made = make_token(shell, &asked, "gateway".to_owned(), vec![], &actor).await.map_err(Complaint::failed)?;
    Ok(made.token)
}

/// The configuration a new gateway starts with: what was asked for, and where the rest is explained.
fn config_text(wishes: &Wishes) -> Result<String, Complaint> {
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
                .hint("say by --name which host name or address they use"));
        }
        None => listen.ip().to_string(),
    };
    let mut names = vec![name.clone()];
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
    Ok(format!(
        "# Every key with its meaning: gateway.example.toml. Paths are relative to this file.\n\
         trust_domain = {:?}\n\n\
         [listen]\nenroll = \"{listen}\"\nmanage = \"{manage}\"\nproxy = \"{proxy}\"\n\n\
         [names]\nenroll = [{list}]\nmanage = [{list}]\nproxy = [{proxy_list}]\n\n\
         [policy]\nfiles = [\"policy/default.cedar\"]\n",
        wishes.trust_domain
    ))
}
