//! Errors of connections and requests, with hints.

use std::io;

use rustls::AlertDescription;

use crate::core::key::KeyFault;
use crate::core::target::Address;
use crate::core::trust::Distrust;
use crate::text::report::{Complaint, Exit, Refusal};

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the error texts say what the variants and fields mean")]
pub enum NetError {
    #[error("cannot find `{host}`: {cause}")]
    Lookup { host: String, cause: io::Error },
    #[error("cannot reach {address}: {cause}")]
    Connect { address: Address, cause: io::Error },
    #[error("{address} {what}")]
    Slow {
        address: Address,
        what: &'static str,
        /// Whether a request was on its way by then.
        sent: bool,
    },
    #[error(transparent)]
    Distrust(Distrust),
    #[error("no TLS with {address}: {cause}")]
    Tls { address: Address, cause: String },
    /// The peer closed the connection during the handshake.
    #[error("{address} closed the connection during the TLS handshake: {cause}")]
    Cut { address: Address, cause: String },
    /// The gateway refused our certificate, or requires one. In TLS 1.3 the client learns this only at its first read.
    #[error("{}", rejection(address, *alert, *showed_certificate))]
    Rejected { address: Address, alert: AlertDescription, showed_certificate: bool },
    #[error("the connection to {address} broke: {cause}")]
    Broken { address: Address, cause: String },
    #[error("{address} does not answer like a gateway: {what}")]
    Nonsense { address: Address, what: String },
    #[error("cannot set up TLS: {0}")]
    Setup(String),
    /// Our key did not sign in the handshake.
    #[error(transparent)]
    Key(KeyFault),
}

/// The message about a refused certificate.
fn rejection(address: &Address, alert: AlertDescription, showed_certificate: bool) -> String {
    if showed_certificate && alert == AlertDescription::CertificateExpired {
        format!("the gateway {address} says that our certificate has expired")
    } else if showed_certificate {
        let alert = format!("{alert:?}");
        format!("the gateway {address} rejected our certificate (expired, revoked or from another gateway; {alert})")
    } else {
        format!("{address} asks for a certificate: it is a gateway's manage or proxy face, not its enroll face")
    }
}

impl NetError {
    /// Whether the gateway may have received the request.
    #[must_use]
    pub fn may_have_arrived(&self) -> bool {
        match self {
            Self::Broken { .. } | Self::Nonsense { .. } => true,
            Self::Slow { sent, .. } => *sent,
            Self::Lookup { .. }
            | Self::Connect { .. }
            | Self::Distrust(_)
            | Self::Tls { .. }
            | Self::Cut { .. }
            | Self::Rejected { .. }
            | Self::Setup(_)
            | Self::Key(_) => false,
        }
    }

    /// Whether it is typical of an overloaded gateway.
    #[must_use]
    pub fn is_load(&self) -> bool {
        matches!(self, Self::Cut { .. } | Self::Slow { .. } | Self::Broken { .. })
    }

    /// Whether a retry may succeed without any change by a person.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Lookup { .. }
            | Self::Connect { .. }
            | Self::Slow { .. }
            | Self::Broken { .. }
            | Self::Cut { .. }
            | Self::Tls { .. } => true,
            Self::Key(fault) => fault.is_passing(),
            Self::Distrust(_) | Self::Rejected { .. } | Self::Nonsense { .. } | Self::Setup(_) => false,
        }
    }
}

impl From<NetError> for Complaint {
    fn from(error: NetError) -> Self {
        let what = error.to_string();
        let (exit, code, hint) = match error {
            NetError::Distrust(distrust) => return distrust.into(),
            NetError::Key(fault) => return fault.into(),
            NetError::Lookup { .. } => {
                (Exit::Unreachable, "unreachable", "check the gateway's name and this machine's DNS")
            }
            NetError::Connect { address, .. } if address.port() == 443 => (
                Exit::Unreachable,
                "unreachable",
                "check the address and port: without one it is 443, and a gateway listens on 8443 unless it is told otherwise",
            ),
            NetError::Connect { .. } | NetError::Slow { sent: false, .. } => {
                (Exit::Unreachable, "unreachable", "check the address and port, and that the gateway runs")
            }
            NetError::Slow { .. } | NetError::Broken { .. } => {
                (Exit::Unreachable, "unreachable", "try again; asking twice does no harm")
            }
            NetError::Cut { .. } => (
                Exit::Unreachable,
                "turned-away",
                "the gateway may be too busy, or have too many callers from here: try again in a minute; if it stays so, check that \
                 the port is a gateway's",
            ),
            NetError::Tls { .. } => {
                (Exit::Unreachable, "tls", "check that the port is a gateway's, and nothing in between takes TLS apart")
            }
            NetError::Rejected { alert, showed_certificate: true, .. } => {
                let exit = if alert == AlertDescription::CertificateExpired { Exit::Expired } else { Exit::Refused };
                (
                    exit,
                    "rejected",
                    "`lychgate status` shows the certificate; `lychgate join` rejoins when it has expired",
                )
            }
            NetError::Rejected { .. } => (Exit::Refused, "rejected", "use the address and port of the enroll face"),
            NetError::Nonsense { .. } => (Exit::Failure, "bad-reply", "check that the address is a gateway's"),
            NetError::Setup(_) => (Exit::Failure, "tls", "the identity's files may be damaged; see `lychgate status`"),
        };
        Self::new(exit, code, what).hint(hint)
    }
}

/// Why a call has no result.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the error texts say what the variants and fields mean")]
pub enum CallError {
    #[error(transparent)]
    Net(#[from] NetError),
    #[error("{}", .0.detail)]
    Refused(Box<Refusal>),
}

impl From<CallError> for Complaint {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Net(error) => error.into(),
            CallError::Refused(refusal) => refusal.complaint(),
        }
    }
}

/// The TLS alert somewhere below an error, if that is the cause.
pub fn alert(error: &(dyn std::error::Error + 'static)) -> Option<AlertDescription> {
    let mut next = Some(error);
    while let Some(error) = next {
        let inner = error.downcast_ref::<io::Error>().and_then(|io| io.get_ref());
        let tls = error
            .downcast_ref::<rustls::Error>()
            .or_else(|| inner.and_then(|inner| inner.downcast_ref::<rustls::Error>()));
        if let Some(rustls::Error::AlertReceived(alert)) = tls {
            return Some(*alert);
        }
        next = error.source();
    }
    None
}

/// Whether an alert is about the client certificate or its absence (RFC 8446 6.2).
pub fn is_rejection(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            // Sent by rustls for a chain whose issuer has the CA's name and another key.
            | AlertDescription::DecryptError
    )
}
