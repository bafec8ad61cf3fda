//! The attributes of an object (TPMA_OBJECT).

use std::fmt;
use std::ops::BitOr;

/// A set of attributes. Bits without a name here are kept.
#[derive(Copy, Clone, PartialEq, Eq, Hash)]
pub struct Attributes(u32);

/// Each attribute with the name that the specification gives it (part 2, 8.3).
const NAMES: [(Attributes, &str); 11] = [
    (Attributes::FIXED_TPM, "fixedTPM"),
    (Attributes::ST_CLEAR, "stClear"),
    (Attributes::FIXED_PARENT, "fixedParent"),
    (Attributes::SENSITIVE_DATA_ORIGIN, "sensitiveDataOrigin"),
    (Attributes::USER_WITH_AUTH, "userWithAuth"),
    (Attributes::ADMIN_WITH_POLICY, "adminWithPolicy"),
    (Attributes::NO_DA, "noDA"),
    (Attributes::ENCRYPTED_DUPLICATION, "encryptedDuplication"),
    (Attributes::RESTRICTED, "restricted"),
    (Attributes::DECRYPT, "decrypt"),
    (Attributes::SIGN, "sign"),
];

impl Attributes {
    /// The key cannot leave this TPM.
    pub const FIXED_TPM: Self = Self(1 << 1);
    /// It cannot be loaded after a restart.
    pub const ST_CLEAR: Self = Self(1 << 2);
    /// It cannot get another parent.
    pub const FIXED_PARENT: Self = Self(1 << 4);
    /// The TPM made the private part itself.
    pub const SENSITIVE_DATA_ORIGIN: Self = Self(1 << 5);
    /// Its password or HMAC allows its use.
    pub const USER_WITH_AUTH: Self = Self(1 << 6);
    /// Only its policy allows its administration.
    pub const ADMIN_WITH_POLICY: Self = Self(1 << 7);
    /// Wrong passwords do not lock it.
    pub const NO_DA: Self = Self(1 << 10);
    /// It leaves the TPM only encrypted.
    pub const ENCRYPTED_DUPLICATION: Self = Self(1 << 11);
    /// It works on structures of the TPM only: signs what the TPM made, decrypts what the TPM then uses.
    pub const RESTRICTED: Self = Self(1 << 16);
    /// It decrypts.
    pub const DECRYPT: Self = Self(1 << 17);
    /// It signs. For symmetric keys the same bit means that it encrypts.
    pub const SIGN: Self = Self(1 << 18);

    /// The set with these bits.
    #[must_use]
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// Its bits.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Whether all of those are in this set.
    #[must_use]
    pub const fn contains(self, those: Self) -> bool {
        self.0 & those.0 == those.0
    }

    /// The names of those that have one.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        NAMES.into_iter().filter(move |(attribute, _)| self.contains(*attribute)).map(|(_, name)| name)
    }
}

impl BitOr for Attributes {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Debug for Attributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#010x}", self.0)?;
        f.debug_list().entries(self.names()).finish()
    }
}
