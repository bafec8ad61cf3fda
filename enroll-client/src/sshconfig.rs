//! `ssh-config` and `ssh`: stock OpenSSH, led to machines by their names. What is written needs no question answered: host
//! keys are believed by the gateway's CA, and the person logs in by a certificate.

use std::path::Path;

use serde_json::{Value, json};
use wire::manage::SelfReply;

use crate::cli::{SshArgs, SshConfigArgs};
use crate::edge::keystore::{Credential, Keystore};
use crate::edge::manage::ManageFace;
use crate::edge::net::CallError;
use crate::edge::terminal::{self, Format};
use crate::platform::{self, Access};
use crate::report::{Complaint, Exit};
use crate::sshcert::{self, UserCert, UserWish};
use crate::upkeep;

/// The file in the folder `ssh` of the identity.
pub const CONFIG: &str = "config";

/// Everything that a configuration is made of.
#[derive(Clone, Debug)]
struct Parts {
    program: String,
    dir: String,
    domain: String,
    machines: Vec<String>,
    login: Login,
    proxy: Proxy,
}

/// How the person logs in.
#[derive(Clone, Debug)]
enum Login {
    /// By a certificate of the gateway's SSH CA.
    Certificate {
        /// The key.
        key: String,
        /// The certificate.
        certificate: String,
        /// Whom to believe.
        known_hosts: String,
    },
    /// As ssh would anyhow: the policy gives no certificate.
    Own,
}

/// How ssh gets to the gateway.
#[derive(Clone, Debug)]
enum Proxy {
    /// By this program's helper.
    Helper,
    /// By `openssl s_client`, to a name for each service.
    OpenSsl {
        /// `host:port` of the proxy face.
        address: String,
        /// The name below which services are understood.
        below: String,
    },
}

/// `ssh-config`.
///
/// # Errors
/// When there is no person's identity, or the gateway does not answer.
pub async fn print(store: &Keystore, args: &SshConfigArgs, format: Format) -> Result<(), Complaint> {
    let text = make(store, args.openssl).await?;
    if args.write {
        let path = write(store, &text)?;
        let path = path.display().to_string();
        terminal::result(
            format,
            &json!({ "path": path }),
            &format!("wrote {path}; use it as `ssh -F {path} MACHINE`\n"),
        );
    } else {
        terminal::result(format, &json!({ "config": text }), &text);
    }
    Ok(())
}

/// `ssh`: runs ssh with a fresh configuration.
///
/// # Errors
/// When there is no person's identity, the gateway does not answer, or there is no ssh.
pub async fn ssh(store: &Keystore, args: &SshArgs) -> Result<Exit, Complaint> {
    let text = make(store, false).await?;
    let path = write(store, &text)?;
    let mut command = std::process::Command::new("ssh");
    command.arg("-F").arg(path).arg(&args.machine).args(&args.rest);
    // In our place, so that terminal, signals and exit status are ssh's own.
    let error = platform::replace_by(command);
    Err(Complaint::new(Exit::Failure, "ssh", format!("cannot run ssh: {error}")).hint("install OpenSSH's client"))
}

fn write(store: &Keystore, text: &str) -> Result<std::path::PathBuf, Complaint> {
    let path = store.ssh_folder()?.join(CONFIG);
    store.replace_at(&path, text, Access::Secret)?;
    Ok(path)
}

async fn make(store: &Keystore, openssl: bool) -> Result<String, Complaint> {
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
        (true, Some(address), Some(below)) => Proxy::OpenSsl { address, below },
        (true, Some(_), None) => {
            return Err(Complaint::new(Exit::Refused, "no-proxy", "this gateway's proxy face has no DNS name")
                .hint("its operator adds one under `names.proxy`; without --openssl none is needed"));
        }
    };
    let parts = Parts {
        program: std::env::current_exe().map_or_else(|_| "lychgate".to_owned(), |path| path.display().to_string()),
        dir: store.dir().display().to_string(),
        domain: credential.domain().as_str().to_owned(),
        machines: machines(&mut face).await?,
        login: login(store, &credential).await?,
        proxy,
    };
    Ok(render(&parts))
}

fn no_proxy() -> Complaint {
    Complaint::new(Exit::Refused, "no-proxy", "this gateway leads nobody to machines: it has no proxy face")
        .hint("its operator sets `listen.proxy`, or `names.proxy` on a shared port")
}

/// A certificate if the policy gives one. Without, whoever has a key on the machine still gets in with it.
async fn login(store: &Keystore, _credential: &Credential) -> Result<Login, Complaint> {
    match sshcert::ensure_user(store, &UserWish::default()).await {
        Ok(UserCert { key, certificate, known_hosts_file, .. }) => Ok(Login::Certificate {
            key: key.display().to_string(),
            certificate: certificate.display().to_string(),
            known_hosts: known_hosts_file.display().to_string(),
        }),
        Err(complaint) if complaint.exit == Exit::Refused => {
            terminal::say(&format!("no SSH certificate, log in by a key of your own: {complaint}"));
            Ok(Login::Own)
        }
        Err(complaint) => Err(complaint),
    }
}

/// The machines that the person may see, by name.
async fn machines(face: &mut ManageFace) -> Result<Vec<String>, Complaint> {
    let mut names = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let limit = Some(wire::limits::PAGE_MAX.to_string());
        let query = crate::edge::manage::query(&[("limit", limit), ("after", after)]);
        let page: Value = face.get(&format!("/v1/machines{query}")).await?;
        let rows = page.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
        let legal = rows.iter().filter_map(|row| row["name"].as_str()).filter(|name| pki::Name::parse(name).is_ok());
        names.extend(legal.map(str::to_owned));
        after = page.get("next").and_then(Value::as_str).map(str::to_owned);
        if after.is_none() {
            return Ok(names);
        }
    }
}

/// A word for a shell, and for ssh, which gives these lines to one.
fn quoted(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/._-+:@".contains(&b);
    // `%` has a meaning of its own for ssh.
    let text = text.replace('%', "%%");
    if !text.is_empty() && text.bytes().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// A path as ssh reads it in its own keywords.
fn path(text: &str) -> String {
    format!("\"{}\"", text.replace('%', "%%"))
}

/// The way to one machine by a program that everybody has: the name of its service says where.
fn by_openssl(parts: &Parts, machine: &str, address: &str, below: &str) -> String {
    let folder = Path::new(parts.dir.as_str());
    let file = |name: &str| quoted(&folder.join(name).display().to_string());
    let (full, name) = (format!("{machine}.machine.{}", parts.domain), format!("ssh--{machine}.{below}"));
    format!(
        "\nHost {machine} {full}\n    HostName {full}\n    ProxyCommand openssl s_client -quiet -verify_quiet \
         -verify_return_error -verify_hostname {name} -connect {address} -servername {name} -CAfile {} -cert {} \
         -cert_chain {} -key {}\n",
        file("bundle.pem"),
        file("cert.pem"),
        file("chain.pem"),
        file("key.pem"),
    )
}

fn render(parts: &Parts) -> String {
    let Parts { program, dir, domain, machines, login, proxy } = parts;
    let all = format!("*.machine.{domain}");
    let (program, dir) = (quoted(program), quoted(dir));
    let mut out = format!(
        "# The machines of {domain}, by `lychgate ssh-config`. Use it as `ssh -F FILE MACHINE`, or `Include` it.\n"
    );
    match proxy {
        Proxy::Helper if machines.is_empty() => {}
        Proxy::Helper => {
            out.push_str(&format!("\nHost {}\n    HostName %h.machine.{domain}\n", machines.join(" ")));
        }
        Proxy::OpenSsl { address, below } => {
            machines.iter().for_each(|machine| out.push_str(&by_openssl(parts, machine, address, below)));
        }
    }
    if let Login::Certificate { .. } = login {
        out.push_str(&format!(
            "\n# The certificate to log in with is fetched when a third of its life is left.\n\
             Match host {all} exec \"{program} --dir {dir} ssh-cert user --if-needed >/dev/null\"\n    Compression no\n"
        ));
    }
    out.push_str(&format!("\nMatch host {all}\n"));
    if let Proxy::Helper = proxy {
        out.push_str(&format!("    ProxyCommand {program} --dir {dir} connect --helper %h ssh\n"));
    }
    if let Login::Certificate { key, certificate, known_hosts } = login {
        out.push_str(&format!(
            "    IdentityFile {}\n    CertificateFile {}\n    UserKnownHostsFile {}\n    GlobalKnownHostsFile /dev/null\n    \
             StrictHostKeyChecking yes\n",
            path(key),
            path(certificate),
            path(known_hosts)
        ));
    }
    out.push_str("    ServerAliveInterval 60\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(login: Login, proxy: Proxy) -> Parts {
        Parts {
            program: "/opt/bin/lychgate".into(),
            dir: "/opt/my things".into(),
            domain: "td.example".into(),
            machines: vec!["alpha".into(), "beta".into()],
            login,
            proxy,
        }
    }

    fn certificate() -> Login {
        Login::Certificate { key: "/k".into(), certificate: "/k-cert.pub".into(), known_hosts: "/kh".into() }
    }

    #[test]
    fn by_the_helper() {
        assert_eq!(
            render(&parts(certificate(), Proxy::Helper)),
            "# The machines of td.example, by `lychgate ssh-config`. Use it as `ssh -F FILE MACHINE`, or `Include` it.\n\
             \n\
             Host alpha beta\n    HostName %h.machine.td.example\n\
             \n\
             # The certificate to log in with is fetched when a third of its life is left.\n\
             Match host *.machine.td.example exec \"/opt/bin/lychgate --dir '/opt/my things' ssh-cert user --if-needed >/dev/null\"\n    Compression no\n\
             \n\
             Match host *.machine.td.example\n    \
             ProxyCommand /opt/bin/lychgate --dir '/opt/my things' connect --helper %h ssh\n    \
             IdentityFile \"/k\"\n    CertificateFile \"/k-cert.pub\"\n    UserKnownHostsFile \"/kh\"\n    \
             GlobalKnownHostsFile /dev/null\n    StrictHostKeyChecking yes\n    ServerAliveInterval 60\n"
        );
    }

    #[test]
    fn by_openssl_with_both_verify_options() {
        let proxy = Proxy::OpenSsl { address: "gw.example:443".into(), below: "gw.example".into() };
        let text = render(&parts(Login::Own, proxy));
        let want = "Host beta beta.machine.td.example\n    HostName beta.machine.td.example\n    \
                    ProxyCommand openssl s_client -quiet -verify_quiet -verify_return_error -verify_hostname \
                    ssh--beta.gw.example -connect gw.example:443 -servername ssh--beta.gw.example -CAfile \
                    '/opt/my things/bundle.pem' -cert '/opt/my things/cert.pem' -cert_chain '/opt/my things/chain.pem' \
                    -key '/opt/my things/key.pem'\n";
        assert!(text.contains(want), "{text}");
        assert!(!text.contains("IdentityFile") && !text.contains("exec"), "{text}");
    }

    #[test]
    fn words_for_shell_and_ssh() {
        for (text, want) in
            [("/a/b-c", "/a/b-c"), ("/a b", "'/a b'"), ("/it's", r"'/it'\''s'"), ("/a%b", "'/a%%b'"), ("", "''")]
        {
            assert_eq!(quoted(text), want);
        }
    }
}
