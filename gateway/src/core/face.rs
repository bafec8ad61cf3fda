//! The faces of the gateway, and the names by which they are reached.

use std::fmt;

use pki::GatewayName;

/// Which side of the gateway a connection came in by.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Face {
    /// Open to all; only the gateway shows a certificate.
    Enroll,
    /// Nobody comes in without a certificate.
    Manage,
    /// The same; leads to the services of machines.
    Proxy,
    /// A machine's own connection, which came in by the manage face.
    Tunnel,
}

impl Face {
    /// All there are.
    pub const ALL: [Self; 4] = [Self::Enroll, Self::Manage, Self::Proxy, Self::Tunnel];

    /// Its name in configuration, log and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enroll => "enroll",
            Self::Manage => "manage",
            Self::Proxy => "proxy",
            Self::Tunnel => "tunnel",
        }
    }
}

impl fmt::Display for Face {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The names by which each face is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaceNames {
    /// Names and addresses of the enroll face.
    pub enroll: Vec<GatewayName>,
    /// Names and addresses of the manage face.
    pub manage: Vec<GatewayName>,
    /// Names and addresses of the proxy face. Each DNS name also stands for `<service>--<machine>.<name>`.
    pub proxy: Vec<GatewayName>,
}

/// What a server name indication asks for on the proxy face.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawName {
    /// The service.
    pub service: String,
    /// The machine.
    pub machine: String,
}

impl FaceNames {
    /// The face that a server name indication asks for (RFC 6066 3); the manage face wins if both have the name, which
    /// the configuration refuses.
    #[must_use]
    pub fn face_of(&self, sni: &str) -> Option<Face> {
        let named = |names: &[GatewayName]| names.iter().any(|name| covers(name, sni));
        match (named(&self.manage), named(&self.enroll)) {
            (true, _) => Some(Face::Manage),
            (false, true) => Some(Face::Enroll),
            (false, false) if self.is_of_proxy(sni) => Some(Face::Proxy),
            (false, false) => None,
        }
    }

    /// Whether a name means the proxy face: one of its own, or a service's below one.
    #[must_use]
    pub fn is_of_proxy(&self, sni: &str) -> bool {
        self.proxy.iter().any(|name| covers(name, sni)) || self.raw(sni).is_some()
    }

    /// The service that `<service>--<machine>.<name of the proxy face>` asks for. A service's name has no two hyphens in a
    /// row, so the first two end it.
    #[must_use]
    pub fn raw(&self, sni: &str) -> Option<RawName> {
        let sni = sni.to_ascii_lowercase();
        let (label, parent) = sni.split_once('.')?;
        let ours = |name: &GatewayName| matches!(name, GatewayName::Dns(name) if name.eq_ignore_ascii_case(parent));
        let (service, machine) = label.split_once("--")?;
        let named = self.proxy.iter().any(ours) && !service.is_empty() && !machine.is_empty();
        named.then(|| RawName { service: service.to_owned(), machine: machine.to_owned() })
    }

    /// All names once, for the gateway's own certificate.
    #[must_use]
    pub fn all(&self) -> Vec<GatewayName> {
        let below = self.proxy.iter().filter_map(|name| match name {
            GatewayName::Dns(name) => Some(GatewayName::Dns(format!("*.{name}"))),
            GatewayName::Ip(_) => None,
        });
        let mut all: Vec<GatewayName> =
            self.enroll.iter().chain(&self.manage).chain(&self.proxy).cloned().chain(below).collect();
        all.sort();
        all.dedup();
        all
    }
}

/// RFC 9525 6.3: a `*` stands for one whole label on the left.
fn covers(name: &GatewayName, sni: &str) -> bool {
    let GatewayName::Dns(name) = name else { return false };
    match name.strip_prefix("*.") {
        None => name.eq_ignore_ascii_case(sni),
        Some(parent) => {
            sni.split_once('.').is_some_and(|(label, rest)| !label.is_empty() && rest.eq_ignore_ascii_case(parent))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(sni: &str, want: Option<Face>) {
        let dns = |name: &str| GatewayName::Dns(name.to_owned());
        let names = FaceNames {
            enroll: vec![dns("join.td.example"), dns("*.join.td.example"), GatewayName::Ip([192, 0, 2, 1].into())],
            manage: vec![dns("manage.td.example")],
            proxy: vec![dns("gw.td.example"), GatewayName::Ip([192, 0, 2, 2].into())],
        };
        assert_eq!(names.face_of(sni), want, "{sni}");
    }

    #[test]
    fn faces_by_name() {
        check("join.td.example", Some(Face::Enroll));
        check("JOIN.td.example", Some(Face::Enroll));
        check("a.join.td.example", Some(Face::Enroll));
        check("a.b.join.td.example", None);
        check(".join.td.example", None);
        check("manage.td.example", Some(Face::Manage));
        check("gw.td.example", Some(Face::Proxy));
        check("ssh--edge-7.gw.td.example", Some(Face::Proxy));
        check("edge-7.gw.td.example", None);
        check("ssh--edge-7.manage.td.example", None);
        check("td.example", None);
        check("192.0.2.1", None);
        check("", None);
    }

    #[test]
    fn services_by_name() {
        let names =
            FaceNames { enroll: vec![], manage: vec![], proxy: vec![GatewayName::Dns("gw.example".to_owned())] };
        for (sni, want) in [
            ("ssh--edge-7.gw.example", Some(("ssh", "edge-7"))),
            ("SSH--Edge-7.GW.example", Some(("ssh", "edge-7"))),
            ("a-b--c--d.gw.example", Some(("a-b", "c--d"))),
            ("--edge-7.gw.example", None),
            ("ssh--.gw.example", None),
            ("ssh-edge-7.gw.example", None),
            ("ssh--edge-7.x.gw.example", None),
            ("ssh--edge-7", None),
        ] {
            let raw = names.raw(sni);
            assert_eq!(raw.as_ref().map(|raw| (raw.service.as_str(), raw.machine.as_str())), want, "{sni}");
        }
    }
}
