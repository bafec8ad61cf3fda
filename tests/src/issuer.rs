//! An issuer of tokens: OpenSSL signs, Python serves its keys by https, and tokens like GitHub Actions does for its jobs.

use std::path::{Path, PathBuf};
use std::process::Command;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer as CertificateIssuer, KeyPair,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::port::Port;
use crate::program::{Program, run};
use crate::wait::PATIENCE;

/// `mint KID ISSUER AUDIENCE MORE`: a token by the key KID, with the members of MORE beside the usual ones. In the issuer's folder.
const MINT: &str = r#"#!/bin/bash
set -eu
cd "$(dirname "$0")"
b64url() { openssl base64 -A | tr '+/' '-_' | tr -d '='; }
header=$(printf '{"alg":"RS256","typ":"JWT","kid":"%s"}' "$1" | b64url)
claims=$(jq -nc --arg iss "$2" --arg aud "$3" --argjson more "$4" --arg jti "$(openssl rand -hex 8)" \
    'now | floor as $now | {$iss, $aud, sub: "job", iat: $now, exp: ($now + 300), $jti} + $more' | b64url)
signature=$(printf %s "$header.$claims" | openssl dgst -sha256 -sign "$1.pem" | b64url)
printf '%s.%s.%s\n' "$header" "$claims" "$signature"
"#;

/// Serves `public/` by https, and at `/token?audience=...` a token with the members in `job.json`, to who has the secret.
const SERVE: &str = r#"
import functools, http.server, json, ssl, subprocess, sys, urllib.parse
port, room = int(sys.argv[1]), sys.argv[2]

class Handler(http.server.SimpleHTTPRequestHandler):
    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        if url.path != "/token":
            return super().do_GET()
        if self.headers["Authorization"] != "bearer s3cret":
            return self.send_error(403)
        audience = urllib.parse.parse_qs(url.query)["audience"][0]
        issuer = f"https://localhost:{port}"
        job = open(room + "/job.json").read()
        token = subprocess.check_output([room + "/mint", "1", issuer, audience, job], text=True).strip()
        body = json.dumps({"count": len(token), "value": token}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

server = http.server.ThreadingHTTPServer(("127.0.0.1", port), functools.partial(Handler, directory=room + "/public"))
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(room + "/server.pem")
server.socket = context.wrap_socket(server.socket, server_side=True)
print("serving", flush=True)
server.serve_forever()
"#;

/// The secret for which a job gets a token.
pub const SECRET: &str = "s3cret";

/// An issuer.
pub struct Issuer {
    room: TempDir,
    port: Port,
    server: Option<Program>,
}

impl Issuer {
    /// With one key, `1`, that it publishes. It serves nothing yet.
    #[must_use]
    pub fn new() -> Self {
        let issuer = Self { room: tempfile::tempdir().unwrap(), port: Port::take(), server: None };
        std::fs::create_dir_all(issuer.file("public/.well-known")).unwrap();
        std::fs::write(issuer.file("mint"), MINT).unwrap();
        std::fs::write(issuer.file("serve.py"), SERVE).unwrap();
        openssl(Command::new("chmod").arg("755").arg(issuer.file("mint")));
        issuer.certify();
        issuer.make_key("1");
        issuer.publish(&["1"]);
        issuer
    }

    /// Starts to serve.
    pub fn start(&mut self) {
        let mut command = Command::new("python3");
        command.arg(self.file("serve.py")).arg(self.port.number().to_string()).arg(self.room.path());
        let mut server = Program::start(&mut command, self.room.path());
        server.expect_stdout("the issuer serves", |text| text.contains("serving").then_some(()));
        self.server = Some(server);
    }

    /// A file of its folder.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.room.path().join(name)
    }

    /// The CA of its server's certificate.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.file("ca.pem")
    }

    /// Its name, which is its address.
    #[must_use]
    pub fn name(&self) -> String {
        format!("https://localhost:{}", self.port.number())
    }

    /// The file with its key set.
    #[must_use]
    pub fn keys(&self) -> PathBuf {
        self.file("public/.well-known/jwks")
    }

    /// Says of which job it gives tokens.
    pub fn job(&self, claims: &Value) {
        std::fs::write(self.file("job.json"), claims.to_string()).unwrap();
    }

    /// A token.
    #[must_use]
    pub fn mint(&self, kid: &str, audience: &str, more: &Value) -> String {
        let mut mint = Command::new(self.file("mint"));
        openssl(mint.args([kid, &self.name(), audience, &more.to_string()])).trim().to_owned()
    }

    /// Makes a key.
    pub fn make_key(&self, kid: &str) {
        let mut make = Command::new("openssl");
        make.args(["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out"]);
        openssl(make.arg(self.file(&format!("{kid}.pem"))));
    }

    /// Publishes these keys, and no others.
    pub fn publish(&self, kids: &[&str]) {
        let keys: Vec<Value> = kids.iter().map(|kid| self.jwk(kid)).collect();
        std::fs::write(self.keys(), json!({ "keys": keys }).to_string()).unwrap();
    }

    fn jwk(&self, kid: &str) -> Value {
        let mut read = Command::new("bash");
        let line = "openssl rsa -noout -modulus -in \"$0\" | cut -d= -f2 | tr -d '\\n' | basenc --base16 -d | basenc --base64url -w0";
        let n = openssl(read.args(["-o", "pipefail", "-c", line]).arg(self.file(&format!("{kid}.pem"))));
        json!({ "kty": "RSA", "use": "sig", "alg": "RS256", "kid": kid, "n": n.trim().trim_end_matches('='), "e": "AQAB" })
    }

    /// Makes the certificate of its server.
    fn certify(&self) {
        let (ca_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let mut ca = CertificateParams::new(vec![]).unwrap();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let written = |path: &Path, text: &str| std::fs::write(path, text).unwrap();
        written(&self.ca(), &ca.self_signed(&ca_key).unwrap().pem());
        let mut leaf = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        // OpenSSL takes a certificate with its issuer's name for one that signed itself
        leaf.distinguished_name = DistinguishedName::new();
        leaf.distinguished_name.push(DnType::CommonName, "localhost");
        let leaf = leaf.signed_by(&key, &CertificateIssuer::new(ca, ca_key)).unwrap();
        written(&self.file("server.pem"), &format!("{}{}", leaf.pem(), key.serialize_pem()));
    }
}

impl Default for Issuer {
    fn default() -> Self {
        Self::new()
    }
}

#[track_caller]
fn openssl(command: &mut Command) -> String {
    let ended = run(command, PATIENCE);
    assert_eq!(ended.code, 0, "{command:?}\n{}", ended.stderr);
    ended.stdout
}
