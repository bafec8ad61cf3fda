//! The enroll face when it asks for certificates, and demands none.

use pki::AnchorSet;
use rustls::{SignatureScheme, client::ResolvesClientCert, sign::CertifiedKey};

use super::*;
use crate::core::face::{Chains, ClientAuth};

const MAKER: &str = "maker.example";

impl Rig {
    /// From now on the enroll face asks for certificates.
    async fn asking(chains: Chains) -> Self {
        let rig = Self::new(SEPARATE).await;
        let row = FaceRow { client_auth: ClientAuth::Optional, chains, ..Face::Enroll.row().clone() };
        rig.tls.swap(table((&rig.authority, &rig.authority), &row, &rig.clock, &rig.entropy));
        rig
    }

    fn of(&self, authority: &Authority, name: &str, life: Duration) -> Holder {
        Holder::of(authority, Role::Machine, name, life, &self.clock, &self.entropy)
    }

    /// As whom somebody is served on a face, or what they are told instead.
    async fn served(&self, to: SocketAddr, holder: Option<&Holder>) -> Result<String, String> {
        let mut client = match self.connect(to, JOIN, self.client(holder)).await {
            Ok(client) => client,
            Err(error) => return Err(error.to_string()),
        };
        match get_path(&mut client, "/who").await {
            Ok(answer) => Ok(answer.split_once("\r\n\r\n").unwrap().1.rsplit_once(' ').unwrap().0.to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }
}

fn maker() -> (Authority, Chains) {
    let clock = Clock::system();
    let maker = authority(MAKER, &clock, &Entropy::os());
    let anchors = AnchorSet::new(&[maker.root_der()], clock.now()).unwrap();
    (maker, Chains::OursAnd(Arc::new(anchors)))
}

fn alert(name: &str) -> Result<String, String> {
    Err(format!("received fatal alert: {name}"))
}

#[tokio::test]
async fn a_certificate_may_be_shown_and_need_not() {
    let (maker, chains) = maker();
    let rig = Rig::asking(chains).await;
    let (enroll, hour) = (rig.bound.enroll, Duration::from_hours(1));
    assert_eq!(rig.served(enroll, None).await, Ok("enroll nobody".to_owned()));
    for role in [Role::Machine, Role::Person] {
        let holder = rig.holder(role, "a");
        assert_eq!(rig.served(enroll, Some(&holder)).await, Ok(format!("enroll {}", holder.identity)));
    }
    let device = rig.of(&maker, "device", hour);
    let served = rig.served(enroll, Some(&device)).await.unwrap();
    assert!(served.starts_with("enroll foreign-key:"), "{served}");
    let stranger = authority("other.example", &rig.clock, &rig.entropy);
    assert_eq!(rig.served(enroll, Some(&rig.of(&stranger, "device", hour))).await, alert("UnknownCA"));
    let gateway = rig.holder(Role::Gateway, "gate");
    assert!(rig.served(enroll, Some(&gateway)).await.is_err());
    // Nobody else believes the manufacturer.
    assert_eq!(rig.served(rig.bound.manage, Some(&device)).await, alert("UnknownCA"));
    let minute = Duration::from_secs(60);
    let brief = [rig.of(&rig.authority, "b", minute), rig.of(&maker, "c", minute)];
    rig.hand.advance(2 * minute);
    for holder in brief {
        assert_eq!(rig.served(enroll, Some(&holder)).await, alert("CertificateExpired"));
    }
}

#[tokio::test]
async fn without_anchors_ours_alone_are_accepted() {
    let (maker, _) = maker();
    let rig = Rig::asking(Chains::Ours).await;
    let holder = rig.holder(Role::Machine, "a");
    assert_eq!(rig.served(rig.bound.enroll, Some(&holder)).await, Ok(format!("enroll {}", holder.identity)));
    assert_eq!(rig.served(rig.bound.enroll, None).await, Ok("enroll nobody".to_owned()));
    let device = rig.of(&maker, "device", Duration::from_hours(1));
    assert_eq!(rig.served(rig.bound.enroll, Some(&device)).await, alert("UnknownCA"));
}

/// Whoever shows a certificate there is found by it like everywhere: locks and its end reach the connection.
#[tokio::test]
async fn connections_with_a_certificate_end_with_it() {
    let (maker, chains) = maker();
    let rig = Rig::asking(chains).await;
    let (long, brief) = (rig.of(&maker, "c", Duration::from_hours(1)), rig.of(&maker, "d", Duration::from_secs(60)));
    let mut open = Vec::new();
    for holder in [&long, &brief, &rig.holder(Role::Machine, "a")] {
        let mut client = rig.connect(rig.bound.enroll, JOIN, rig.client(Some(holder))).await.unwrap();
        body(&mut client, "/who").await;
        open.push(client);
    }
    rig.hand.advance(Duration::from_secs(61));
    assert!(ended(&mut open[1]).await < 4 * EXPIRY_SWEEP);
    let key = SoftwareKey::from_pkcs8(&long.pkcs8).unwrap().subject_key().unwrap().digest();
    assert_eq!(rig.live.cut(&ConnSelector::Key(key), CloseReason::Locked), 1);
    assert!(ended(&mut open[0]).await < AT_ONCE);
    body(&mut open[2], "/who").await;
}

/// A browser: it is told whose certificates are wanted, and has none of those.
#[derive(Debug, Default)]
struct Browser(Mutex<Vec<Vec<u8>>>);

impl ResolvesClientCert for Browser {
    fn resolve(&self, root_hints: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        *self.0.lock().unwrap() = root_hints.iter().map(|hint| hint.to_vec()).collect();
        None
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[tokio::test]
async fn browsers_are_told_whose_certificates_are_wanted() {
    let (maker, chains) = maker();
    let rig = Rig::asking(chains).await;
    let browser = Arc::new(Browser::default());
    let mut config = client(&rig.authority, None);
    config.client_auth_cert_resolver = Arc::clone(&browser) as _;
    let mut client = rig.connect(rig.bound.enroll, JOIN, Arc::new(config)).await.unwrap();
    assert!(body(&mut client, "/who").await.starts_with("enroll nobody "));
    let mut wanted = rig.authority.anchors().names();
    wanted.extend(AnchorSet::new(&[maker.root_der()], rig.clock.now()).unwrap().names());
    assert_eq!(*browser.0.lock().unwrap(), wanted);
}
