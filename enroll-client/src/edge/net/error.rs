//! Why there is no connection or no answer, in words and with what to do.

use std::io;

use rustls::AlertDescription;

use crate::core::target::Address;
use crate::core::trust::Distrust;
use crate::text::report::{Complaint, Exit, Refusal};

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// The name is unknown.
    #[error("cannot find `{host}`: {cause}")]
    Lookup {
        /// The name.
        host: String,
        /// What the resolver said.
        cause: io::Error,
    },
    /// Nobody listens there, or the way is blocked.
    #[error("cannot reach {address}: {cause}")]
    Connect {
        /// The address that was called.
        address: Address,
        /// What the system said.
        cause: io::Error,
    },
    /// Something took too long.
    #[error("{address} {what}")]
    Slow {
        /// The address that was called.
        address: Address,
        /// What did not happen.
        what: &'static str,
        /// Whether a request was on its way by then.
        sent: bool,
    },
    /// It is not the gateway we expect.
    #[error(transparent)]
    Distrust(Distrust),
    /// The TLS handshake failed for another reason.
    #[error("no TLS with {address}: {cause}")]
    Tls {
        /// The address that was called.
        address: Address,
        /// What rustls said.
        cause: String,
    },
    /// The other side hung up in the middle of the handshake.
    #[error("{address} hung up before TLS was there: {cause}")]
    Cut {
        /// The address that was called.
        address: Address,
        /// What the system said.
        cause: String,
    },
    /// The gateway did not take our certificate (or that we have none). Under TLS 1.3 this is heard at the first read only.
    #[error("{}", rejection(address, *alert, *showed_certificate))]
    Rejected {
        /// The address that was called.
        address: Address,
        /// The reason the gateway gave.
        alert: AlertDescription,
        /// Whether we showed a certificate.
        showed_certificate: bool,
    },
    /// The connection broke.
    #[error("the connection to {address} broke: {cause}")]
    Broken {
        /// The address that was called.
        address: Address,
        /// What the system or rustls said.
        cause: String,
    },
    /// The answer is no answer of ours.
    #[error("{address} does not answer like a gateway: {what}")]
    Nonsense {
        /// The address that was called.
        address: Address,
        /// What is wrong with it.
        what: String,
    },
    /// TLS could not be set up on our side.
    #[error("cannot set up TLS: {0}")]
    Setup(String),
}

/// What a rejection means, in words.
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
    /// Whether a request may have arrived.
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
            | Self::Setup(_) => false,
        }
    }

    /// Whether it is what a crowd that comes at once is met with.
    #[must_use]
    pub fn is_load(&self) -> bool {
        matches!(self, Self::Cut { .. } | Self::Slow { .. } | Self::Broken { .. })
    }

    /// Whether trying again may help without anybody doing anything.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Lookup { .. }
            | Self::Connect { .. }
            | Self::Slow { .. }
            | Self::Broken { .. }
            | Self::Cut { .. }
            | Self::Tls { .. } => true,
            Self::Distrust(_) | Self::Rejected { .. } | Self::Nonsense { .. } | Self::Setup(_) => false,
        }
    }
}

impl From<NetError> for Complaint {
    fn from(error: NetError) -> Self {
        let what = error.to_string();
        let (exit, code, hint) = match error {
            NetError::Distrust(distrust) => return distrust.into(),
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
pub enum CallError {
    /// No answer.
    #[error(transparent)]
    Net(#[from] NetError),
    /// The gateway said no.
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

/// Whether an alert is about the certificate we showed or did not show (RFC 8446 6.2).
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
            // What rustls says of a chain whose issuer has our CA's name and another key.
            | AlertDescription::DecryptError
    )
}
