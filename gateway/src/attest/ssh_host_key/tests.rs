//! Host keys, certificates and files as OpenSSH's own `ssh-keygen` makes them.
#![expect(clippy::disallowed_methods, reason = "a test writes files for a program")]

use std::{path::Path, process::Command, sync::LazyLock};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use pki::TrustDomain;
use policy::Ruleset;
use tempfile::TempDir;

use super::*;
use crate::{
    core::{
        evidence::{Document, ENTROPY_LEN, Finding},
        lock::Locks,
        requester::Requester,
    },
    ports::{clock::Clock, entropy::Entropy},
    signer::Authority,
};

const NOW: UnixTime = UnixTime::new(1_772_366_400);
const EXPORTER: [u8; 32] = [9; 32];

/// The gateway, of which an attestor knows only this.
static GATEWAY: LazyLock<(TrustDomain, Authority, Ruleset)> = LazyLock::new(|| {
    let domain = TrustDomain::parse("td.example").unwrap();
    let (clock, _) = Clock::fake(NOW);
    let authority = Authority::ephemeral(&domain, &clock, &Entropy::seeded(7)).unwrap();
    (domain, authority, Ruleset::load(&[], &[]).unwrap())
});

fn for_key() -> KeyDigest {
    KeyDigest::from_spki_der(b"the key to be certified")
}

/// A host, its CA, and the operator's files.
struct Room(TempDir);

impl Room {
    /// With a host key `host` and a CA key `ca`, both Ed25519.
    fn new() -> Self {
        let room = Self(tempfile::tempdir().unwrap());
        room.make("ed25519", "256", "host");
        room.make("ed25519", "256", "ca");
        room
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    #[track_caller]
    fn keygen(&self, args: &[&str]) {
        let done = Command::new("ssh-keygen").args(args).current_dir(self.path()).output().unwrap();
        assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
    }

    fn make(&self, kind: &str, bits: &str, name: &str) {
        self.keygen(&["-q", "-t", kind, "-b", bits, "-N", "", "-C", "", "-f", name]);
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path().join(name)).unwrap().trim().to_owned()
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path().join(name), text).unwrap();
    }

    fn public(&self, name: &str) -> String {
        self.read(&format!("{name}.pub"))
    }

    /// The line that makes a key a CA for all hosts.
    fn authority(&self, name: &str) -> String {
        format!("@cert-authority * {}\n", self.public(name))
    }

    fn attestor(&self, section: &str) -> Box<dyn Attestor> {
        let section = Section { values: section.parse().unwrap(), folder: self.path().to_owned() };
        build(Some(&section)).unwrap().unwrap()
    }

    /// The files that somebody needs, as they are.
    fn found(&self, needs: &[Need]) -> Found {
        let mut found = Found::default();
        for need in needs {
            let Need::Document(DocumentSource::File(path)) = need else { panic!("{need:?}") };
            assert!(path.starts_with(self.path()));
            let bytes = std::fs::read(path).ok();
            found.push(Finding::Document(bytes.map(|bytes| Document { bytes: bytes.into(), age: Duration::ZERO })));
        }
        found
    }

    /// The certificate that the CA makes of the host key.
    fn certified(&self, more: &[&str]) -> String {
        self.keygen(&[&["-q", "-s", "ca", "-I", "host #7"], more, &["host.pub"]].concat());
        self.read("host-cert.pub")
    }

    /// A signature by a key over a text.
    fn signature(&self, key: &str, namespace: &str, text: &[u8], more: &[&str]) -> String {
        std::fs::write(self.path().join("text"), text).unwrap();
        let _ = std::fs::remove_file(self.path().join("text.sig"));
        self.keygen(&[&["-q", "-Y", "sign", "-n", namespace, "-f", key], more, &["text"]].concat());
        self.read("text.sig")
    }

    /// Good evidence of a key for a line.
    fn body(&self, key: &str, line: &str) -> String {
        let text = ssh_host_key_message("td.example", &EXPORTER, for_key().as_bytes());
        evidence(line, &self.signature(key, "join@lychgate", &text, &[]))
    }

    /// Judges evidence by this section.
    fn judge(&self, section: &str, body: &str, purpose: Purpose<'_>) -> Result<Claims, Refusal> {
        self.vouched(section, body, purpose).map(|vouched| vouched.claims)
    }

    fn vouched(&self, section: &str, body: &str, purpose: Purpose<'_>) -> Result<Vouched, Refusal> {
        let (attestor, context) = (self.attestor(section), context());
        let (entropy, requester) = ([3; ENTROPY_LEN], &Requester::Nobody);
        let (kept, for_key) = (None, for_key());
        let message = Message { body, kept, entropy, for_key, exporter: &EXPORTER, requester, purpose };
        let case = attestor.open(&message, &context)?;
        let found = self.found(&case.needs(&Found::default())?);
        assert!(case.needs(&found)?.is_empty() || found.is_empty());
        let rests_on = case.rests_on(&found, &context)?;
        let locks = Locks::new(rests_on.targets.clone(), vec![]);
        match case.step(&found, &context, &rests_on.clear(&locks)?).map_err(|rejected| rejected.refusal)? {
            Step::Done(vouched) => Ok(*vouched),
            Step::Ask { .. } => panic!("it asks back"),
        }
    }

    fn joins(&self, section: &str, body: &str, wanted: &str) -> Result<Claims, Refusal> {
        self.judge(section, body, Purpose::Join { wanted: Some(wanted) })
    }

    /// Judges it at the renewal of a machine of this name that was known by these claims.
    fn renews(&self, section: &str, body: &str, name: &str, known: &[(&str, &str)]) -> Result<Claims, Refusal> {
        let claim = |(name, value): &(&str, &str)| (format!("sshhost_{name}"), Claim::Text((*value).to_owned()));
        let known = known.iter().map(claim).collect();
        self.judge(section, body, Purpose::Renewal { name, known: &known })
    }

    #[track_caller]
    fn refused(&self, section: &str, body: &str, code: &str, says: &str) {
        match self.joins(section, body, "web1") {
            Err(Refusal::Evidence(reject)) => {
                assert_eq!(reject.code.name, code, "{reject}");
                assert!(reject.text.contains(says), "{reject}");
            }
            other => panic!("{other:?} instead of {code}"),
        }
    }
}

fn context() -> Context<'static> {
    let (domain, authority, rules) = &*GATEWAY;
    let (anchors, token_key, host_ca) = (authority.anchors(), authority.token_key(), authority.ssh(SshKind::Host));
    Context { domain, anchors, token_key, host_ca: Some(host_ca), rules, now: NOW }
}

fn evidence(line: &str, signature: &str) -> String {
    let (public_key, signature) = (line.to_owned(), signature.to_owned());
    serde_json::to_string(&Body { public_key, signature }).unwrap()
}

#[track_caller]
fn check(claims: Result<Claims, Refusal>, want: &[(&str, &str)], names: &[&str]) {
    let claims = claims.unwrap();
    let got: Vec<(String, String)> = claims.values.iter().map(|(name, value)| (name.clone(), value.text())).collect();
    let got = got.iter().filter(|(name, _)| name != "fingerprint");
    let got: Vec<(&str, &str)> = got.map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!((got.as_slice(), claims.names.as_slice()), (want, names.map_owned().as_slice()));
    assert!(claims.grants.is_none() && claims.role.is_none());
    assert_eq!(claims.assurance, Assurance::SOFTWARE);
}

trait Owned {
    fn map_owned(&self) -> Vec<String>;
}

impl Owned for [&str] {
    fn map_owned(&self) -> Vec<String> {
        self.iter().map(|&text| text.to_owned()).collect()
    }
}

const NOTHING: &str = "";
const AUTHORITIES: &str = "authorities = 'authorities'";
const PINS: &str = "known_hosts = 'pins'";

#[test]
fn without_trust_the_fingerprint_is_a_claim() {
    let room = Room::new();
    let claims = room.joins(NOTHING, &room.body("host", &room.public("host")), "web1").unwrap();
    let shown = Command::new("ssh-keygen").args(["-l", "-f", "host.pub"]).current_dir(room.path()).output().unwrap();
    let Claim::Text(fingerprint) = &claims.values["fingerprint"] else { panic!() };
    assert!(String::from_utf8_lossy(&shown.stdout).contains(fingerprint), "what `ssh-keyscan | ssh-keygen -l` shows");
    check(Ok(claims), &[("trust", "none")], &[]);
    // A gateway without authorities looks at the key alone.
    let line = room.certified(&["-h", "-n", "web1"]);
    check(room.joins(NOTHING, &room.body("host", &line), "web1"), &[("trust", "none")], &[]);
}

#[test]
fn every_kind_of_host_key_signs() {
    let room = Room::new();
    for (kind, bits) in [("ecdsa", "256"), ("ecdsa", "384"), ("ecdsa", "521"), ("rsa", "2048")] {
        let name = format!("{kind}-{bits}");
        room.make(kind, bits, &name);
        let body = room.body(&name, &room.public(&name));
        check(room.joins(NOTHING, &body, "web1"), &[("trust", "none")], &[]);
    }
    let text = ssh_host_key_message("td.example", &EXPORTER, for_key().as_bytes());
    let sha256 = room.signature("host", "join@lychgate", &text, &["-O", "hashalg=sha256"]);
    check(room.joins(NOTHING, &evidence(&room.public("host"), &sha256), "web1"), &[("trust", "none")], &[]);
}

#[test]
fn a_certificate_of_a_known_ca_is_trusted_for_its_names() {
    let room = Room::new();
    room.write("authorities", &room.authority("ca"));
    let line = room.certified(&["-h", "-n", "Web1,web1.example.com,10.0.0.7"]);
    let body = room.body("host", &line);
    let names = ("names", "10.0.0.7,web1,web1.example.com");
    let want = [("key_id", "host #7"), names, ("trust", "authority")];
    check(room.joins(AUTHORITIES, &body, "web1"), &want, &["web1"]);
    check(room.renews(AUTHORITIES, &body, "web1", &[]), &want, &[]);
    // Names in a domain are machines only if the operator says so.
    let full = room.body("host", &room.certified(&["-h", "-n", "web1.example.com,web2.other.example"]));
    room.refused(AUTHORITIES, &full, "ssh-host-names", "web1.example.com, web2.other.example, and none of these");
    let with_domain = format!("{AUTHORITIES}\ndomain = 'example.com'");
    let want = [("key_id", "host #7"), ("names", "web1.example.com,web2.other.example"), ("trust", "authority")];
    check(room.joins(&with_domain, &full, "web1"), &want, &["web1"]);
    // Then a name without a domain may be one of another.
    room.refused(
        &with_domain,
        &room.body("host", &room.certified(&["-h", "-n", "web1"])),
        "ssh-host-names",
        "web1, and",
    );
    // No pattern becomes one of ours.
    let pattern = room.body("host", &room.certified(&["-h", "-n", "*,web*"]));
    room.refused(AUTHORITIES, &pattern, "ssh-host-names", "*, web*");
}

#[test]
fn an_authority_is_one_for_the_hosts_in_its_line() {
    let room = Room::new();
    let (ca, line) = (room.public("ca"), room.certified(&["-h", "-n", "web1,db1"]));
    let body = room.body("host", &line);
    room.write("authorities", &format!("@cert-authority web* {ca}\n"));
    let want = [("key_id", "host #7"), ("names", "web1"), ("trust", "authority")];
    check(room.joins(AUTHORITIES, &body, "web1"), &want, &["web1"]);
    room.write("authorities", &format!("@cert-authority *.example.com {ca}\n"));
    room.refused(AUTHORITIES, &body, "ssh-host-names", "for no host");
    // A pinned host is no authority.
    room.write("authorities", &format!("web1 {ca}\n"));
    room.refused(AUTHORITIES, &body, "ssh-host-authority", "SHA256:");
    // With hashed names, as `ssh-keygen -H` writes them.
    room.write("authorities", &format!("db1 {ca}\n"));
    room.keygen(&["-q", "-H", "-f", "authorities"]);
    let hashed = format!("@cert-authority {}", room.read("authorities"));
    room.write("authorities", &hashed);
    let want = [("key_id", "host #7"), ("names", "db1"), ("trust", "authority")];
    check(room.joins(AUTHORITIES, &body, "db1"), &want, &["db1"]);
}

#[test]
fn certificates_that_do_not_hold() {
    let room = Room::new();
    room.write("authorities", &room.authority("ca"));
    room.make("ed25519", "256", "other");
    room.make("rsa", "2048", "rsa-ca");
    let refused = |more: &[&str], code: &str, says: &str| {
        let line = room.certified(more);
        for section in [AUTHORITIES, NOTHING] {
            room.refused(section, &room.body("host", &line), code, says);
        }
    };
    refused(&["-n", "web1"], "ssh-host-certificate", "a user's");
    refused(&["-h"], "ssh-host-certificate", "valid for all");
    refused(&["-h", "-n", "web1", "-O", "critical:odd@example.com=1"], "ssh-host-certificate", "odd@example.com");
    refused(&["-h", "-n", "web1", "-V", "20260301110000Z:20260301120000Z"], "ssh-host-expired", "2026-03-01T12:00:00Z");
    refused(&["-h", "-n", "web1", "-V", "20260301120001Z:20260301130000Z"], "ssh-host-not-yet", "2026-03-01T12:00:01Z");
    room.keygen(&["-q", "-s", "other", "-I", "x", "-h", "-n", "web1", "host.pub"]);
    let foreign = room.body("host", &room.read("host-cert.pub"));
    room.refused(AUTHORITIES, &foreign, "ssh-host-authority", "by the CA SHA256:");
    room.keygen(&["-q", "-s", "rsa-ca", "-t", "ssh-rsa", "-I", "x", "-h", "-n", "web1", "host.pub"]);
    room.refused(AUTHORITIES, &room.body("host", &room.read("host-cert.pub")), "ssh-host-certificate", "SHA-1");
    // At a renewal it is not known any more, which is a claim.
    check(room.renews(AUTHORITIES, &foreign, "web1", &[]), &[("trust", "none")], &[]);
}

#[test]
fn signatures_that_do_not_hold() {
    let room = Room::new();
    room.make("ed25519", "256", "other");
    let (line, good) = (room.public("host"), ssh_host_key_message("td.example", &EXPORTER, for_key().as_bytes()));
    let signed = |text: &[u8]| evidence(&line, &room.signature("host", "join@lychgate", text, &[]));
    let check = |body: &str, says: &str| room.refused(NOTHING, body, "ssh-host-signature", says);
    check(&evidence(&line, &room.signature("other", "join@lychgate", &good, &[])), "by another key");
    check(&evidence(&line, &room.signature("host", "file", &good, &[])), "for the namespace `file`");
    check(&signed(&ssh_host_key_message("other.example", &EXPORTER, for_key().as_bytes())), "does not fit");
    check(&signed(&ssh_host_key_message("td.example", &[8; 32], for_key().as_bytes())), "does not fit");
    check(&signed(&ssh_host_key_message("td.example", &EXPORTER, &[7; 32])), "does not fit");
}

#[test]
fn what_cannot_be_read_is_malformed_and_other_keys_are_named() {
    let room = Room::new();
    let good = room.signature("host", "join@lychgate", b"", &[]);
    let check = |body: &str, says: &str| room.refused(NOTHING, body, "ssh-host-malformed", says);
    check("", "JSON");
    check("[]", "JSON");
    check(r#"{"public_key":"x","signature":"y","more":1}"#, "JSON");
    check(&evidence("", &good), "cannot be judged");
    check(&evidence("ssh-ed25519", &good), "cannot be judged");
    check(&evidence("ssh-ed25519-cert-v01@openssh.com AAAA", &good), "it ends too early");
    check(&evidence(&room.public("host"), "no armor"), "cannot be judged");
    room.make("rsa", "1024", "small");
    room.refused(NOTHING, &evidence(&room.public("small"), &good), "ssh-host-key", "1024");
    // A security key, by hand: `ssh-keygen` makes one only with such a device.
    let (kind, app) = ("sk-ssh-ed25519@openssh.com", "ssh:");
    let parts: [&[u8]; 3] = [kind.as_bytes(), &[7; 32], app.as_bytes()];
    let blob = parts.iter().flat_map(|part| [&u32::try_from(part.len()).unwrap().to_be_bytes()[..], part].concat());
    let line = format!("{kind} {}", STANDARD.encode(blob.collect::<Vec<u8>>()));
    room.refused(NOTHING, &evidence(&line, &good), "ssh-host-key", "`sk-ssh-ed25519@openssh.com` keys");
}

#[test]
fn pinned_keys_are_trusted_for_the_names_in_their_lines() {
    let room = Room::new();
    let (key, body) = (room.public("host"), room.body("host", &room.public("host")));
    room.write("pins", &format!("# imported\nweb1,10.0.0.7 {key}\n[web1.example.com]:22 {key}\n[web2]:2222 {key}\n"));
    let want = [("names", "10.0.0.7,web1,web1.example.com"), ("trust", "pinned")];
    check(room.joins(PINS, &body, "web1"), &want, &["web1"]);
    // The same by a certificate of a CA that is unknown.
    let line = room.certified(&["-h", "-n", "db1"]);
    room.write("authorities", "");
    let both = format!("{AUTHORITIES}\n{PINS}");
    check(room.joins(&both, &room.body("host", &line), "web1"), &want, &["web1"]);
    // Hashed names are compared with the one that is asked for.
    room.write("pins", &format!("web1 {key}\n"));
    room.keygen(&["-q", "-H", "-f", "pins"]);
    assert!(room.read("pins").starts_with("|1|"));
    check(room.joins(PINS, &body, "web1"), &[("names", "web1"), ("trust", "pinned")], &["web1"]);
    let other = room.joins(PINS, &body, "web2").unwrap_err();
    assert!(matches!(&other, Refusal::Evidence(reject) if reject.code.name == "ssh-host-names"), "{other:?}");
    check(room.renews(PINS, &body, "web1", &[]), &[("names", "web1"), ("trust", "pinned")], &[]);
    room.write("pins", &format!("[web1]:2222 {key}\n"));
    let elsewhere = room.joins(PINS, &body, "web1").unwrap_err();
    assert!(matches!(&elsewhere, Refusal::Evidence(reject) if reject.code.name == "ssh-host-names"), "{elsewhere:?}");
    room.write("pins", &format!("other {}\nweb1 ssh-ed25519 %%\n", room.public("ca")));
    check(room.joins(PINS, &body, "web1"), &[("trust", "none")], &[]);
}

#[test]
fn what_is_revoked_is_refused_whatever_else_stands_there() {
    let room = Room::new();
    let (host, ca) = (room.public("host"), room.public("ca"));
    let (key, certificate) = (room.body("host", &host), room.body("host", &room.certified(&["-h", "-n", "web1"])));
    room.write("authorities", &room.authority("ca"));
    for (revoked, body) in [(&host, &key), (&host, &certificate), (&ca, &certificate)] {
        room.write("pins", &format!("web1 {host}\n@revoked elsewhere {revoked}\n"));
        room.refused(PINS, body, "ssh-host-revoked", "`@revoked`");
        let both = format!("{AUTHORITIES}\n{PINS}");
        room.refused(&both, body, "ssh-host-revoked", "`@revoked`");
    }
}

/// Where trust is to be had: a CA and a pin in one file, a copy of `/etc/ssh/ssh_known_hosts`.
const SHARED: &str = "authorities = 'shared'\nknown_hosts = 'shared'";

/// What cannot be used vouches for nobody, and strands nobody.
#[test]
fn a_file_that_cannot_be_used_is_no_trust() {
    let room = Room::new();
    let (host, ca) = (room.public("host"), room.authority("ca"));
    let (key, certificate) = (room.body("host", &host), room.body("host", &room.certified(&["-h", "-n", "web1"])));
    let none = |section: &str| {
        for body in [&key, &certificate] {
            check(room.joins(section, body, "web1"), &[("trust", "none")], &[]);
            check(room.renews(section, body, "web1", &[]), &[("trust", "none")], &[]);
        }
    };
    // It is not there.
    none(SHARED);
    room.write("authorities", &ca);
    none(&format!("{AUTHORITIES}\n{PINS}"));
    // A line that revokes cannot be read, or may be one that does.
    for cut in ["@revoked * ssh-ed25519 %%", "@revoked * ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMq", "@revo"] {
        room.write("shared", &format!("{ca}web1 {host}\n{cut}"));
        none(SHARED);
        // What is revoked for certain is refused all the same.
        room.write("shared", &format!("{ca}web1 {host}\n@revoked * {host}\n{cut}"));
        room.refused(SHARED, &key, "ssh-host-revoked", "`@revoked`");
    }
    room.write("shared", &format!("{ca}web1 {host}\n"));
    check(room.joins(SHARED, &key, "web1"), &[("names", "web1"), ("trust", "pinned")], &["web1"]);
}

#[test]
fn a_key_alone_is_no_ca() {
    let room = Room::new();
    let body = room.body("host", &room.certified(&["-h", "-n", "web1"]));
    room.write("shared", &format!("web2 {}\n{}\n", room.public("ca"), room.public("ca")));
    room.refused(SHARED, &body, "ssh-host-authority", "SHA256:");
    room.write("authorities", &room.public("ca"));
    room.refused(AUTHORITIES, &body, "ssh-host-authority", "SHA256:");
}

/// At a renewal anybody could show the host key of another.
#[test]
fn at_a_renewal_trust_is_in_the_machine_that_renews() {
    let room = Room::new();
    room.write("shared", &format!("{}web1 {}\n", room.authority("ca"), room.public("host")));
    let (host, certified) = (room.public("host"), room.certified(&["-h", "-n", "web1"]));
    let print = SshKey::parse(&host).unwrap().fingerprint();
    for (line, trust) in [(&host, "pinned"), (&certified, "authority")] {
        let body = room.body("host", line);
        let trusted = |name: &str, known: &[(&str, &str)]| {
            room.renews(SHARED, &body, name, known).unwrap().values["trust"].text()
        };
        assert_eq!(trusted("web1", &[]), trust);
        assert_eq!(trusted("db1", &[]), "none");
        // The machine was renamed since.
        assert_eq!(trusted("db1", &[("fingerprint", &print), ("trust", "pinned")]), trust);
        // It showed the key before, and that was not believed then either.
        assert_eq!(trusted("db1", &[("fingerprint", &print), ("trust", "none")]), "none");
        assert_eq!(trusted("db1", &[("fingerprint", "SHA256:another"), ("trust", "pinned")]), "none");
    }
}

/// By a certificate that the gateway made itself whoever was removed would come back.
#[test]
fn the_gateways_own_ca_vouches_for_nobody() {
    let room = Room::new();
    let (_, authority, _) = &*GATEWAY;
    let own = authority.ssh(SshKind::Host);
    room.write("authorities", &format!("@cert-authority * {}\n", own.line()));
    let attestor = room.attestor(AUTHORITIES);
    let [source] = attestor.documents().try_into().unwrap();
    let text = room.read("authorities");
    let said = attestor.complaints(&source, text.as_bytes(), Some(own), NOW);
    assert!(said.len() == 1 && said[0].starts_with("line 1: this is the gateway's own CA for hosts"), "{said:?}");
    let key = SshKey::parse(&room.public("host")).unwrap();
    let purpose = HostPurpose::Join(Some("web1".to_owned()));
    let certificate = ForeignSshCertificate::parse(&room.certified(&["-h", "-n", "web1"])).unwrap();
    let certificate = Some(ForeignSshCertificate { ca: own.clone(), ..certificate });
    let reading = vec![(Mark::Authority, Some(Arc::new(HostFile::parse(text.as_bytes()))))];
    let shown = ProvenHostKey { key, certificate, purpose, files: Arc::from([]), domain: None };
    assert!(matches!(shown.trust(&reading, &Context { host_ca: None, ..context() }), Ok(HostTrust::Authority { .. })));
    let refused = shown.trust(&reading, &context()).err().unwrap().refusal;
    assert!(matches!(&refused, Refusal::Evidence(reject) if reject.code.name == "ssh-host-authority"), "{refused:?}");
}

#[test]
fn evidence_rests_on_the_host_key_and_on_its_ca() {
    let room = Room::new();
    let body = room.body("host", &room.certified(&["-h", "-n", "web1"]));
    let (attestor, context) = (room.attestor(NOTHING), context());
    let (entropy, requester) = ([3; ENTROPY_LEN], &Requester::Nobody);
    let (body, kept, for_key, purpose) = (body.as_str(), None, for_key(), Purpose::Join { wanted: None });
    let message = Message { body, kept, entropy, for_key, exporter: &EXPORTER, requester, purpose };
    let rests_on = attestor.open(&message, &context).unwrap().rests_on(&Found::default(), &context).unwrap();
    let digest = |name: &str| hex::encode(SshKey::parse(&room.public(name)).unwrap().sha256());
    assert_eq!(rests_on.targets, [(LockKind::Key, digest("host")), (LockKind::Key, digest("ca"))]);
    assert_eq!(rests_on.own, [(LockKind::Key, digest("host"))], "why its CA is locked is not the machine's business");
}

/// Whoever waits when the key, or its CA, is revoked does not come in.
#[test]
fn what_is_revoked_meanwhile_does_not_hold_any_more() {
    let room = Room::new();
    let (ca, host) = (room.public("ca"), room.public("host"));
    room.write("shared", &format!("{}db1 {host}\n", room.authority("ca")));
    let body = room.body("host", &room.certified(&["-h", "-n", "web1"]));
    let purpose = Purpose::Join { wanted: Some("web1") };
    assert_eq!(room.vouched(NOTHING, &body, purpose).unwrap().reference, None, "no file could revoke it");
    let reference = room.vouched(SHARED, &body, purpose).unwrap().reference.unwrap();
    let attestor = room.attestor(SHARED);
    let recheck = || {
        let found = room.found(&attestor.recheck_needs(&reference, &Found::default()));
        assert!(attestor.recheck_needs(&reference, &found).is_empty());
        attestor.recheck(&reference, &for_key(), &found, &context()).map(|changes| changes.is_empty())
    };
    assert_eq!(recheck(), Ok(true));
    room.write("shared", "# neither a CA nor a pin any more\n");
    assert_eq!(recheck(), Ok(true));
    for key in [&ca, &host] {
        room.write("shared", &format!("@revoked * {key}\n"));
        assert!(matches!(recheck(), Err(Refusal::Evidence(reject)) if reject.code.name == "ssh-host-revoked"));
    }
    // While that is not known nobody is approved or issued a certificate, and nobody is turned away for good.
    for text in [Some("@revoked * ssh-ed25519 %%\n"), None] {
        match text {
            Some(text) => room.write("shared", text),
            None => std::fs::remove_file(room.path().join("shared")).unwrap(),
        }
        assert!(matches!(recheck(), Err(Refusal::Ours(Fault::Document { .. }))), "{text:?}");
    }
}

#[test]
fn what_is_wrong_with_the_files_is_told() {
    let room = Room::new();
    let attestor = room.attestor(&format!("{AUTHORITIES}\n{PINS}"));
    let [authorities, pins] = attestor.documents().try_into().unwrap();
    assert_eq!(authorities, DocumentSource::File(room.path().join("authorities")));
    let text = format!("{}@cert-authority * ssh-ed25519 %%\nweb1 {}\n", room.authority("ca"), room.public("host"));
    assert_eq!(attestor.complaints(&authorities, text.as_bytes(), None, NOW), ["line 2: the key is not base64"]);
    assert_eq!(attestor.complaints(&pins, b"web1\n", None, NOW).len(), 1);
}

#[test]
fn what_is_quoted_is_no_longer_than_can_be_read() {
    let room = Room::new();
    room.write("authorities", &room.authority("ca"));
    let many: Vec<String> = (0..30).map(|at| format!("host-{at}.{}.example", "x".repeat(200))).collect();
    let body = room.body("host", &room.certified(&["-h", "-n", &many.join(",")]));
    let Err(Refusal::Evidence(reject)) = room.joins(AUTHORITIES, &body, "web1") else { panic!() };
    assert!(reject.text.chars().count() < 600, "{reject}");
    assert!(no_name(&many.iter().map(|name| name[..7].to_owned()).collect::<Vec<_>>()).text.contains("and 26 more"));
}
