//! Certificates that makers keep on servers, from a look-alike of such a server.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::json;
use tests::cli::Lychgate;
use tests::swtpm::{Swtpm, TpmMaker};
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::public_key::PublicKey;

use crate::assert_says;
use crate::tpm::trusting;

/// NV indices of the certificates of the RSA-2048 and the P-384 key.
const CERTIFICATES: [u32; 2] = [0x01c0_0002, 0x01c0_0016];

/// A web server with these answers, each with its status line and headers. It ends with the test.
fn server(room: &Path, answers: &[(&str, Vec<u8>)]) -> String {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    fs::write(room.join("web.pem"), made.cert.pem()).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let config = Arc::new(config);
    let answers: BTreeMap<String, Vec<u8>> =
        answers.iter().map(|(path, answer)| ((*path).to_owned(), answer.clone())).collect();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let at = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for tcp in listener.incoming() {
            let Ok(tcp) = tcp else { return };
            let mut tls = StreamOwned::new(ServerConnection::new(Arc::clone(&config)).unwrap(), tcp);
            let mut head = vec![0; 4096];
            let Ok(read) = tls.read(&mut head) else { continue };
            let head = String::from_utf8_lossy(&head[..read]).into_owned();
            let path = head.split(' ').nth(1).unwrap_or_default();
            let absent = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec();
            let _ = tls.write_all(answers.get(path).unwrap_or(&absent));
            tls.conn.send_close_notify();
            let _ = tls.flush();
        }
    });
    format!("https://localhost:{}", at.port())
}

fn document(body: &[u8]) -> Vec<u8> {
    [format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes(), body].concat()
}

fn moved(to: &str) -> Vec<u8> {
    format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n").into_bytes()
}

/// The modulus in a certificate.
fn modulus(der: &[u8]) -> Vec<u8> {
    let (_, certificate) = X509Certificate::from_der(der).unwrap();
    let PublicKey::RSA(key) = certificate.public_key().parsed().unwrap() else { panic!("no RSA key") };
    key.modulus.iter().skip_while(|byte| **byte == 0).copied().collect()
}

fn amd(der: &[u8]) -> String {
    let named = [&[0, 0, 0x22, 0x22, 0, 1, 0, 1][..], &modulus(der)].concat();
    hex::encode_upper(&digest(&SHA256, &named).as_ref()[..16])
}

fn intel(der: &[u8]) -> String {
    let named = [&modulus(der)[..], &[1, 0, 1]].concat();
    URL_SAFE.encode(digest(&SHA256, &named)).replace('=', "%3D")
}

/// A machine with this TPM, which trusts the look-alike.
fn machine(room: &Path, tpm: &Swtpm, name: &str) -> Lychgate {
    let cas = format!("SSL_CERT_FILE={}", room.join("web.pem").display());
    Lychgate::at(room.join(name)).under(&[&tpm.wrapper()[..], &[cas]].concat())
}

#[test]
fn a_tpm_without_certificates_gets_them_from_its_maker() {
    let room = tempfile::tempdir().unwrap();
    let maker = TpmMaker::new(room.path().join("maker"));
    let tpm = maker.tpm("one");
    let der = tpm.rsa_certificate();
    let base = server(room.path(), &[(&format!("/pki/aia/{}", amd(&der)), document(&der))]);
    let from = format!("{base}/pki/aia/");
    let gateway = trusting(&maker);
    let alice = gateway.first_person();
    let machine = machine(room.path(), &tpm, "edge-f");

    // Without its certificates the TPM proves nothing about its maker.
    CERTIFICATES.iter().for_each(|index| tpm.undefine(*index));
    let fetched = machine.json(&["tpm", "fetch", "--maker", "amd", "--from", &from]);
    crate::json::check("tpm fetch", &fetched);
    let url = format!("{from}{}", amd(&der));
    assert_eq!(fetched["certificates"], json!([{ "template": "L-1", "from": url }]));
    let info = machine.json(&["tpm", "info"]);
    crate::json::check("tpm info", &info);
    let certificates = info["certificates"].as_array().unwrap();
    assert_eq!(certificates.len(), 1, "{info}");
    assert_eq!((&certificates[0]["index"], &certificates[0]["from"]), (&json!("0x1c00002"), &json!(url)), "{info}");

    let (url, pin) = (gateway.enroll().url(""), gateway.info().pin);
    let name = |name: &'static str| {
        ["join", &url, "--pin", &pin, "--name", name, "--attest", "tpm", "--no-wait"].map(str::to_owned)
    };
    let run = |machine: &Lychgate, words: &[String]| machine.run(&words.iter().map(String::as_str).collect::<Vec<_>>());
    let joined = run(&machine, &name("edge-f"));
    assert_eq!(joined.code, 0, "{}", joined.stderr);
    let shown = alice.json(&["machines", "show", "edge-f"]);
    assert_eq!(
        (&shown["assurance"], &shown["verified"]["tpm_chain"]),
        (&json!("hardware"), &json!("verified")),
        "{shown}"
    );
    machine.ok(&["renew", "--force"]);
    let renewed = alice.json(&["machines", "show", "edge-f"]);
    for claim in ["tpm_ek", "tpm_chain", "tpm_maker"] {
        assert_eq!(renewed["verified"][claim], shown["verified"][claim], "{claim}");
    }

    // The same certificate, got by other means.
    let file = room.path().join("ek.crt");
    fs::write(&file, &der).unwrap();
    let by_hand = self::machine(room.path(), &tpm, "edge-g");
    let fetched = by_hand.json(&["tpm", "fetch", "--file", file.to_str().unwrap()]);
    assert_eq!(fetched["certificates"], json!([{ "template": "L-1", "from": file }]));
    fs::write(&file, "no certificate").unwrap();
    let refused = by_hand.refused(&["tpm", "fetch", "--file", file.to_str().unwrap()]);
    assert_says(&refused, 7, "it is no certificate of an endorsement key for which this TPM holds none");
}

#[test]
fn what_a_server_may_answer() {
    let room = tempfile::tempdir().unwrap();
    let maker = TpmMaker::new(room.path().join("maker"));
    let (tpm, other) = (maker.tpm("one"), maker.tpm("two"));
    let (der, foreign) = (tpm.rsa_certificate(), other.rsa_certificate());
    tpm.undefine(CERTIFICATES[0]);
    let (amd, intel) = (amd(&der), intel(&der));
    let answer = json!({ "pubhash": "x", "certificate": URL_SAFE.encode(&der).replace('=', "%3D") }).to_string();
    let at = |folder: &str, name: &str| format!("/{folder}/{name}");
    let base = server(
        room.path(),
        &[
            (&at("ok", &amd), document(&der)),
            (&at("intel", &intel), document(answer.as_bytes())),
            (&at("near", &amd), moved(&at("ok", &amd))),
            (&at("round", &amd), moved(&at("round", &amd))),
            (&at("plain", &amd), moved("http://localhost/x")),
            (&at("long", &amd), document(&vec![0x30; 65 * 1024])),
            (&at("foreign", &amd), document(&foreign)),
            (&at("odd", &amd), document(b"<html>")),
            (&at("odd", &intel), document(b"<html>")),
            (&at("ill", &amd), b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n".to_vec()),
        ],
    );
    for (maker, folder, code, says) in [
        ("amd", "ok", 0, "stored the certificate from https://localhost:"),
        ("amd", "near", 0, "stored the certificate from https://localhost:"),
        ("intel", "intel", 0, "stored the certificate from https://localhost:"),
        ("amd", "none", 1, "has no certificate of the RSA-2048 key of this TPM"),
        ("amd", "round", 1, "it was sent elsewhere more than 3 times"),
        ("amd", "plain", 1, "it was sent to `http://localhost/x`, which is no https URL"),
        ("amd", "long", 1, "the answer is longer than 64 KiB"),
        ("amd", "foreign", 1, "is no certificate of this TPM: it is of another key"),
        ("amd", "odd", 1, "is no certificate of this TPM: it is no certificate"),
        ("intel", "odd", 1, "is no certificate of this TPM: expected value"),
        ("amd", "ill", 1, "the server answers 503 Service Unavailable"),
    ] {
        let machine = machine(room.path(), &tpm, &format!("{folder}-{maker}"));
        let ended = machine.run(&["tpm", "fetch", "--maker", maker, "--from", &format!("{base}/{folder}")]);
        let said = format!("{}{}", ended.stdout, ended.stderr);
        assert!(ended.code == code && said.contains(says), "{folder}: {} {said}", ended.code);
        let stored = fs::read_to_string(machine.file("attestation.json")).unwrap_or_default();
        assert_eq!(stored.contains("fetched"), code == 0, "{folder}: {stored}");
    }
    // A server that nobody vouches for, and none.
    let stranger = Lychgate::at(room.path().join("stranger")).under(&tpm.wrapper());
    let refused = stranger.refused(&["tpm", "fetch", "--maker", "amd", "--from", &base]);
    assert_says(&refused, 5, "invalid peer certificate");
    let machine = machine(room.path(), &tpm, "nobody");
    let refused = machine.refused(&["tpm", "fetch", "--maker", "amd", "--from", "https://localhost:1/"]);
    assert_says(&refused, 5, "cannot reach localhost: ");
    assert!(refused.stderr.contains("give it with --file"), "{}", refused.stderr);
    let refused = machine.refused(&["tpm", "fetch"]);
    assert_says(&refused, 1, "it is not known that the maker of this TPM (IBM) keeps certificates on a server");
}
