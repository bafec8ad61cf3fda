//! Clients that send their certificate without its issuing CA, as key stores, browsers and proxies do, and the gateway's certificate
//! request. A test whose program is not installed prints that and passes; `tests/run` installs the small ones (NSS), not a browser or a
//! Java compiler.

use std::path::{Path, PathBuf};
use std::process::Command;

use tests::cli::Lychgate;
use tests::gateway::{Gateway, Setup};
use tests::program::{Ended, run};
use tests::wait::PATIENCE;

/// A gateway, a person, and the files of such a client.
struct Stage {
    gateway: Gateway,
    alice: Lychgate,
    leaf: PathBuf,
    /// Leaf and key in one, with the password `x`.
    p12: PathBuf,
}

fn ok(command: &mut Command) -> Ended {
    let ended = run(command, PATIENCE);
    assert_eq!(ended.code, 0, "{command:?}\n{}{}", ended.stdout, ended.stderr);
    ended
}

impl Stage {
    fn set() -> Self {
        let gateway = Setup::default().start();
        let alice = gateway.first_person();
        let (leaf, p12) = (gateway.room().join("leaf.pem"), gateway.room().join("alice.p12"));
        let all = std::fs::read_to_string(alice.file("cert.pem")).unwrap();
        let end = all.find("-----END CERTIFICATE-----\n").unwrap() + "-----END CERTIFICATE-----\n".len();
        std::fs::write(&leaf, &all[..end]).unwrap();
        let mut openssl = Command::new("openssl");
        openssl.args(["pkcs12", "-export", "-name", "alice", "-passout", "pass:x", "-in"]).arg(&leaf);
        ok(openssl.arg("-inkey").arg(alice.file("key.pem")).arg("-out").arg(&p12));
        Self { gateway, alice, leaf, p12 }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.gateway.room().join(name)
    }

    /// The manage face by a DNS name, which every client supports.
    fn url(&self) -> String {
        format!("https://localhost:{}/v1/self", self.gateway.manage().address.port())
    }

    /// An NSS database with alice's leaf and key, that trusts the root, and knows the issuing CA or does not.
    fn nss(&self, dir: &str, with_issuing: Option<&Path>) -> PathBuf {
        let dir = self.path(dir);
        std::fs::create_dir_all(&dir).unwrap();
        let database = format!("sql:{}", dir.display());
        let certutil = |args: &[&str]| ok(Command::new("certutil").arg("-d").arg(&database).args(args));
        certutil(&["-N", "--empty-password"]);
        certutil(&["-A", "-t", "CT,C,", "-n", "root", "-i", self.alice.file("bundle.pem").to_str().unwrap()]);
        if let Some(issuing) = with_issuing {
            certutil(&["-A", "-t", ",,", "-n", "issuing", "-i", issuing.to_str().unwrap()]);
        }
        let mut import = Command::new("pk12util");
        ok(import.args(["-d", &database, "-W", "x", "-K", "", "-i"]).arg(&self.p12));
        dir
    }
}

/// Whether a program is installed; prints a note if it is not.
fn there(program: &str) -> bool {
    let found =
        Command::new("sh").args(["-c", "command -v \"$1\" >/dev/null", "sh", program]).status().unwrap().success();
    if !found {
        println!("left out: `{program}` is not installed");
    }
    found
}

const WHO: &str = "spiffe://test.example/person/alice";

#[test]
fn curl_with_the_leaf_alone() {
    let stage = Stage::set();
    let mut curl = Command::new("curl");
    curl.args(["-sS", "--max-time", "20", "--cacert"]).arg(stage.alice.file("bundle.pem"));
    curl.arg("--cert").arg(&stage.leaf).arg("--key").arg(stage.alice.file("key.pem"));
    let answer = ok(curl.arg(stage.url())).stdout;
    assert!(answer.contains(WHO), "{answer}");
}

/// The root and every issuing CA whose certificates are let in; not the one for gateways.
#[test]
fn the_names_that_are_asked_for() {
    let stage = Stage::set();
    let mut openssl = Command::new("openssl");
    openssl.args(["s_client", "-connect", &format!("localhost:{}", stage.gateway.manage().address.port()), "-CAfile"]);
    openssl.arg(stage.alice.file("bundle.pem")).arg("-cert").arg(&stage.leaf);
    let said = run(openssl.arg("-key").arg(stage.alice.file("key.pem")), PATIENCE).stdout;
    let (_, after) =
        said.split_once("Acceptable client certificate CA names\n").expect("it asks for certificates of CAs");
    let names: Vec<&str> = after.lines().take_while(|line| line.starts_with("CN = ")).collect();
    let wanted = ["root", "machines", "people"].map(|what| format!("CN = test.example {what} CA"));
    assert_eq!(names, wanted, "{said}");
}

#[test]
fn nss_with_a_store_of_one_certificate() {
    if !there("tstclnt") || !there("certutil") || !there("pk12util") {
        return;
    }
    let stage = Stage::set();
    let store = stage.nss("nss", None);
    let request = stage.path("request");
    let port = stage.gateway.manage().address.port();
    std::fs::write(&request, format!("GET /v1/self HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: close\r\n\r\n"))
        .unwrap();
    let mut tstclnt = Command::new("tstclnt");
    tstclnt.args(["-4", "-h", "localhost", "-p", &port.to_string(), "-n", "alice", "-V", "tls1.3:tls1.3", "-d"]);
    tstclnt.arg(format!("sql:{}", store.display())).arg("-A").arg(&request);
    let ended = run(&mut tstclnt, PATIENCE);
    assert!(ended.stdout.contains(WHO), "{}{}", ended.stdout, ended.stderr);
}

const JAVA: &str = r#"
import java.io.FileInputStream;
import java.net.URL;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import javax.net.ssl.*;

public class Client {
    public static void main(String[] args) throws Exception {
        char[] password = "x".toCharArray();
        KeyStore own = KeyStore.getInstance("PKCS12");
        own.load(new FileInputStream(args[0]), password);
        KeyStore roots = KeyStore.getInstance("PKCS12");
        roots.load(null, null);
        CertificateFactory certificates = CertificateFactory.getInstance("X.509");
        roots.setCertificateEntry("root", certificates.generateCertificate(new FileInputStream(args[1])));
        TrustManagerFactory trust = TrustManagerFactory.getInstance("PKIX");
        trust.init(roots);
        for (String kind : new String[] {"SunX509", "PKIX"}) {
            KeyManagerFactory keys = KeyManagerFactory.getInstance(kind);
            keys.init(own, password);
            SSLContext context = SSLContext.getInstance("TLS");
            context.init(keys.getKeyManagers(), trust.getTrustManagers(), null);
            HttpsURLConnection connection = (HttpsURLConnection) new URL(args[2]).openConnection();
            connection.setSSLSocketFactory(context.getSocketFactory());
            System.out.println(kind + " " + new String(connection.getInputStream().readAllBytes()));
        }
    }
}
"#;

#[test]
fn java_with_a_key_store_of_one_certificate() {
    if !there("javac") {
        return;
    }
    let stage = Stage::set();
    std::fs::write(stage.path("Client.java"), JAVA).unwrap();
    let mut java = Command::new("java");
    java.arg(stage.path("Client.java")).arg(&stage.p12).arg(stage.alice.file("bundle.pem")).arg(stage.url());
    let ended = run(&mut java, PATIENCE);
    assert_eq!(ended.stdout.matches(WHO).count(), 2, "both key managers\n{}{}", ended.stdout, ended.stderr);
}

/// With the issuing CA in its store it sends the chain; without it, it finds its certificate by the CA's name and sends the
/// leaf alone.
#[test]
fn a_browser_with_and_without_the_issuing_ca() {
    if !there("chromium") || !there("certutil") {
        return;
    }
    let stage = Stage::set();
    let policies = stage.path("policies");
    std::fs::create_dir_all(policies.join("policies/managed")).unwrap();
    let choice = r#"{"AutoSelectCertificateForUrls":["{\"pattern\":\"https://localhost\",\"filter\":{}}"]}"#;
    std::fs::write(policies.join("policies/managed/choice.json"), choice).unwrap();
    let issuing = stage.alice.file("chain.pem");
    for (home, issuing) in [("with", Some(issuing.as_path())), ("without", None)] {
        stage.nss(&format!("{home}/.pki/nssdb"), issuing);
        // Its policies are read from one place in the system: another lies over it, for this program alone.
        let script = "mount --bind \"$1\" /etc/chromium && shift && exec \"$@\"";
        let mut chromium = Command::new("unshare");
        chromium.args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"]).arg(&policies);
        chromium.args(["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]);
        chromium.args(["--disable-background-networking", "--disable-component-update", "--disable-sync"]);
        chromium.arg(format!("--user-data-dir={}", stage.path(home).join("data").display()));
        chromium.args(["--dump-dom", &stage.url()]).env("HOME", stage.path(home));
        let ended = run(&mut chromium, PATIENCE);
        assert!(ended.stdout.contains(WHO), "{home}\n{}{}", ended.stdout, ended.stderr);
    }
}
