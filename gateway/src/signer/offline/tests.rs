//! Renewing the issuing CAs here and with the root's key on another machine, and imports that are refused.

use std::time::Duration;

use pki::{AdmittedBy, Assurance, Identity, KeyAlgorithm, LeafRequest, TrustDomain, UnixTime};

use crate::{
    ports::clock::FakeClock,
    signer::{Authority, offline::*},
};

const DAY: Duration = Duration::from_hours(24);

struct Place {
    /// Removed with its files when the test ends.
    _dir: tempfile::TempDir,
    hand: FakeClock,
    builder: CaBuilder,
}

fn domain() -> TrustDomain {
    TrustDomain::parse("td.example").unwrap()
}

impl Place {
    fn new() -> Self {
        let (clock, hand) = Clock::fake(UnixTime::new(1_800_000_000));
        let entropy = Entropy::os();
        let passphrase = Passphrase::generate(&entropy);
        let dir = tempfile::tempdir().unwrap();
        let builder = CaBuilder { data_dir: dir.path().to_owned(), domain: domain(), passphrase, clock, entropy };
        Authority::create(&builder).unwrap();
        Self { _dir: dir, hand, builder }
    }

    fn data(&self) -> &Path {
        &self.builder.data_dir
    }

    fn load(&self) -> Authority {
        Authority::load(self.data(), &domain(), &self.builder.passphrase, &self.builder.clock).unwrap()
    }

    fn sign(&self, asked: &Path, new: Option<Role>) -> Result<String, SignerError> {
        let CaBuilder { passphrase, clock, entropy, .. } = &self.builder;
        sign(asked, &RootSigning { key: &self.root_key(), passphrase, new }, clock, entropy)
    }

    fn root_key(&self) -> PathBuf {
        self.data().join("ca/root.key")
    }

    fn root(&self) -> Root {
        let certificate = root_certificate(self.data()).unwrap();
        open_root(&certificate, &self.root_key(), &self.builder.passphrase).unwrap()
    }

    /// The file that `sign` wrote.
    fn signed(&self) -> PathBuf {
        let (there, back) = (self.data().join("there.pem"), self.data().join("back.pem"));
        write(&there, &request(self.data()).unwrap());
        write(&back, &self.sign(&there, None).unwrap());
        back
    }
}

fn write(path: &Path, text: &str) {
    files::write_atomic(path, text.as_bytes(), FileAccess::Public, Existing::Replace).unwrap();
}

/// A machine's certificate, valid for a day.
fn leaf(set: &Authority, now: UnixTime) -> Vec<u8> {
    let (key, _) = SoftwareKey::generate(KeyAlgorithm::P256).unwrap();
    let request = LeafRequest {
        key: key.subject_key().unwrap(),
        identity: Identity::parse("spiffe://td.example/machine/m-1").unwrap(),
        serial: Serial::from_entropy([7; 16]),
        lifetime: DAY,
        assurance: Assurance::SOFTWARE,
        admitted_by: AdmittedBy::Policy,
        gateway_names: vec![],
    };
    pki::draft(request, now).lint().unwrap().issue(set.issuing_in_test(Role::Machine)).unwrap().der
}

fn let_in(set: &Authority, leaf: &[u8], sent: &[&[u8]], now: UnixTime) -> Result<(), String> {
    pki::verify_peer(leaf, sent, set.anchors(), &[Role::Machine], now).map(drop).map_err(|error| error.to_string())
}

#[test]
fn nobody_is_stranded_by_a_renewal() {
    for elsewhere in [false, true] {
        let place = Place::new();
        let old = place.load();
        let end = old.issuing_in_test(Role::Machine).not_after();
        place.hand.set(end.minus(DAY * 2));
        let holder = leaf(&old, place.builder.clock.now());
        if elsewhere {
            import(&place.builder, &place.signed()).unwrap();
        } else {
            renew(place.data(), &place.root(), &place.builder.clock, &place.builder.entropy).unwrap();
        }
        let new = place.load();
        for role in Role::ALL {
            let (before, after) = (old.issuing_in_test(role), new.issuing_in_test(role));
            assert_eq!(after.key_digest(), before.key_digest());
            assert!(after.not_after() > end.plus(DAY * 1_000), "{role}");
            assert_eq!(after.not_before(), before.not_before());
        }
        // an old leaf with the old chain, the new one and none; and a new leaf with each of them
        let chains: [&[&[u8]]; 3] =
            [&[old.issuing_in_test(Role::Machine).cert_der()], &[new.issuing_in_test(Role::Machine).cert_der()], &[]];
        for chain in chains {
            let_in(&new, &holder, chain, place.builder.clock.now()).unwrap();
        }
        place.hand.set(end.plus(DAY));
        let later = leaf(&new, place.builder.clock.now());
        for chain in chains {
            let_in(&new, &later, chain, place.builder.clock.now()).unwrap();
        }
        let (_, list) = new.root_list(&new.pin()).unwrap();
        assert!(
            list.number > old.root_list(&old.pin()).unwrap().1.number
                && list.next_update.unwrap() > end.plus(DAY * 1_000)
        );
    }
}

#[test]
fn it_starts_whatever_has_ended() {
    let place = Place::new();
    let ends = *place.load().ends();
    for at in [ends.machine.minus(DAY), ends.machine.plus(DAY), ends.root.plus(DAY), UnixTime::new(5)] {
        place.hand.set(at);
        let set = place.load();
        let name = pki::Name::parse("gateway").unwrap();
        let names = vec![pki::GatewayName::Dns("gate.td.example".to_owned())];
        let leaf =
            crate::signer::GatewayLeaf::unrecorded(&set, &name, names, &place.builder.clock, &place.builder.entropy)
                .unwrap();
        assert!(leaf.validity().until <= ends.gateway, "at {at}");
        assert_eq!(leaf.validity().holds(at), at < ends.gateway && at > UnixTime::new(5), "at {at}");
    }
    // an expired root is not a trust anchor
    let set = place.load();
    place.hand.set(UnixTime::new(1_800_000_000));
    let holder = leaf(&set, place.builder.clock.now());
    assert!(let_in(&place.load(), &holder, &[], place.builder.clock.now()).is_ok());
    assert!(let_in(&place.load(), &holder, &[], ends.root.plus(DAY)).is_err());
}

#[test]
fn what_is_not_imported() {
    let place = Place::new();
    let stranger = Place::new();
    let before = request(place.data()).unwrap();
    place.hand.advance(DAY);
    stranger.hand.advance(DAY);
    let good = files::read_text(&place.signed()).unwrap();
    let foreign = files::read_text(&stranger.signed()).unwrap();
    let one = good.find("-----BEGIN X509").unwrap();
    let first_end = good.find("-----END CERTIFICATE-----").unwrap() + "-----END CERTIFICATE-----\n".len();
    let from = place.data().join("from.pem");
    let check = |text: &str, want: &str| {
        write(&from, text);
        let error = import(&place.builder, &from).unwrap_err().to_string();
        assert!(error.contains(want), "{error}");
        assert_eq!(request(place.data()).unwrap(), before, "nothing was written");
    };
    check(&foreign, "contains no certificate that can replace");
    check(&good[first_end..], "contains no certificate that can replace");
    check("nothing", "the text holds no `-----BEGIN CERTIFICATE-----` block");
    check(
        &format!("{}{}", &good[..one], &foreign[foreign.find("-----BEGIN X509").unwrap()..]),
        "was not signed by that CA",
    );
    check(&format!("{before}{}", &good[one..]), "it ends no later");
    write(&from, &good);
    import(&place.builder, &from).unwrap();
    // a request with another root, or with CAs of another root, is not signed
    let asked = place.data().join("asked.pem");
    write(&asked, &request(stranger.data()).unwrap());
    let wrong = place.sign(&asked, None).unwrap_err();
    assert!(wrong.to_string().contains("do not belong together"), "{wrong}");
    let own = root_certificate(place.data()).unwrap();
    let theirs = request(stranger.data()).unwrap();
    let theirs = &theirs[theirs.find("-----END").unwrap() + "-----END CERTIFICATE-----\n".len()..];
    write(&asked, &format!("{}{theirs}", pki::to_pem(CERTIFICATE, &own)));
    let wrong = place.sign(&asked, None).unwrap_err();
    assert!(wrong.to_string().contains("was not signed by this root"), "{wrong}");
}

#[test]
fn the_roots_list() {
    let place = Place::new();
    let (_, first) = root_list(place.data()).unwrap().unwrap();
    assert_eq!(first.entries, 0);
    place.hand.set(UnixTime::new(1_700_000_000));
    let second = renew_root_list(place.data(), &place.root(), &place.builder.clock).unwrap();
    assert!(second.number > first.number, "whatever the clock does");
    // the CRL of another root
    let stranger = Place::new();
    let theirs = files::read_text(&stranger.data().join("ca/root.crl")).unwrap();
    write(&place.data().join("ca/root.crl"), &theirs);
    let error = root_list(place.data()).unwrap_err().to_string();
    assert!(error.contains("was not signed by that CA") && error.contains("`lychgate-gateway ca crl`"), "{error}");
}
