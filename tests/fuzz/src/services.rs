//! What a machine's owner writes: `services.toml`, `--expose` and `--reach`. Whatever is taken fits a hello, has a target,
//! and lets in nobody whom the owner did not name.

use enroll_client::core::services::{AllowedCaller, ServiceTarget, Services};
use pki::Role;
use wire::tunnel::{FromMachine, Open, OpenRefusal, SERVICES_MAX, encode, is_service_name};

use crate::{
    Outcome,
    parts::{mode, with_mode},
};

/// The rest is a file.
const FILE: u8 = 0;
/// Each line is a `--expose`.
const EXPOSE: u8 = 1;
/// Each line is a `--reach`.
const REACH: u8 = 2;

/// Judges one input.
pub fn check(data: &[u8]) -> Outcome {
    let Some((mode, rest)) = mode(data) else { return Outcome::Refused };
    let text = String::from_utf8_lossy(rest);
    let mut services = Services::none();
    let outcome = match mode % 3 {
        FILE => Services::parse(&text, "services.toml").map(|parsed| services = parsed),
        EXPOSE => text.lines().try_for_each(|line| services.expose(line)),
        _ => text.lines().try_for_each(|line| services.reach(line)),
    };
    if let Err(complaint) = outcome {
        assert!(!complaint.what.is_empty() && complaint.hint.is_some(), "{complaint:?}");
        return Outcome::Refused;
    }
    promise(&services);
    Outcome::any(&[services.names().next().is_some() || services.reaches().next().is_some()])
}

fn promise(services: &Services) {
    let hello = services.hello();
    assert!(hello.services.len() <= SERVICES_MAX && hello.services.iter().all(|offer| is_service_name(&offer.name)));
    assert!(encode(&FromMachine::Hello(hello)).is_ok(), "the hello is too long for a frame");
    for name in services.names() {
        for (caller, role) in [("person/nobody-else", Role::Person), ("machine/nobody-else", Role::Machine)] {
            let open = Open {
                session: "s".into(),
                service: name.to_owned(),
                caller: format!("spiffe://td.example/{caller}"),
                labels: vec![],
                dial_back: None,
                dial_back_at: None,
            };
            match services.decide(&open) {
                Ok(service) => {
                    let named = service.allow.iter().any(|who| match who {
                        AllowedCaller::Role(wanted) => *wanted == role,
                        AllowedCaller::Named(wanted, name) => *wanted == role && name.as_str() == "nobody-else",
                        AllowedCaller::Group(_) | AllowedCaller::Label(_) => false,
                    });
                    assert!(named, "{caller} was let in to `{name}`: {service:?}");
                    target(&service.target);
                }
                Err((why, detail)) => assert!(why == OpenRefusal::NotAllowed && !detail.is_empty()),
            }
            let nobody = Open { caller: caller.to_owned(), ..open };
            assert!(services.decide(&nobody).is_err(), "without an identity");
        }
    }
    for (name, reach) in services.reaches() {
        assert!(is_service_name(&reach.service) && !reach.listen.is_empty(), "{name}: {reach:?}");
    }
}

fn target(target: &ServiceTarget) {
    match target {
        ServiceTarget::Tcp(address) => {
            let (host, port) = address.rsplit_once(':').expect("it has a port");
            assert!(!host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0), "{address:?}");
        }
        ServiceTarget::Unix(path) => assert!(path.is_absolute(), "{}", path.display()),
    }
}

/// Each form, and what is nearly one.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let file = "[expose.ssh]\ntarget = \"127.0.0.1:22\"\n\n[expose.web]\ntarget = \"[::1]:80\"\nmode = \"raw\"\n\
                allow = [\"group/ops\", \"machine/web-1\", \"label/a=b\"]\n\n[reach.salt]\nto = \"salt.infra:4505\"\n\
                listen = \"127.0.0.2:4505\"\n";
    vec![
        with_mode(FILE, file.as_bytes()),
        with_mode(FILE, b"[expose.ssh]\ntarget = \"x\"\n"),
        with_mode(FILE, b"[expose.\"\\u0000\"]\ntarget = \"127.0.0.1:22\"\n"),
        with_mode(EXPOSE, b"ssh=127.0.0.1:22\ndb=unix:/run/db.sock,sealed,allow=group/dba,allow=person/ann"),
        with_mode(EXPOSE, b"ssh=127.0.0.1:22,loud"),
        with_mode(EXPOSE, b"a--b=127.0.0.1:0"),
        with_mode(REACH, b"puppet=puppet.infra:8140\nchef=chef.infra:443,listen=127.0.0.1:8443"),
        with_mode(REACH, b"puppet=puppet:x,listen="),
    ]
}
