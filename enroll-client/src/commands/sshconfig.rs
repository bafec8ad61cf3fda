//! `ssh-config` and `ssh`: configuration of stock OpenSSH for machines by name. ssh then asks no question: host keys are verified by the
//! SSH CA, and the person logs in with a certificate. All text is made from checked types by [`crate::core::render`].

use std::path::{Path, PathBuf};

use pki::{Name, TrustDomain};
use serde_json::{Value, json};
use wire::admin::{CanIReply, CanIRequest};
use wire::manage::SelfReply;

use crate::cli::{SshArgs, SshConfigArgs};
use crate::core::render::{LocalPath, Word, full_name, ssh_command};
use crate::core::sshline::SshLine;
use crate::core::target::{Address, DnsName};
use crate::edge::keystore::Keystore;
use crate::edge::manage::ManageFace;
use crate::edge::net::CallError;
use crate::edge::program;
use crate::edge::terminal::{self, Format};
use crate::flow::sshcert::{self, UserCert, UserCertRequest};
use crate::flow::upkeep;
use crate::platform::{self, Access};
use crate::text::report::{Complaint, Exit};

/// The file in the folder `ssh` of the identity.
pub const CONFIG: &str = "config";

/// The contents of a configuration.
#[derive(Clone, Debug)]
struct Parts {
    program: LocalPath,
    dir: LocalPath,
    domain: TrustDomain,
    machines: Vec<Name>,
    login: Login,
    proxy: Proxy,
}

/// How the person logs in.
#[derive(Clone, Debug)]
enum Login {
    /// By a certificate of the gateway's SSH CA.
    Certificate {
        /// The key.
        key: LocalPath,
        /// The certificate.
        certificate: LocalPath,
        /// The file with the SSH CAs.
        known_hosts: LocalPath,
        /// The login names of the certificate.
        principals: Vec<String>,
    },
    /// By ssh's own means: the policy gives no certificate.
    Own,
}

/// How ssh connects to the gateway.
#[derive(Clone, Debug)]
enum Proxy {
    /// By this program's helper.
    Helper,
    /// By `openssl s_client`, with a server name for each service (RFC 6066 3).
    OpenSsl {
        /// The proxy face.
        address: Address,
        /// The proxy face's name, below which services have names.
        below: DnsName,
    },
}

/// `ssh-config`.
///
/// # Errors
/// When there is no person's identity, or the gateway does not answer.
pub async fn print(store: &Keystore, args: &SshConfigArgs, format: Format) -> Result<(), Complaint> {
    let (parts, _) = make(store, args.openssl).await?;
    let text = render(&parts)?;
    if args.install {
        return install(&write(store, &text)?, format);
    }
    if args.write {
        let path = write(store, &text)?;
        let path = path.display().to_string();
        terminal::result(
            format,
            &json!({ "path": path }),
            &format!(
                "wrote {path}; use it as `ssh -F {path} MACHINE`, or let `lychgate ssh-config --install` include it in \
                 ~/.ssh/config\n"
            ),
        );
    } else {
        terminal::result(format, &json!({ "config": text }), &text);
    }
    Ok(())
}

/// Inserts the `Include` line at the beginning of the person's configuration, unless it is there.
fn install(config: &Path, format: Format) -> Result<(), Complaint> {
    let line = format!("Include {}", LocalPath::new(config)?.ssh_include()?);
    let own = platform::home()
        .map(|home| home.join(".ssh").join("config"))
        .ok_or_else(|| Complaint::new(Exit::Files, "files", "there is no home folder, and so no ~/.ssh/config"))?;
    let failed = |error: std::io::Error| {
        Complaint::new(Exit::Files, "files", format!("cannot change `{}`: {error}", own.display()))
            .hint(format!("put this line at its top yourself: {line}"))
    };
    // Resolves a symbolic link, to change its target.
    let place = std::fs::canonicalize(&own).unwrap_or_else(|_| own.clone());
    let before = match std::fs::read_to_string(&place) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(failed(error)),
    };
    let there = before.lines().any(|other| other.trim() == line);
    if !there {
        platform::replace_own(&place, &with_include(&before, &line)).map_err(failed)?;
    }
    let (path, own) = (config.display(), own.display());
    let verb = if there { "includes" } else { "now includes" };
    terminal::result(
        format,
        &json!({ "path": path.to_string(), "included_in": own.to_string(), "changed": !there }),
        &format!("wrote {path}; {own} {verb} it: `ssh MACHINE`, `scp` and `rsync` reach machines by their names\n"),
    );
    Ok(())
}

/// Puts the line before everything else: a line after a `Host` would belong to that section.
fn with_include(before: &str, line: &str) -> String {
    let gap = if before.is_empty() { "" } else { "\n" };
    format!("{line}\n{gap}{before}")
}

/// `ssh`: runs ssh with a fresh configuration.
///
/// # Errors
/// When there is no person's identity, the gateway does not answer or shows no such machine, or there is no ssh.
pub async fn ssh(store: &Keystore, args: &SshArgs) -> Result<Exit, Complaint> {
    let line = SshLine::read(&args.arguments)?;
    let mut command = std::process::Command::new("ssh");
    if let Some(host) = line.host() {
        let (parts, mut face) = make(store, false).await?;
        let name = machine_of(host, &parts.domain).ok_or_else(|| unseen(host))?;
        if !parts.machines.contains(&name) && !may_connect(&mut face, &name).await? {
            return Err(unseen(host));
        }
        if let Some(warning) = warning(&parts.login, line.login()) {
            terminal::say(&warning);
        }
        command.arg("-F").arg(write(store, &render(&parts)?)?).args(line.with_host(&full_name(&name, &parts.domain)));
    } else {
        command.args(&args.arguments);
    }
    // Replaces this process, so that terminal, signals and exit status are those of ssh.
    let error = platform::replace_by(command);
    Err(Complaint::new(Exit::Failure, "ssh", format!("cannot run ssh: {error}")).hint("install OpenSSH's client"))
}

/// The machine of a host argument: its name alone or in full, in any letter case, optionally with a trailing dot.
fn machine_of(host: &str, domain: &TrustDomain) -> Option<Name> {
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    let name = host.strip_suffix(&format!(".machine.{domain}")).unwrap_or(&host);
    Name::parse(name).ok()
}

fn unseen(host: &str) -> Complaint {
    Complaint::new(Exit::Failure, "not-found", format!("no machine `{host}` that you may see"))
        .hint("`lychgate machines list` shows them; `lychgate ssh` goes nowhere but through the gateway")
}

/// Asks `can-i`: a person may have the right to connect without the right to read.
async fn may_connect(face: &mut ManageFace, machine: &Name) -> Result<bool, Complaint> {
    let body = CanIRequest { action: "connect".to_owned(), resource: format!("ssh@{machine}") };
    let asked: Result<CanIReply, CallError> = face.post("/v1/can-i", &body).await;
    match asked {
        Ok(reply) => Ok(reply.allowed),
        Err(CallError::Refused(_)) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The warning before a login with a name that is not in the certificate.
fn warning(login: &Login, wanted: Option<&str>) -> Option<String> {
    let Login::Certificate { principals, .. } = login else { return None };
    let wanted = wanted.map(str::to_owned).or_else(platform::user_name)?;
    (!principals.contains(&wanted)).then(|| {
        let names = principals.join("`, `");
        format!("your certificate is for `{names}` and not for `{wanted}`, whose login wants a key of your own")
    })
}

fn write(store: &Keystore, text: &str) -> Result<PathBuf, Complaint> {
    let path = store.ssh_folder()?.join(CONFIG);
    store.replace_at(&path, text, Access::Secret)?;
    Ok(path)
}

async fn make(store: &Keystore, openssl: bool) -> Result<(Parts, ManageFace), Complaint> {
    // First, because with a path that cannot be quoted no configuration can be written.
    let dir = LocalPath::new(store.dir())?;
    let program = LocalPath::new(&program::own())?;
    let credential = upkeep::load_valid(store)?;
    if credential.identity.role != pki::Role::Person {
        let what = format!("`{}` is no person: people connect to services", credential.identity);
        return Err(Complaint::new(Exit::Refused, "wrong-caller", what));
    }
    let mut face = ManageFace::new(&credential).map_err(CallError::Net)?;
    let known: SelfReply = face.get("/v1/self").await?;
    let proxy = match (openssl, known.proxy, known.services_below) {
        (_, None, _) => return Err(no_proxy()),
        (false, Some(_), _) => Proxy::Helper,
        (true, Some(address), Some(below)) => {
            let address = Address::parse(&address, 443).map_err(|error| bad_reply(&error.to_string()))?;
            let below = DnsName::parse(&below).map_err(|error| bad_reply(&error.to_string()))?;
            Proxy::OpenSsl { address, below }
        }
        (true, Some(_), None) => {
            return Err(Complaint::new(Exit::Refused, "no-proxy", "this gateway's proxy face has no DNS name")
                .hint("its operator adds one under `names.proxy`; without --openssl none is needed"));
        }
    };
    let machines = machines(&mut face).await?;
    let parts =
        Parts { program, dir, domain: credential.domain().clone(), machines, login: login(store).await?, proxy };
    Ok((parts, face))
}

fn bad_reply(what: &str) -> Complaint {
    Complaint::new(Exit::Failure, "bad-reply", format!("the gateway's reply cannot be used: {what}"))
}

fn no_proxy() -> Complaint {
    Complaint::new(Exit::Refused, "no-proxy", "the gateway has no proxy face, so it gives no access to machines")
        .hint("its operator sets `listen.proxy`, or `names.proxy` on a shared port")
}

/// Gets a certificate, if the policy gives one. Without one, a person with a key on the machine can still log in.
async fn login(store: &Keystore) -> Result<Login, Complaint> {
    match sshcert::ensure_user(store, &UserCertRequest::default()).await {
        Ok(UserCert { key, certificate, known_hosts_file, principals, .. }) => Ok(Login::Certificate {
            key: LocalPath::new(&key)?,
            certificate: LocalPath::new(&certificate)?,
            known_hosts: LocalPath::new(&known_hosts_file)?,
            principals,
        }),
        Err(complaint) if complaint.exit == Exit::Refused => {
            terminal::say(&format!("no SSH certificate, log in by a key of your own: {complaint}"));
            Ok(Login::Own)
        }
        Err(complaint) => Err(complaint),
    }
}

/// The names of machines that the person may read.
async fn machines(face: &mut ManageFace) -> Result<Vec<Name>, Complaint> {
    let mut names = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let limit = Some(wire::limits::PAGE_MAX.to_string());
        let query = crate::edge::manage::query(&[("limit", limit), ("after", after)]);
        let page: Value = face.get(&format!("/v1/machines{query}")).await?;
        let rows = page.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
        names.extend(rows.iter().filter_map(|row| row["name"].as_str()).filter_map(|name| Name::parse(name).ok()));
        after = page.get("next").and_then(Value::as_str).map(str::to_owned);
        if after.is_none() {
            return Ok(names);
        }
    }
}

/// The `Host` section of a machine with `openssl s_client`.
fn by_openssl(parts: &Parts, machine: &Name, address: &Address, below: &DnsName) -> Result<String, Complaint> {
    let file = |name: &str| parts.dir.below(Path::new(name));
    let (roots, cert, chain, key) = (file("bundle.pem")?, file("cert.pem")?, file("chain.pem")?, file("key.pem")?);
    let fixed = Word::Fixed;
    let service = Word::Service(machine, below);
    let command = ssh_command(&[
        fixed("openssl"),
        fixed("s_client"),
        fixed("-quiet"),
        fixed("-verify_quiet"),
        fixed("-verify_return_error"),
        fixed("-verify_hostname"),
        service.clone(),
        fixed("-connect"),
        Word::Address(address),
        fixed("-servername"),
        service,
        fixed("-CAfile"),
        Word::Path(&roots),
        fixed("-cert"),
        Word::Path(&cert),
        fixed("-cert_chain"),
        Word::Path(&chain),
        fixed("-key"),
        Word::Path(&key),
    ]);
    let full = full_name(machine, &parts.domain);
    Ok(format!(
        "\nHost {machine} {full}\n    HostName {full}\n\n\
         Match originalhost {machine},{machine}.,{full},{full}.\n    HostName {full}\n    ProxyCommand {command}\n"
    ))
}

fn render(parts: &Parts) -> Result<String, Complaint> {
    let Parts { program, dir, domain, machines, login, proxy } = parts;
    // For a name with a trailing dot ssh finds no host key, but it must not ask DNS for it either.
    let all = format!("*.machine.{domain},*.machine.{domain}.");
    let mut out = format!(
        "# The machines of {domain}, by `lychgate ssh-config`. Use it as `ssh -F FILE MACHINE`, or `Include` it.\n"
    );
    match proxy {
        Proxy::Helper if machines.is_empty() => {}
        Proxy::Helper => {
            let names: Vec<&str> = machines.iter().map(Name::as_str).collect();
            // `Host` is case-sensitive, and other programs read it; `Match originalhost` ignores case. `%h` of a name with a trailing
            // dot contains the dot.
            out.push_str(&format!("\nHost {}\n    HostName %h.machine.{domain}\n", names.join(" ")));
            out.push_str(&format!("\nMatch originalhost {}\n    HostName %h.machine.{domain}\n", names.join(",")));
            out.push_str(&format!("\nMatch originalhost {}.\n    HostName %hmachine.{domain}\n", names.join(".,")));
        }
        Proxy::OpenSsl { address, below } => {
            for machine in machines {
                out.push_str(&by_openssl(parts, machine, address, below)?);
            }
        }
    }
    let ours = |rest: &[Word<'_>]| {
        let begin = [Word::Path(program), Word::Fixed("--dir"), Word::Path(dir)];
        ssh_command(&[&begin, rest].concat())
    };
    if let Login::Certificate { .. } = login {
        let command = ours(&[Word::Fixed("ssh-cert"), Word::Fixed("user"), Word::Fixed("--if-needed")]);
        out.push_str(&format!(
            "\n# The certificate to log in with is fetched when a third of its life is left.\n\
             Match host {all} exec \"{command} >/dev/null\"\n    Compression no\n"
        ));
    }
    out.push_str(&format!("\nMatch host {all}\n"));
    if let Proxy::Helper = proxy {
        let command = ours(&[Word::Fixed("connect"), Word::Fixed("--helper"), Word::Token("ssh@%h")]);
        out.push_str(&format!("    ProxyCommand {command}\n"));
    }
    if let Login::Certificate { key, certificate, known_hosts, .. } = login {
        out.push_str(&format!(
            "    IdentityFile {}\n    CertificateFile {}\n    UserKnownHostsFile {}\n    GlobalKnownHostsFile /dev/null\n    \
             StrictHostKeyChecking yes\n",
            key.ssh_value(),
            certificate.ssh_value(),
            known_hosts.ssh_value()
        ));
    }
    out.push_str("    ServerAliveInterval 60\n");
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> LocalPath {
        LocalPath::new(Path::new(text)).unwrap()
    }

    fn parts(login: Login, proxy: Proxy) -> Parts {
        Parts {
            program: path("/opt/bin/lychgate"),
            dir: path("/opt/my things"),
            domain: TrustDomain::parse("td.example").unwrap(),
            machines: ["alpha", "beta"].map(|name| Name::parse(name).unwrap()).to_vec(),
            login,
            proxy,
        }
    }

    fn certificate() -> Login {
        Login::Certificate {
            key: path("/k"),
            certificate: path("/k-cert.pub"),
            known_hosts: path("/kh"),
            principals: vec!["admin".into(), "root".into()],
        }
    }

    #[test]
    fn by_the_helper() {
        assert_eq!(
            render(&parts(certificate(), Proxy::Helper)).unwrap(),
            "# The machines of td.example, by `lychgate ssh-config`. Use it as `ssh -F FILE MACHINE`, or `Include` it.\n\
             \n\
             Host alpha beta\n    HostName %h.machine.td.example\n\
             \n\
             Match originalhost alpha,beta\n    HostName %h.machine.td.example\n\
             \n\
             Match originalhost alpha.,beta.\n    HostName %hmachine.td.example\n\
             \n\
             # The certificate to log in with is fetched when a third of its life is left.\n\
             Match host *.machine.td.example,*.machine.td.example. exec \"/opt/bin/lychgate --dir '/opt/my things' ssh-cert user --if-needed >/dev/null\"\n    Compression no\n\
             \n\
             Match host *.machine.td.example,*.machine.td.example.\n    \
             ProxyCommand /opt/bin/lychgate --dir '/opt/my things' connect --helper ssh@%h\n    \
             IdentityFile \"/k\"\n    CertificateFile \"/k-cert.pub\"\n    UserKnownHostsFile \"/kh\"\n    \
             GlobalKnownHostsFile /dev/null\n    StrictHostKeyChecking yes\n    ServerAliveInterval 60\n"
        );
    }

    #[test]
    fn by_openssl_with_both_verify_options() {
        let proxy = Proxy::OpenSsl {
            address: Address::parse("gw.example", 443).unwrap(),
            below: DnsName::parse("gw.example").unwrap(),
        };
        let text = render(&parts(Login::Own, proxy)).unwrap();
        let want = "Host beta beta.machine.td.example\n    HostName beta.machine.td.example\n\n\
                    Match originalhost beta,beta.,beta.machine.td.example,beta.machine.td.example.\n    \
                    HostName beta.machine.td.example\n    \
                    ProxyCommand openssl s_client -quiet -verify_quiet -verify_return_error -verify_hostname \
                    ssh--beta.gw.example -connect gw.example:443 -servername ssh--beta.gw.example -CAfile \
                    '/opt/my things/bundle.pem' -cert '/opt/my things/cert.pem' -cert_chain '/opt/my things/chain.pem' \
                    -key '/opt/my things/key.pem'\n";
        assert!(text.contains(want), "{text}");
        assert!(!text.contains("IdentityFile") && !text.contains("exec"), "{text}");
    }

    /// The installed ssh connects through the gateway to a machine in each spelling, and looks up the host key by its full name.
    #[test]
    fn ssh_finds_machines_in_any_letter_case_and_with_a_dot() {
        let openssl = || Proxy::OpenSsl {
            address: Address::parse("gw.example", 443).unwrap(),
            below: DnsName::parse("gw.example").unwrap(),
        };
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("config");
        let spellings = ["beta", "BETA", "beta.", "Beta.", "beta.machine.td.example", "BETA.machine.TD.example"];
        for proxy in [Proxy::Helper, openssl()] {
            let text = render(&parts(Login::Own, proxy)).unwrap();
            platform::replace(&config, &text, Access::Secret).unwrap();
            for (host, ours) in
                spellings.map(|host| (host, true)).into_iter().chain([("gamma", false), ("beta.x", false)])
            {
                let out = std::process::Command::new("ssh").arg("-F").arg(&config).args(["-G", host]).output().unwrap();
                let said = String::from_utf8(out.stdout).unwrap();
                let led = said.lines().any(|line| line.starts_with("proxycommand "));
                let named = said.lines().any(|line| line == "hostname beta.machine.td.example");
                assert_eq!((led, named), (ours, ours), "{host}: {said}");
            }
        }
    }

    #[test]
    fn hosts_as_people_write_machines() {
        let domain = TrustDomain::parse("td.example").unwrap();
        for host in ["m-1", "M-1", "m-1.", "m-1.machine.td.example", "M-1.Machine.TD.example."] {
            assert_eq!(machine_of(host, &domain).unwrap().as_str(), "m-1", "{host}");
        }
        for host in [
            "",
            ".",
            "m-1.example",
            "m-1.machine.other.example",
            "127.0.0.1",
            "::1",
            "a b",
            "%h",
            "-x",
            "m..",
            "x.m-1.machine.td.example",
        ] {
            assert_eq!(machine_of(host, &domain), None, "{host}");
        }
    }

    #[test]
    fn a_login_that_the_certificate_is_not_for_is_said_before() {
        assert_eq!(warning(&certificate(), Some("root")), None);
        let said = warning(&certificate(), Some("bob")).unwrap();
        assert_eq!(
            said,
            "your certificate is for `admin`, `root` and not for `bob`, whose login wants a key of your own"
        );
        assert_eq!(warning(&Login::Own, Some("bob")), None);
    }

    #[test]
    fn the_include_stands_first() {
        assert_eq!(with_include("", "Include \"/x\""), "Include \"/x\"\n");
        assert_eq!(with_include("Host a\n", "Include \"/x\""), "Include \"/x\"\n\nHost a\n");
    }
}
