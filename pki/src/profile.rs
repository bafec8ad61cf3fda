//! The certificate profile of each role. Names, usages and lifetimes come from here and from policy, never from a requester.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use thiserror::Error;

use crate::chain::Eku;
use crate::name::Role;
use crate::oid;

/// Time from notBefore to the time of issue, for verifiers whose clock is slow.
pub const BACKDATE: Duration = Duration::from_secs(5 * 60);

const DAY: u64 = 24 * 60 * 60;

/// Which DNS names a leaf carries beside its identity.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum OtherNames {
    /// None.
    Nothing,
    /// `<name>.<role>.<domain>`.
    OwnDnsName,
    /// The public names and addresses of the gateway.
    GatewayNames,
}

/// The certificate profile of one role.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Profile {
    /// Role of the identity and of the issuing CA.
    pub role: Role,
    /// Upper bound of the lifetime. Policy can only shorten it.
    pub lifetime_max: Duration,
    /// The one extended key usage.
    pub eku: Eku,
    /// The names beside the identity.
    pub other_names: OtherNames,
}

/// Certificates of machines are renewed daily. The maximum of a month is for a machine that is switched off for weeks.
const MACHINE: Profile = Profile {
    role: Role::Machine,
    lifetime_max: Duration::from_secs(30 * DAY),
    eku: Eku::ClientAuth,
    other_names: OtherNames::OwnDnsName,
};
/// The server certificate of a machine's sealed services, whose TLS runs inside the gateway's connection. Without clientAuth no
/// server accepts it, and because of its CA's role no client accepts it as the gateway's.
const SEALED: Profile = Profile { eku: Eku::ServerAuth, ..MACHINE };
/// Short: a person can log in again, and a stolen laptop must not keep access.
const PERSON: Profile = Profile {
    role: Role::Person,
    lifetime_max: Duration::from_secs(7 * DAY),
    eku: Eku::ClientAuth,
    other_names: OtherNames::Nothing,
};
/// The usual lifetime of server certificates on the public web (CA/Browser Forum, 2025), with a margin for an absent operator.
const GATEWAY: Profile = Profile {
    role: Role::Gateway,
    lifetime_max: Duration::from_secs(90 * DAY),
    eku: Eku::ServerAuth,
    other_names: OtherNames::GatewayNames,
};

impl Profile {
    /// The rules of a machine's leaf for its sealed services.
    #[must_use]
    pub const fn sealed() -> &'static Self {
        &SEALED
    }

    /// The rules of a role.
    #[must_use]
    pub const fn of(role: Role) -> &'static Self {
        match role {
            Role::Machine => &MACHINE,
            Role::Person => &PERSON,
            Role::Gateway => &GATEWAY,
        }
    }
}

/// The text is not one of the values of an enumeration.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{found}` is not known; use one of {known}")]
pub struct UnknownWord {
    /// The text.
    pub found: String,
    /// The accepted values, as a list for people.
    pub known: &'static str,
}

/// What is proven about a leaf's key and host. Ordered from least to most.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum AssuranceLevel {
    /// Nothing is proven.
    #[default]
    None,
    /// Possession of the key is proven.
    Software,
    /// The key or the host is proven to be bound to a TPM or HSM.
    Hardware,
    /// The boot state is proven too.
    Measured,
}

impl AssuranceLevel {
    /// All, in order.
    pub const ALL: [Self; 4] = [Self::None, Self::Software, Self::Hardware, Self::Measured];

    /// `none`, `software`, `hardware` or `measured`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Software => "software",
            Self::Hardware => "hardware",
            Self::Measured => "measured",
        }
    }

    /// The reverse of [`AssuranceLevel::as_str`].
    pub fn parse(text: &str) -> Result<Self, UnknownWord> {
        Self::ALL
            .into_iter()
            .find(|level| level.as_str() == text)
            .ok_or_else(|| UnknownWord { found: text.to_owned(), known: "none, software, hardware, measured" })
    }

    const fn number(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Software => 1,
            Self::Hardware => 2,
            Self::Measured => 3,
        }
    }

    pub(crate) const fn oid(self) -> [u8; oid::LEN] {
        oid::ours(oid::ASSURANCE, self.number())
    }

    pub(crate) fn from_oid(content: &[u8]) -> Option<Self> {
        let number = oid::value_under(oid::ASSURANCE, content)?;
        Self::ALL.into_iter().find(|level| level.number() == number)
    }
}

/// What is in the hardware.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum AssuranceOf {
    /// The host: its hardware vouched for the key, which is beside it and can be copied.
    Host,
    /// The key, which cannot leave the hardware.
    Key,
}

impl AssuranceOf {
    /// Both, in order.
    pub const ALL: [Self; 2] = [Self::Host, Self::Key];

    /// `host` or `key`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Key => "key",
        }
    }

    /// The reverse of [`AssuranceOf::as_str`].
    pub fn parse(text: &str) -> Result<Self, UnknownWord> {
        Self::ALL
            .into_iter()
            .find(|of| of.as_str() == text)
            .ok_or_else(|| UnknownWord { found: text.to_owned(), known: "host, key" })
    }

    pub(crate) const fn oid(self) -> [u8; oid::LEN] {
        let number = match self {
            Self::Host => 1,
            Self::Key => 2,
        };
        oid::ours(oid::ASSURANCE_OF, number)
    }

    pub(crate) fn from_oid(content: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|of| of.oid() == content)
    }
}

/// A level, and what of the holder it is of. Ordered by the level, and then the host before the key. Without hardware there is nothing
/// to say: a software key proves itself.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Assurance {
    level: AssuranceLevel,
    of: Option<AssuranceOf>,
}

impl Assurance {
    /// Nothing is proven.
    pub const NONE: Self = Self { level: AssuranceLevel::None, of: None };
    /// Possession of the key is proven.
    pub const SOFTWARE: Self = Self { level: AssuranceLevel::Software, of: None };

    /// The key or the host is in hardware.
    #[must_use]
    pub const fn hardware(of: AssuranceOf) -> Self {
        Self { level: AssuranceLevel::Hardware, of: Some(of) }
    }

    /// The same, and the boot state is proven.
    #[must_use]
    pub const fn measured(of: AssuranceOf) -> Self {
        Self { level: AssuranceLevel::Measured, of: Some(of) }
    }

    /// From its parts. What it is of may be left unsaid; `None` if it is said of a level without hardware.
    #[must_use]
    pub fn from_parts(level: AssuranceLevel, of: Option<AssuranceOf>) -> Option<Self> {
        (of.is_none() || level >= AssuranceLevel::Hardware).then_some(Self { level, of })
    }

    /// The level.
    #[must_use]
    pub const fn level(self) -> AssuranceLevel {
        self.level
    }

    /// What it is of, if that is known.
    #[must_use]
    pub const fn of(self) -> Option<AssuranceOf> {
        self.of
    }

    /// The reverse of its text: a level, and for hardware `/host` or `/key`.
    pub fn parse(text: &str) -> Result<Self, UnknownWord> {
        let unknown =
            |found: &str| UnknownWord { found: found.to_owned(), known: "hardware/host, measured/key and so on" };
        let (level, of) = match text.split_once('/') {
            Some((level, of)) => (level, Some(AssuranceOf::parse(of)?)),
            None => (text, None),
        };
        Self::from_parts(AssuranceLevel::parse(level)?, of).ok_or_else(|| unknown(text))
    }
}

impl fmt::Display for Assurance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.level.as_str())?;
        self.of.map_or(Ok(()), |of| write!(f, "/{}", of.as_str()))
    }
}

/// Who admitted the holder: the approver class.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum AdmittedBy {
    /// A policy, without a human.
    Policy,
    /// A person.
    Person,
    /// The operator who set the gateway up, before there was a person or policy.
    Bootstrap,
    /// The holder of the certificate before this one.
    Renewal,
}

impl AdmittedBy {
    /// All, in the order of their numbers.
    pub const ALL: [Self; 4] = [Self::Policy, Self::Person, Self::Bootstrap, Self::Renewal];

    /// `policy`, `person`, `bootstrap` or `renewal`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Policy => "policy",
            Self::Person => "person",
            Self::Bootstrap => "bootstrap",
            Self::Renewal => "renewal",
        }
    }

    /// The reverse of [`AdmittedBy::as_str`].
    pub fn parse(text: &str) -> Result<Self, UnknownWord> {
        Self::ALL
            .into_iter()
            .find(|class| class.as_str() == text)
            .ok_or_else(|| UnknownWord { found: text.to_owned(), known: "policy, person, bootstrap, renewal" })
    }

    pub(crate) const fn oid(self) -> [u8; oid::LEN] {
        let number = match self {
            Self::Policy => 1,
            Self::Person => 2,
            Self::Bootstrap => 3,
            Self::Renewal => 4,
        };
        oid::ours(oid::ADMITTED_BY, number)
    }
}

macro_rules! string_enum {
    ($($ty:ty),*) => {$(
        impl fmt::Display for $ty {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
        impl FromStr for $ty {
            type Err = UnknownWord;
            fn from_str(text: &str) -> Result<Self, UnknownWord> {
                Self::parse(text)
            }
        }
    )*};
}
string_enum!(AssuranceLevel, AssuranceOf, AdmittedBy);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_identifiers_round_trip() {
        for level in AssuranceLevel::ALL {
            assert_eq!(AssuranceLevel::parse(level.as_str()), Ok(level));
            assert_eq!(AssuranceLevel::from_oid(&level.oid()), Some(level));
        }
        for class in AdmittedBy::ALL {
            assert_eq!(AdmittedBy::parse(class.as_str()), Ok(class));
            assert_eq!(AssuranceLevel::from_oid(&class.oid()), None);
        }
        assert!(AssuranceLevel::None < AssuranceLevel::Software && AssuranceLevel::Hardware < AssuranceLevel::Measured);
        assert_eq!(
            AssuranceLevel::parse("Measured").unwrap_err().to_string(),
            "`Measured` is not known; use one of none, software, hardware, measured"
        );
    }

    #[test]
    fn only_hardware_is_of_something() {
        for of in AssuranceOf::ALL {
            assert_eq!(AssuranceOf::parse(of.as_str()), Ok(of));
            assert_eq!(AssuranceOf::from_oid(&of.oid()), Some(of));
            assert_eq!((AssuranceLevel::from_oid(&of.oid()), AssuranceOf::from_oid(&[])), (None, None));
        }
        let mut last = None;
        for (text, want) in [
            ("none", Assurance::NONE),
            ("software", Assurance::SOFTWARE),
            ("hardware/host", Assurance::hardware(AssuranceOf::Host)),
            ("hardware/key", Assurance::hardware(AssuranceOf::Key)),
            ("measured/host", Assurance::measured(AssuranceOf::Host)),
            ("measured/key", Assurance::measured(AssuranceOf::Key)),
        ] {
            assert_eq!((Assurance::parse(text), want.to_string().as_str()), (Ok(want), text));
            assert!(last < Some(want), "{text}");
            last = Some(want);
        }
        // As it was recorded before it was known what it is of.
        let unsaid = Assurance::parse("hardware").unwrap();
        assert_eq!((unsaid.level(), unsaid.of()), (AssuranceLevel::Hardware, None));
        assert!(unsaid < Assurance::hardware(AssuranceOf::Host) && unsaid > Assurance::SOFTWARE);
        for bad in ["software/key", "none/host", "hardware/", "hardware/host/key", "/key", ""] {
            assert!(Assurance::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn each_role_has_its_profile() {
        for role in Role::ALL {
            assert_eq!(Profile::of(role).role, role);
        }
    }
}
