//! What looks like a cloud to an instance: a metadata service in Python, whose documents OpenSSL signs in the forms of AWS and of Azure,
//! and a program that makes documents as the Nitro hypervisor does.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::port::Port;
use crate::program::{Program, run};
use crate::wait::PATIENCE;

/// Serves what instances of AWS and of Azure may ask. Each request is a line of `asked`. AWS answers in a session only (IMDSv2).
const SERVE: &str = r#"
import base64, http.server, json, subprocess, sys, time, urllib.parse
port, room = int(sys.argv[1]), sys.argv[2]

def sign(document, *how):
    command = ["openssl", "smime", "-sign", "-nodetach", "-binary", "-outform", "DER", *how]
    return subprocess.check_output(command, input=json.dumps(document, indent=2).encode(), cwd=room)

class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self, body):
        with open(room + "/asked", "a") as asked:
            print(self.command, self.path.split("?")[0], file=asked)
        if body is None:
            return self.send_error(401)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_PUT(self):
        lasts = self.headers["X-aws-ec2-metadata-token-ttl-seconds"]
        self.answer(b"s3ssion" if self.path == "/latest/api/token" and lasts else None)

    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        body, instance = None, json.load(open(room + "/instance.json"))
        if url.path == "/latest/dynamic/instance-identity/rsa2048":
            if self.headers["X-aws-ec2-metadata-token"] == "s3ssion":
                signed = sign(instance, "-indef", "-nocerts", "-signer", "region.pem", "-inkey", "region.key")
                body = base64.encodebytes(signed)
        elif url.path == "/metadata/attested/document" and self.headers["Metadata"] == "true":
            clock = lambda seconds: time.strftime("%m/%d/%y %H:%M:%S -0000", time.gmtime(time.time() + seconds))
            instance["nonce"] = urllib.parse.parse_qs(url.query)["nonce"][0]
            instance["timeStamp"] = {"createdOn": clock(0), "expiresOn": clock(21600)}
            signed = sign(instance, "-signer", "signer.pem", "-inkey", "signer.key", "-certfile", "ca.pem")
            body = json.dumps({"encoding": "pkcs7", "signature": base64.b64encode(signed).decode()}).encode()
        self.answer(body)

    def log_message(self, *_):
        pass

server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
print("serving", flush=True)
server.serve_forever()
"#;

/// `attest --nonce FILE --user-data FILE`: a document of the instance in `instance.json`, in CBOR, by the key in `leaf.key`.
const ATTEST: &str = r#"#!/usr/bin/env python3
import json, os, subprocess, sys, time
room = os.path.dirname(os.path.abspath(__file__))
given = dict(zip(sys.argv[1::2], sys.argv[2::2]))
read = lambda path: open(path, "rb").read()

def head(major, length):
    if length < 24:
        return bytes([major << 5 | length])
    size, low = (1, 24) if length < 256 else (2, 25) if length < 65536 else (8, 27)
    return bytes([major << 5 | low]) + length.to_bytes(size, "big")

def cbor(value):
    if value is None:
        return b"\xf6"
    if isinstance(value, int):
        return head(0, value)
    if isinstance(value, bytes):
        return head(2, len(value)) + value
    if isinstance(value, str):
        return head(3, len(value)) + value.encode()
    if isinstance(value, list):
        return head(4, len(value)) + b"".join(map(cbor, value))
    return head(5, len(value)) + b"".join(cbor(key) + cbor(item) for key, item in value.items())

instance = json.load(open(room + "/instance.json"))
members = {
    "module_id": instance["module_id"], "digest": "SHA384", "timestamp": int(time.time() * 1000),
    "nitrotpm_pcrs": {int(number): bytes.fromhex(value) for number, value in instance["pcrs"].items()},
    "certificate": read(room + "/leaf.der"), "cabundle": [read(room + "/root.der"), read(room + "/ca.der")],
    "public_key": None, "user_data": read(given["--user-data"]), "nonce": read(given["--nonce"]),
}
# AWS writes this map without its length.
payload = b"\xbf" + b"".join(cbor(key) + cbor(item) for key, item in members.items()) + b"\xff"
protected = bytes.fromhex("a1013822")
signed = cbor(["Signature1", protected, b"", payload])
der = subprocess.check_output(["openssl", "dgst", "-sha384", "-sign", room + "/leaf.key"], input=signed)
r = der[4:4 + der[3]]
s = der[6 + der[3]:]
raw = b"".join(int.from_bytes(number, "big").to_bytes(48, "big") for number in (r, s))
sys.stdout.buffer.write(b"\x84" + cbor(protected) + b"\xa0" + cbor(payload) + cbor(raw))
"#;

/// A cloud.
pub struct Cloud {
    room: TempDir,
    port: Port,
    #[expect(dead_code, reason = "it ends with the cloud")]
    server: Program,
}

impl Cloud {
    /// With certificates for documents of all kinds, and a metadata service.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it starts a program")]
    pub fn new() -> Self {
        let (room, port) = (tempfile::tempdir().unwrap(), Port::take());
        std::fs::write(room.path().join("serve.py"), SERVE).unwrap();
        std::fs::write(room.path().join("attest"), ATTEST).unwrap();
        let mut command = Command::new("python3");
        command.arg(room.path().join("serve.py")).arg(port.number().to_string()).arg(room.path());
        let mut server = Program::start(&mut command, room.path());
        server.expect_stdout("the cloud serves", |text| text.contains("serving").then_some(()));
        let cloud = Self { room, port, server };
        cloud.openssl("req -x509 -newkey rsa:2048 -noenc -keyout region.key -out region.pem -days 1 -subj /CN=region");
        let p384 = "-newkey ec -pkeyopt ec_paramgen_curve:P-384";
        cloud.openssl(&format!("req -x509 {p384} -noenc -keyout root.key -out root.pem -days 1 -subj /CN=root"));
        cloud.certify("ca", "root", p384, "basicConstraints=critical,CA:TRUE\nkeyUsage=keyCertSign");
        cloud.certify("leaf", "ca", p384, "basicConstraints=CA:FALSE\nkeyUsage=digitalSignature");
        let names = "keyUsage=digitalSignature,keyEncipherment\nsubjectAltName=DNS:lab.metadata.azure.com";
        cloud.certify("signer", "ca", "-newkey rsa:2048", &format!("basicConstraints=CA:FALSE\n{names}"));
        for name in ["root", "ca", "leaf"] {
            cloud.openssl(&format!("x509 -in {name}.pem -outform DER -out {name}.der"));
        }
        let ended = run(Command::new("chmod").arg("755").arg(cloud.file("attest")), PATIENCE);
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        cloud
    }

    /// A file of its folder.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.room.path().join(name)
    }

    /// Says what its documents say of the instance.
    pub fn instance(&self, says: &Value) {
        std::fs::write(self.file("instance.json"), says.to_string()).unwrap();
    }

    /// What its metadata service was asked.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        let asked = std::fs::read_to_string(self.file("asked")).unwrap_or_default();
        asked.lines().map(str::to_owned).collect()
    }

    /// The program before a command that makes it run on an instance of this cloud, which is of that kind. Its proxies lead nowhere.
    #[must_use]
    pub fn wrapper(&self, kind: &str) -> Vec<String> {
        let metadata = format!("LYCHGATE_CLOUD_METADATA=http://127.0.0.1:{}", self.port.number());
        let nowhere = "http://127.0.0.1:1";
        let proxies = ["http_proxy", "all_proxy"].map(|name| format!("{name}={nowhere}"));
        let kind = format!("LYCHGATE_CLOUD={kind}");
        ["env".to_owned(), metadata, kind].into_iter().chain(proxies).collect()
    }

    /// The same on an instance with a NitroTPM.
    #[must_use]
    pub fn wrapper_with_nitro(&self) -> Vec<String> {
        let program = format!("LYCHGATE_NITRO={}", self.file("attest").display());
        self.wrapper("aws").into_iter().chain([program]).collect()
    }

    #[track_caller]
    fn openssl(&self, line: &str) {
        let mut command = Command::new("openssl");
        let ended = run(command.args(line.split_whitespace()).current_dir(self.room.path()), PATIENCE);
        assert_eq!(ended.code, 0, "{line}: {}", ended.stderr);
    }

    fn certify(&self, name: &str, by: &str, key: &str, extensions: &str) {
        std::fs::write(self.file("extensions"), format!("{extensions}\n")).unwrap();
        self.openssl(&format!("req -new {key} -noenc -keyout {name}.key -out {name}.csr -subj /CN={name}"));
        let by = format!("-CA {by}.pem -CAkey {by}.key -extfile extensions -days 1");
        self.openssl(&format!("x509 -req -in {name}.csr {by} -out {name}.pem"));
    }
}
