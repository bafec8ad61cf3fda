//! The faces of the gateway, one row each, and the names by which they are reached.

use std::{fmt, sync::Arc};

use pki::{AnchorSet, GatewayName, Role};
use wire::tunnel::{ALPN, DIAL_BACK_ALPN, STREAMS_ALPN};

/// The ALPN name of HTTP (RFC 7301).
const HTTP: &[u8] = b"http/1.1";

/// The face that a connection belongs to.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Face {
    /// Open to all; only the gateway shows a certificate.
    Enroll,
    /// A client certificate is required.
    Manage,
    /// The same; connections to services of machines.
    Proxy,
    /// A machine's tunnel, accepted on the manage face.
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

    /// The row of the listener that accepts its connections.
    #[must_use]
    pub const fn row(self) -> &'static FaceRow {
        match self {
            Self::Enroll => &ENROLL,
            Self::Manage | Self::Tunnel => &MANAGE,
            Self::Proxy => &PROXY,
        }
    }
}

/// Whether clients show a certificate in the handshake.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// No certificate is requested.
    None,
    /// A certificate is requested and may be missing.
    Optional,
    /// A certificate is required.
    Required,
}

/// The accepted chains of client certificates.
#[derive(Clone, Debug)]
pub enum Chains {
    /// Chains to our roots.
    Ours,
    /// Chains to our roots and to these anchors.
    OursAnd(Arc<AnchorSet>),
}

/// The protocol of a connection.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Requests to the table of endpoints.
    Http,
    /// A machine's tunnel.
    Tunnel,
    /// `CONNECT`.
    Connect,
    /// Streams of a helper.
    Streams,
    /// One stream that moved to this connection.
    DialBack,
}

impl Protocol {
    /// Whether many streams share the connection.
    #[must_use]
    pub const fn is_multiplexed(self) -> bool {
        match self {
            Self::Tunnel | Self::Streams => true,
            Self::Http | Self::Connect | Self::DialBack => false,
        }
    }
}

/// A protocol by its ALPN name.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Spoken {
    /// The ALPN name (RFC 7301).
    pub alpn: &'static [u8],
    /// Its protocol.
    pub protocol: Protocol,
    /// The face that the connection counts as.
    pub face: Face,
}

/// One face: everything in which it differs from others. TLS, limits and listeners are configured from it.
#[derive(Clone, Debug)]
pub struct FaceRow {
    /// Whether clients show a certificate.
    pub client_auth: ClientAuth,
    /// The accepted chains.
    pub chains: Chains,
    /// The roles of our own certificates that are accepted.
    pub roles: &'static [Role],
    /// The offered protocols, in order of preference.
    pub protocols: &'static [Spoken],
    /// The protocol for a client that offers no ALPN name.
    pub usual: Spoken,
}

impl FaceRow {
    /// Whether it accepts unknown clients: then it has limits of its own, so that they cannot use up the gateway's.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        match self.client_auth {
            ClientAuth::None | ClientAuth::Optional => true,
            ClientAuth::Required => false,
        }
    }

    /// The protocol for the selected ALPN name.
    #[must_use]
    pub fn spoken(&self, alpn: Option<&[u8]>) -> Spoken {
        let named = |alpn| self.protocols.iter().find(|spoken| spoken.alpn == alpn);
        alpn.and_then(named).copied().unwrap_or(self.usual)
    }
}

const fn spoken(alpn: &'static [u8], protocol: Protocol, face: Face) -> Spoken {
    Spoken { alpn, protocol, face }
}

const TO_ALL: Spoken = spoken(HTTP, Protocol::Http, Face::Enroll);
const TO_HOLDERS: Spoken = spoken(HTTP, Protocol::Http, Face::Manage);
const CONNECT: Spoken = spoken(HTTP, Protocol::Connect, Face::Proxy);

static ENROLL: FaceRow = FaceRow {
    client_auth: ClientAuth::None,
    chains: Chains::Ours,
    roles: &[Role::Machine, Role::Person],
    protocols: &[TO_ALL],
    usual: TO_ALL,
};

static MANAGE: FaceRow = FaceRow {
    client_auth: ClientAuth::Required,
    chains: Chains::Ours,
    roles: &[Role::Machine, Role::Person],
    protocols: &[
        TO_HOLDERS,
        spoken(ALPN, Protocol::Tunnel, Face::Tunnel),
        spoken(DIAL_BACK_ALPN, Protocol::DialBack, Face::Tunnel),
    ],
    usual: TO_HOLDERS,
};

// Machines are admitted so that they can get an error that explains how their programs reach services.
static PROXY: FaceRow = FaceRow {
    client_auth: ClientAuth::Required,
    chains: Chains::Ours,
    roles: &[Role::Machine, Role::Person],
    protocols: &[
        CONNECT,
        spoken(STREAMS_ALPN, Protocol::Streams, Face::Proxy),
        spoken(DIAL_BACK_ALPN, Protocol::DialBack, Face::Proxy),
    ],
    usual: CONNECT,
};

impl fmt::Display for Face {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The names of each face.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaceNames {
    /// Names and addresses of the enroll face.
    pub enroll: Vec<GatewayName>,
    /// Names and addresses of the manage face.
    pub manage: Vec<GatewayName>,
    /// Names and addresses of the proxy face. Each DNS name also covers `<service>--<machine>.<name>`.
    pub proxy: Vec<GatewayName>,
}

/// The service that a server name indication on the proxy face names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawName {
    /// The service.
    pub service: String,
    /// The machine.
    pub machine: String,
}

impl FaceNames {
    /// The face that a server name indication names (RFC 6066 3). The manage face wins if both have the name; the configuration refuses
    /// that.
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

    /// Whether a name is one of the proxy face, or that of a service below one.
    #[must_use]
    pub fn is_of_proxy(&self, sni: &str) -> bool {
        self.proxy.iter().any(|name| covers(name, sni)) || self.raw(sni).is_some()
    }

    /// The service in `<service>--<machine>.<name of the proxy face>`. A service's name has no two consecutive hyphens, so the first
    /// two end it.
    #[must_use]
    pub fn raw(&self, sni: &str) -> Option<RawName> {
        let sni = sni.to_ascii_lowercase();
        let (label, parent) = sni.split_once('.')?;
        let ours = |name: &GatewayName| matches!(name, GatewayName::Dns(name) if name.eq_ignore_ascii_case(parent));
        let (service, machine) = label.split_once("--")?;
        let named = self.proxy.iter().any(ours) && !service.is_empty() && !machine.is_empty();
        named.then(|| RawName { service: service.to_owned(), machine: machine.to_owned() })
    }

    /// All names, without duplicates, for the gateway's own certificate.
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

/// RFC 9525 6.3: a `*` matches exactly one label, the leftmost.
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
    fn rows_fit_together() {
        for face in Face::ALL {
            let row = face.row();
            assert!(row.protocols.contains(&row.usual), "{face}");
            assert!(row.protocols.iter().all(|spoken| std::ptr::eq(spoken.face.row(), row)), "{face}");
            // All other faces require a certificate.
            assert!(!row.is_open() || row.protocols.iter().all(|spoken| spoken.protocol == Protocol::Http), "{face}");
        }
        let manage = Face::Manage.row();
        assert_eq!(manage.spoken(Some(ALPN)).face, Face::Tunnel);
        assert_eq!(manage.spoken(None), manage.usual);
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
