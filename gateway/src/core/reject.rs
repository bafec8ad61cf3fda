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
pub struct RejectionCode {
    /// What programs tell it by: lower-case words with hyphens.
    pub name: &'static str,
    /// Whose fault it is.
    pub blame: Blame,
    /// What to do about it.
    pub hint: Option<&'static str>,
}

impl RejectionCode {
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
pub static UNKNOWN: RejectionCode = RejectionCode::malformed("evidence-unknown", None);

/// Pieces that each hold, and together would give more than any of them.
pub static CONFLICT: RejectionCode = RejectionCode::malformed(
    "evidence-conflict",
    Some("send one piece that admits: a join token, or the old certificate"),
);

/// A piece that is larger than its attestor takes.
pub static TOO_LARGE: RejectionCode = RejectionCode::malformed("evidence-too-large", None);

/// A renewal without evidence that the policy wants.
pub static WANTED: RejectionCode = RejectionCode::refused(
    "evidence-wanted",
    Some(
        "renew with the evidence by which it joined, as `lychgate run` does; if that is not there any more, join again",
    ),
);

/// A ticket that does not belong here.
pub static TICKET_INVALID: RejectionCode = RejectionCode::refused("ticket-invalid", Some(ANEW));

/// A second round that came too late.
pub static TICKET_EXPIRED: RejectionCode = RejectionCode::refused("ticket-expired", Some(ANEW));

/// A ticket that was used.
pub static TICKET_SPENT: RejectionCode = RejectionCode::refused("ticket-spent", Some(ANEW));

/// What to do about a ticket that is not good.
const ANEW: &str = "send the evidence again without the ticket, and answer the new challenge";

/// Whoever stands behind it could not vouch for anybody now. Only tokens have such: the name is theirs.
pub static SUSPENDED: RejectionCode = RejectionCode::refused("token-suspended", Some("ask for a new token"));

/// Evidence that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Reject {
    /// Which kind of rejection.
    pub code: &'static RejectionCode,
    /// What is wrong, for whoever sent it.
    pub text: String,
}

impl Reject {
    /// A rejection with its words.
    #[must_use]
    pub fn new(code: &'static RejectionCode, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }

    /// While a lock stands on somebody else by whose word it would admit, of whom whoever sent it is told nothing.
    #[must_use]
    pub fn suspended() -> Self {
        Self::new(&SUSPENDED, "the join token cannot be used at present")
    }

    /// For pieces that cannot stand beside each other.
    #[must_use]
    pub fn together(why: &str) -> Self {
        Self::new(&CONFLICT, format!("these pieces of evidence cannot stand beside each other: {why}"))
    }

    /// For a piece of more bytes than its attestor takes.
    #[must_use]
    pub fn too_large(kind: &str, max: usize) -> Self {
        Self::new(&TOO_LARGE, format!("the evidence of kind `{kind}` is larger than {max} bytes"))
    }

    /// For a renewal without evidence that the policy wants: the kinds, and how long ago the oldest was shown.
    #[must_use]
    pub fn wanted(kinds: &[&str], ago: u64) -> Self {
        let kinds = kinds.join("`, `");
        Self::new(&WANTED, format!("the policy wants fresh evidence of kind `{kinds}`, last shown {ago} s ago"))
    }

    /// For evidence that lets somebody in, sent by somebody who is.
    #[must_use]
    pub fn only_admits(kind: &str) -> Self {
        Self::new(&UNKNOWN, format!("evidence of kind `{kind}` is for joining, and says nothing at a renewal"))
    }

    /// For a ticket that does not hold.
    #[must_use]
    pub fn ticket(why: &str) -> Self {
        Self::new(&TICKET_INVALID, format!("the ticket does not hold: {why}"))
    }

    /// For a ticket that came so many seconds too late.
    #[must_use]
    pub fn late_ticket(seconds: u64) -> Self {
        Self::new(&TICKET_EXPIRED, format!("the ticket ended {seconds} s ago"))
    }

    /// For a ticket that was used.
    #[must_use]
    pub fn spent_ticket() -> Self {
        Self::new(&TICKET_SPENT, "the ticket was used already")
    }

    /// Those that belong to no attestor, one of each.
    #[must_use]
    pub fn common() -> Vec<Self> {
        vec![
            Self::unknown("tarot"),
            Self::together("each of them admits by itself"),
            Self::too_large("tarot", 65_536),
            Self::ticket("it is for another key"),
            Self::late_ticket(7),
            Self::spent_ticket(),
            Self::wanted(&["tpm"], 93_600),
        ]
    }

    /// For a kind that nobody here judges.
    #[must_use]
    pub fn unknown(kind: &str) -> Self {
        let shown: String = kind.chars().take(32).collect();
        Self::new(&UNKNOWN, format!("evidence of kind `{shown}` is not accepted here"))
    }
}
