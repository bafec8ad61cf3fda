//! Response codes (TPM_RC; part 2, 6.6), with their names.

use std::fmt;

/// What a TPM answers.
#[derive(Copy, Clone, PartialEq, Eq, Hash)]
pub struct ResponseCode(u32);

/// RC_FMT1: the code is about a handle, a session or a parameter, which it numbers.
const FORMAT_ONE: u32 = 0x080;
/// RC_WARN: nothing is wrong with the command itself.
const WARNING: u32 = 0x900;

impl ResponseCode {
    /// TPM_RC_SUCCESS.
    pub const SUCCESS: Self = Self(0);
    /// TPM_RC_LOCKOUT: too many wrong passwords were tried, and protected keys are refused for a while.
    pub const LOCKOUT: Self = Self(0x921);
    /// TPM_RC_RETRY.
    pub const RETRY: Self = Self(0x922);

    /// The code with this number.
    #[must_use]
    pub const fn new(code: u32) -> Self {
        Self(code)
    }

    /// Whether the same command, sent again a little later, may succeed: TPM_RC_RETRY, _YIELDED, _TESTING, _NV_RATE.
    #[must_use]
    pub const fn is_passing(self) -> bool {
        matches!(self.0, 0x922 | 0x908 | 0x90a | 0x920)
    }

    /// Whether an authorization was refused: TPM_RC_AUTH_FAIL, _BAD_AUTH, _POLICY_FAIL.
    #[must_use]
    pub fn is_authorization(self) -> bool {
        self.0 & FORMAT_ONE != 0 && matches!(self.0 & 0x3f, 0x0e | 0x22 | 0x1d)
    }

    /// Whether the TPM has no room for another key or session: TPM_RC_OBJECT_MEMORY, _SESSION_MEMORY, _MEMORY, _SESSION_HANDLES,
    /// _OBJECT_HANDLES.
    #[must_use]
    pub const fn is_full(self) -> bool {
        matches!(self.0, 0x902..=0x906)
    }

    /// Whether the TPM does not know an algorithm, a curve or a size that a template names: TPM_RC_ASYMMETRIC, _HASH, _VALUE,
    /// _KEY_SIZE, _TYPE, _SYMMETRIC, _CURVE.
    #[must_use]
    pub fn is_unsupported(self) -> bool {
        self.0 & FORMAT_ONE != 0 && matches!(self.0 & 0x3f, 0x01 | 0x03 | 0x04 | 0x07 | 0x0a | 0x16 | 0x26)
    }

    /// Whether what was to be loaded is not of the parent in this TPM: TPM_RC_INTEGRITY.
    #[must_use]
    pub fn is_foreign(self) -> bool {
        self.0 & FORMAT_ONE != 0 && self.0 & 0x3f == 0x1f
    }

    /// Its name without what it numbers.
    fn name(self) -> Option<&'static str> {
        let (table, code): (&[(u32, &'static str)], u32) = match self.0 {
            code if code & !0xfff != 0 => return None,
            code if code & FORMAT_ONE != 0 => (FORMAT_ONE_NAMES, code & 0x3f),
            code if code & WARNING == WARNING => (WARNING_NAMES, code & 0x7f),
            code => (VERSION_ONE_NAMES, code),
        };
        table.iter().find(|(known, _)| *known == code).map(|(_, name)| *name)
    }
}

impl fmt::Display for ResponseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.name() {
            Some(name) => name,
            // The kernel's resource manager answers in the TPM's place, in a layer of its own above 12 bits.
            None if self.0 & !0xfff != 0 => return write!(f, "{:#x} (of the resource manager)", self.0),
            None => return write!(f, "{:#x}", self.0),
        };
        write!(f, "TPM_RC_{name}")?;
        if self.0 & FORMAT_ONE != 0 {
            let number = self.0 >> 8 & 0xf;
            match (self.0 & 0x40 != 0, number) {
                (_, 0) => {}
                (true, number) => write!(f, " of parameter {number}")?,
                (false, number @ 1..=7) => write!(f, " of handle {number}")?,
                (false, number) => write!(f, " of session {}", number - 8)?,
            }
        }
        write!(f, " ({:#x})", self.0)
    }
}

impl fmt::Debug for ResponseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Those that are about a handle, session or parameter.
const FORMAT_ONE_NAMES: &[(u32, &str)] = &[
    (0x01, "ASYMMETRIC"),
    (0x02, "ATTRIBUTES"),
    (0x03, "HASH"),
    (0x04, "VALUE"),
    (0x05, "HIERARCHY"),
    (0x07, "KEY_SIZE"),
    (0x08, "MGF"),
    (0x09, "MODE"),
    (0x0a, "TYPE"),
    (0x0b, "HANDLE"),
    (0x0c, "KDF"),
    (0x0d, "RANGE"),
    (0x0e, "AUTH_FAIL"),
    (0x0f, "NONCE"),
    (0x10, "PP"),
    (0x12, "SCHEME"),
    (0x15, "SIZE"),
    (0x16, "SYMMETRIC"),
    (0x17, "TAG"),
    (0x18, "SELECTOR"),
    (0x1a, "INSUFFICIENT"),
    (0x1b, "SIGNATURE"),
    (0x1c, "KEY"),
    (0x1d, "POLICY_FAIL"),
    (0x1f, "INTEGRITY"),
    (0x20, "TICKET"),
    (0x21, "RESERVED_BITS"),
    (0x22, "BAD_AUTH"),
    (0x23, "EXPIRED"),
    (0x24, "POLICY_CC"),
    (0x25, "BINDING"),
    (0x26, "CURVE"),
    (0x27, "ECC_POINT"),
];

/// Those of the command as a whole.
const VERSION_ONE_NAMES: &[(u32, &str)] = &[
    (0x01e, "BAD_TAG"),
    (0x100, "INITIALIZE"),
    (0x101, "FAILURE"),
    (0x103, "SEQUENCE"),
    (0x120, "DISABLED"),
    (0x121, "EXCLUSIVE"),
    (0x124, "AUTH_TYPE"),
    (0x125, "AUTH_MISSING"),
    (0x126, "POLICY"),
    (0x127, "PCR"),
    (0x128, "PCR_CHANGED"),
    (0x12d, "UPGRADE"),
    (0x12e, "TOO_MANY_CONTEXTS"),
    (0x12f, "AUTH_UNAVAILABLE"),
    (0x130, "REBOOT"),
    (0x131, "UNBALANCED"),
    (0x142, "COMMAND_SIZE"),
    (0x143, "COMMAND_CODE"),
    (0x144, "AUTHSIZE"),
    (0x145, "AUTH_CONTEXT"),
    (0x146, "NV_RANGE"),
    (0x147, "NV_SIZE"),
    (0x148, "NV_LOCKED"),
    (0x149, "NV_AUTHORIZATION"),
    (0x14a, "NV_UNINITIALIZED"),
    (0x14b, "NV_SPACE"),
    (0x14c, "NV_DEFINED"),
    (0x150, "BAD_CONTEXT"),
    (0x151, "CPHASH"),
    (0x152, "PARENT"),
    (0x153, "NEEDS_TEST"),
    (0x154, "NO_RESULT"),
    (0x155, "SENSITIVE"),
];

/// Warnings, by their last seven bits.
const WARNING_NAMES: &[(u32, &str)] = &[
    (0x01, "CONTEXT_GAP"),
    (0x02, "OBJECT_MEMORY"),
    (0x03, "SESSION_MEMORY"),
    (0x04, "MEMORY"),
    (0x05, "SESSION_HANDLES"),
    (0x06, "OBJECT_HANDLES"),
    (0x07, "LOCALITY"),
    (0x08, "YIELDED"),
    (0x09, "CANCELED"),
    (0x0a, "TESTING"),
    (0x10, "REFERENCE_H0"),
    (0x11, "REFERENCE_H1"),
    (0x12, "REFERENCE_H2"),
    (0x20, "NV_RATE"),
    (0x21, "LOCKOUT"),
    (0x22, "RETRY"),
    (0x23, "NV_UNAVAILABLE"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_the_names_of_the_specification() {
        for (code, text) in [
            (0x000, "0x0"),
            (0x01e, "TPM_RC_BAD_TAG (0x1e)"),
            (0x100, "TPM_RC_INITIALIZE (0x100)"),
            (0x101, "TPM_RC_FAILURE (0x101)"),
            (0x143, "TPM_RC_COMMAND_CODE (0x143)"),
            (0x18b, "TPM_RC_HANDLE of handle 1 (0x18b)"),
            (0x1d5, "TPM_RC_SIZE of parameter 1 (0x1d5)"),
            (0x1df, "TPM_RC_INTEGRITY of parameter 1 (0x1df)"),
            (0x9a2, "TPM_RC_BAD_AUTH of session 1 (0x9a2)"),
            (0xa9d, "TPM_RC_POLICY_FAIL of session 2 (0xa9d)"),
            (0x902, "TPM_RC_OBJECT_MEMORY (0x902)"),
            (0x921, "TPM_RC_LOCKOUT (0x921)"),
            (0x97f, "0x97f"),
            (0x000b_0143, "0xb0143 (of the resource manager)"),
        ] {
            assert_eq!(ResponseCode::new(code).to_string(), text);
        }
        assert!(ResponseCode::RETRY.is_passing() && !ResponseCode::LOCKOUT.is_passing());
        assert!(ResponseCode::new(0x9a2).is_authorization() && ResponseCode::new(0xa9d).is_authorization());
        assert!(!ResponseCode::new(0x1df).is_authorization() && !ResponseCode::LOCKOUT.is_authorization());
        assert!(ResponseCode::new(0x1df).is_foreign() && !ResponseCode::new(0x1d5).is_foreign());
        assert!(ResponseCode::new(0x902).is_full() && ResponseCode::new(0x906).is_full());
        assert!(!ResponseCode::LOCKOUT.is_full() && !ResponseCode::new(0x101).is_full());
        assert!(ResponseCode::new(0x2e6).is_unsupported() && ResponseCode::new(0x2c4).is_unsupported());
        assert!(!ResponseCode::new(0x9a2).is_unsupported() && !ResponseCode::new(0x143).is_unsupported());
    }
}
