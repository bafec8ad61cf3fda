//! Parses `SERVICE@MACHINE`, as people and ssh write it.

use pki::Name;
use wire::tunnel::is_service_name;

use crate::core::target::parse_name;
use crate::text::report::{Complaint, Exit};

/// Parses a machine's name: the name alone or `<name>.machine.<trust domain>`, in any letter case, optionally with a trailing dot.
pub fn machine(text: &str) -> Result<Name, Complaint> {
    let text = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let name = text.split_once(".machine.").map_or(text.as_str(), |(name, _)| name);
    parse_name(name)
}

/// A service on a machine: `SERVICE@MACHINE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceAddress {
    /// The service.
    pub service: String,
    /// The machine that exposes it.
    pub machine: Name,
}

impl ServiceAddress {
    /// Parses it. `service` is the second argument of the earlier spelling `MACHINE SERVICE`; `usual` is the default service.
    ///
    /// # Errors
    /// When no service is named and there is no default, or a name is invalid.
    pub fn read(text: &str, service: Option<&str>, usual: Option<&str>) -> Result<Self, Complaint> {
        let (service, name) = match (text.split_once('@'), service.or(usual)) {
            (Some((service, name)), _) => (service, name),
            (None, Some(service)) => (service, text),
            (None, None) => {
                return Err(Complaint::new(Exit::Usage, "usage", format!("`{text}` does not say which service"))
                    .hint("write SERVICE@MACHINE, such as web@edge-7"));
            }
        };
        if !is_service_name(service) {
            return Err(Complaint::new(Exit::Usage, "usage", format!("`{service}` cannot name a service"))
                .hint("write SERVICE@MACHINE, such as web@edge-7"));
        }
        Ok(Self { service: service.to_owned(), machine: machine(name)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_as_people_and_ssh_write_them() {
        for text in ["edge-7", "edge-7.machine.td.example", "Edge-7", "edge-7.", "EDGE-7.Machine.TD.example."] {
            assert_eq!(machine(text).unwrap().as_str(), "edge-7");
        }
        assert!(machine("edge.example").is_err());
        assert!(machine("").is_err());
    }

    #[track_caller]
    fn place(text: &str, service: Option<&str>, usual: Option<&str>, want: Option<(&str, &str)>) {
        let got = ServiceAddress::read(text, service, usual).ok();
        let got = got.as_ref().map(|place| (place.service.as_str(), place.machine.as_str()));
        assert_eq!(got, want, "{text} {service:?}");
    }

    #[test]
    fn services_on_machines() {
        place("web@edge-7", None, None, Some(("web", "edge-7")));
        place("ssh@Edge-7.machine.td.example.", None, Some("ssh"), Some(("ssh", "edge-7")));
        place("edge-7", None, Some("ssh"), Some(("ssh", "edge-7")));
        place("edge-7", None, None, None);
        place("@edge-7", None, Some("ssh"), None);
        place("web@", None, None, None);
        place("web@a@b", None, None, None);
        // The earlier spelling.
        place("edge-7", Some("web"), Some("ssh"), Some(("web", "edge-7")));
        place("edge-7", Some("We b"), None, None);
    }
}
