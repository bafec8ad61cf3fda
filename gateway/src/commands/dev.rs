//! `dev`: a gateway on loopback for trials, with one folder.

use std::{
    io::Write as _,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::Arc,
};

use super::{init, runtime};
use crate::{
    complaint::Complaint,
    config::Config,
    flow::shell::Shell,
    ports::{files, local},
    server::{self, Start},
    store::Engine,
};

/// The ports tried first.
const PORTS: [u16; 3] = [8443, 8444, 8445];

/// Runs until Ctrl-C.
pub fn dev(dir: &Path) -> Result<(), Complaint> {
    let client = client()?;
    // absolute, since the printed commands are run in another terminal
    let dir = &std::path::absolute(dir).map_err(Complaint::failed)?;
    let config_path = dir.join("gateway.toml");
    let runtime = runtime()?;
    if !files::exists(&config_path) {
        let listen = free_port(PORTS[0])?;
        let options = init::InitOptions {
            trust_domain: "dev.lychgate.test".to_owned(),
            name: None,
            listen,
            listen_manage: Some(free_port(PORTS[1])?),
            listen_proxy: Some(free_port(PORTS[2])?),
            engine: Engine::Sled,
            ports: init::Ports::Apart,
        };
        init::init(&init::Folders::one(dir), &options)?;
    }
    let config = server::configuration(&config_path)?;
    let log = dir.join("gateway.log");
    local::log_to(&config.log, &log).map_err(Complaint::failed)?;
    let place = DevFolders { dir: dir.to_owned(), client };
    runtime.block_on(async {
        let start = Start { config: config.clone(), path: config_path, accept_rollback: false };
        server::serve(start, move |shell| {
            tokio::spawn(welcome(Arc::clone(shell), place, config));
        })
        .await
    })
}

struct DevFolders {
    dir: PathBuf,
    client: PathBuf,
}

/// A path, quoted for a shell.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    if text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-+:@%".contains(&byte)) {
        return text;
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Joins the first person, creates a machine's token, and prints commands to try.
async fn welcome(shell: Arc<Shell>, place: DevFolders, config: Config) {
    if let Err(complaint) = greet(&shell, &place, &config).await {
        eprintln!("lychgate-gateway: error: {complaint}");
    }
}

async fn greet(shell: &Arc<Shell>, place: &DevFolders, config: &Config) -> Result<(), Complaint> {
    let me = place.dir.join("me");
    let name = first_person(shell, place, &me).await?;
    let settings = shell.settings.load();
    let (dir, client) = (quoted(&place.dir), quoted(&place.client));
    let url = format!("https://{}", settings.public_enroll);
    let pin = shell.ca().pin().hex();
    eprintln!();
    eprintln!("Lychgate runs. All its files are in {dir}/ and are kept between runs.");
    eprintln!();
    eprintln!("join a machine (in another terminal; it waits for approval and shows a code):");
    eprintln!("    {client} --dir {dir}/machine-1 join {url} --pin {pin} --name machine-1");
    eprintln!("see who waits:");
    eprintln!("    {client} --dir {dir}/me requests list");
    eprintln!("approve, with the code that the machine shows:");
    eprintln!("    {client} --dir {dir}/me requests approve ID --code CODE");
    eprintln!("join without waiting, with a token:");
    eprintln!("    {client} --dir {dir}/me tokens create --name machine-2 | {client} --dir {dir}/machine-2 join -");
    eprintln!("keep its certificate renewed, and look at it:");
    eprintln!("    {client} --dir {dir}/machine-1 run");
    eprintln!("    {client} --dir {dir}/machine-1 status");
    eprintln!("let its sshd use the gateway's SSH certificates (HostCertificate, TrustedUserCAKeys):");
    eprintln!("    {client} --dir {dir}/machine-1 ssh-cert host");
    eprintln!("    {client} --dir {dir}/machine-1 ssh-cert trusted-user-ca");
    eprintln!("keep it renewed, and expose a service, here that sshd (in place of the `run` above):");
    eprintln!("    {client} --dir {dir}/machine-1 run --expose ssh=127.0.0.1:22");
    eprintln!("log in there by name, and see who does:");
    eprintln!("    {client} --dir {dir}/me ssh root@machine-1");
    eprintln!("    {client} --dir {dir}/me sessions list");
    eprintln!("the same with stock ssh, scp, Ansible:");
    eprintln!("    {client} --dir {dir}/me ssh-config --write");
    eprintln!("    ssh -F {dir}/me/ssh/config root@machine-1");
    eprintln!("call the manage face with the issued files:");
    let manage = &settings.public_manage;
    eprintln!(
        "    curl --cert {dir}/machine-1/cert.pem --key {dir}/machine-1/key.pem --cacert {dir}/machine-1/bundle.pem https://{manage}/v1/self"
    );
    eprintln!();
    eprintln!("you are      `{name}`, a member of `{}`: {dir}/me", init::FIRST_GROUP);
    let proxy = settings.public_proxy.as_ref().map_or_else(String::new, |proxy| format!("   proxy https://{proxy}"));
    eprintln!("listening    enroll {url}   manage https://{manage}{proxy}");
    eprintln!("log          {dir}/gateway.log");
    eprintln!("settings     {dir}/gateway.toml   policy {}", policies(config));
    eprintln!("stop         Ctrl-C");
    Ok(())
}

fn policies(config: &Config) -> String {
    config.policy_files.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// Joins the first person, or renews their certificate, with the client program.
async fn first_person(shell: &Arc<Shell>, place: &DevFolders, me: &Path) -> Result<String, Complaint> {
    // secrets go through standard input: other users of this machine can see arguments
    let run = |args: &[&str], input: String| {
        let mut command = Command::new(&place.client);
        command.arg("--dir").arg(me).args(args).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        async move {
            let output = tokio::task::spawn_blocking(move || feed(&mut command, &input)).await;
            let output = output.map_err(Complaint::failed)?.map_err(Complaint::failed)?;
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            Ok::<_, Complaint>((output.status.success(), said))
        }
    };
    let name = "admin".to_owned();
    if files::exists(&me.join("cert.pem")) {
        let (fresh, said) = run(&["run", "--once"], String::new()).await?;
        if fresh {
            return Ok(name);
        }
        return Err(Complaint::failed(format!("the first person's identity in {} is not good:\n{said}", me.display()))
            .hint("remove that folder to start again"));
    }
    // the token that `init` wrote is redeemed here, and its file removed
    let left = place.dir.join("first-person.token");
    let token = match files::read_text(&left) {
        Ok(token) => token.trim().to_owned(),
        Err(_) => init::first_token(shell).await?,
    };
    let (joined, said) = run(&["join", "-", "--name", &name], token).await?;
    local::remove(&left).map_err(Complaint::failed)?;
    if joined { Ok(name) } else { Err(Complaint::failed(format!("the first person could not join:\n{said}"))) }
}

/// Runs a command with `input` on its standard input.
fn feed(command: &mut Command, input: &str) -> std::io::Result<Output> {
    let mut child = command.spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        match stdin.write_all(input.as_bytes()) {
            // the command may end without reading its input
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    child.wait_with_output()
}

/// The client program beside this one. Started by cargo, builds it first, since cargo builds only what it runs.
fn client() -> Result<PathBuf, Complaint> {
    let own = std::env::current_exe().map_err(Complaint::failed)?;
    let client = own.with_file_name(format!("lychgate{}", std::env::consts::EXE_SUFFIX));
    if let Some(cargo) = std::env::var_os("CARGO") {
        let mut build = Command::new(cargo);
        build.args(["build", "--quiet", "--package", "enroll-client", "--bin", "lychgate"]);
        if !cfg!(debug_assertions) {
            build.arg("--release");
        }
        eprintln!("building the client (the first time takes a minute) ...");
        let status = build.status().map_err(Complaint::failed)?;
        if !status.success() {
            return Err(Complaint::failed("the client could not be built"));
        }
    }
    if files::exists(&client) {
        Ok(client)
    } else {
        Err(Complaint::failed(format!("the client `{}` is not there", client.display()))
            .hint("install `lychgate` beside `lychgate-gateway`"))
    }
}

/// The wanted port on loopback, or another one if that is taken.
fn free_port(wanted: u16) -> Result<SocketAddr, Complaint> {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    local::free(SocketAddr::from((Ipv4Addr::LOCALHOST, wanted)))
        .or_else(|_| local::free(any))
        .map_err(|error| Complaint::failed(format!("no free port on loopback: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_can_be_pasted() {
        for (path, want) in [
            ("/a/lychgate-dev", "/a/lychgate-dev"),
            ("/a/my things", "'/a/my things'"),
            ("/a/it's", r"'/a/it'\''s'"),
            ("/a/$(b)", "'/a/$(b)'"),
        ] {
            assert_eq!(quoted(Path::new(path)), want);
        }
    }
}
