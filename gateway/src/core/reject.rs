//! Why evidence does not hold, in its attestor's own words and under its own code.

/// Whose the fault is that evidence is refused for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Blame {
    /// No correct client sends this.
    Malformed,
    /// It was understood, and does not admit.
    Refused,
}

/// One kind of rejection. Each attestor declares its own; docs/errors.md has a row for each.
#[derive(Debug, PartialEq, Eq)]
pub struct Code {
    /// What programs tell it by: lower-case words with hyphens.
    pub name: &'static str,
    /// Whose fault it is.
    pub blame: Blame,
    /// What to do about it.
    pub hint: Option<&'static str>,
}

impl Code {
    /// Of what no correct client sends.
    #[must_use]
    pub const fn malformed(name: &'static str, hint: Option<&'static str>) -> Self {
        Self { name, blame: Blame::Malformed, hint }
    }

    /// Of what does not admit.
    #[must_use]
    pub const fn refused(name: &'static str, hint: Option<&'static str>) -> Self {
        Self { name, blame: Blame::Refused, hint }
    }
}

/// No attestor of that kind is switched on.
pub static UNKNOWN: Code = Code::malformed("evidence-unknown", None);

/// Pieces that each hold, and together would give more than any of them.
pub static CONFLICT: Code =
    Code::malformed("evidence-conflict", Some("send one piece that admits: a join token, or the old certificate"));

/// A piece that is larger than its attestor takes.
pub static TOO_LARGE: Code = Code::malformed("evidence-too-large", None);

/// Whoever stands behind it could not vouch for anybody now. Only tokens have such: the name is theirs.
pub static SUSPENDED: Code = Code::refused("token-suspended", Some("ask for a new token"));

/// Evidence that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Reject {
    /// Which kind of rejection.
    pub code: &'static Code,
    /// What is wrong, for whoever sent it.
    pub text: String,
}

impl Reject {
    /// A rejection with its words.
    #[must_use]
    pub fn new(code: &'static Code, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }

    /// While a lock stands on somebody else by whose word it would admit, of whom whoever sent it is told nothing.
    #[must_use]
    pub fn suspended() -> Self {
        Self::new(&SUSPENDED, "the join token cannot be used at present")
    }

    /// For a piece of more bytes than its attestor takes.
    #[must_use]
    pub fn too_large(kind: &str, max: usize) -> Self {
        Self::new(&TOO_LARGE, format!("the evidence of kind `{kind}` is larger than {max} bytes"))
    }

    /// Those that belong to no attestor, one of each.
    #[must_use]
    pub fn common() -> Vec<Self> {
        let together = "these pieces of evidence cannot stand beside each other: each of them admits by itself";
        vec![Self::unknown("tarot"), Self::new(&CONFLICT, together), Self::too_large("tarot", 65_536)]
    }

    /// For a kind that nobody here judges.
    #[must_use]
    pub fn unknown(kind: &str) -> Self {
        let shown: String = kind.chars().take(32).collect();
        Self::new(&UNKNOWN, format!("evidence of kind `{shown}` is not accepted here"))
    }
}
