//! What a `CONNECT` may name: `<service>.<machine>:<port>`.

use thiserror::Error;
use wire::tunnel::is_service_name;

use crate::flow::connect::WantedService;

/// Why a target names no service.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BadTarget {
    /// An address.
    #[error("`{0}` is an address; CONNECT names a service of a machine here: `<service>.<machine>:<port>`")]
    Address(String),
    /// No port, or none that is a number.
    #[error("`{0}` has no port; write `<service>.<machine>:<port>`, where any port will do")]
    Port(String),
    /// Anything else.
    #[error("`{0}` names no service; write `<service>.<machine>:<port>`, such as `ssh.edge-7:22`")]
    Shape(String),
}

/// Reads a target in authority form. The port is there because HTTP wants one; the service is known by its name.
///
/// # Errors
/// [`BadTarget`].
pub fn target(text: &str) -> Result<WantedService, BadTarget> {
    let shown = || text.chars().take(80).collect::<String>();
    if text.starts_with('[') || text.rsplit_once(':').map_or(text, |(host, _)| host).parse::<std::net::IpAddr>().is_ok()
    {
        return Err(BadTarget::Address(shown()));
    }
    let (host, port) = text.rsplit_once(':').ok_or_else(|| BadTarget::Port(shown()))?;
    if !matches!(port.parse::<u16>(), Ok(1..)) {
        return Err(BadTarget::Port(shown()));
    }
    let host = host.to_ascii_lowercase();
    let (service, machine) = host.split_once('.').ok_or_else(|| BadTarget::Shape(shown()))?;
    if !is_service_name(service) || pki::Name::parse(machine).is_err() {
        return Err(BadTarget::Shape(shown()));
    }
    Ok(WantedService { service: service.to_owned(), machine: machine.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, want: Result<(&str, &str), BadTarget>) {
        let found = target(text);
        assert_eq!(found.as_ref().map(|w| (w.service.as_str(), w.machine.as_str())), want.as_ref().copied(), "{text}");
    }

    #[test]
    fn targets() {
        check("ssh.edge-7:22", Ok(("ssh", "edge-7")));
        check("SSH.Edge-7:65535", Ok(("ssh", "edge-7")));
        for address in ["127.0.0.1:22", "127.0.0.1", "[::1]:22", "[fe80::1%25x]:22"] {
            check(address, Err(BadTarget::Address(address.into())));
        }
        for port in ["ssh.edge-7", "ssh.edge-7:0", "ssh.edge-7:", "ssh.edge-7:ssh", "ssh.edge-7:70000"] {
            check(port, Err(BadTarget::Port(port.into())));
        }
        for shape in ["edge-7:22", "ssh.edge.example:22", ".edge-7:22", "ssh.:22", "a--b.edge-7:22", "localhost:22"] {
            check(shape, Err(BadTarget::Shape(shape.into())));
        }
    }
}
