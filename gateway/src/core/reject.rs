//! Why evidence is rejected: the attestor's code and text.

/// Whether the rejected evidence was malformed or merely insufficient.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Blame {
    /// A correct client never sends it.
    Malformed,
    /// It was understood and does not admit.
    Refused,
}

/// One kind of rejection. Each attestor declares its own; docs/errors.md has a row for each.
#[derive(Debug, PartialEq, Eq)]
pub struct RejectionCode {
    /// Machine-readable and stable: lower-case words with hyphens.
    pub name: &'static str,
    /// Decides the HTTP status.
    pub blame: Blame,
    /// What the user can do.
    pub hint: Option<&'static str>,
}

impl RejectionCode {
    /// A code with [`Blame::Malformed`].
    #[must_use]
    pub const fn malformed(name: &'static str, hint: Option<&'static str>) -> Self {
        Self { name, blame: Blame::Malformed, hint }
    }

    /// A code with [`Blame::Refused`].
    #[must_use]
    pub const fn refused(name: &'static str, hint: Option<&'static str>) -> Self {
        Self { name, blame: Blame::Refused, hint }
    }
}

/// No attestor of that kind is enabled.
pub static UNKNOWN: RejectionCode = RejectionCode::malformed("evidence-unknown", None);

/// Several pieces that each are valid, but together would grant more than any one of them.
pub static CONFLICT: RejectionCode = RejectionCode::malformed(
    "evidence-conflict",
    Some("send one piece that admits: a join token, or the old certificate"),
);

/// A piece above its attestor's size limit.
pub static TOO_LARGE: RejectionCode = RejectionCode::malformed("evidence-too-large", None);

/// A renewal without the evidence that the policy requires.
pub static WANTED: RejectionCode = RejectionCode::refused(
    "evidence-wanted",
    Some(
        "renew with the evidence by which it joined, as `lychgate run` does; if that is not there any more, join again",
    ),
);

/// The ticket is not from this gateway, or is for another key or other evidence.
pub static TICKET_INVALID: RejectionCode = RejectionCode::refused("ticket-invalid", Some(ANEW));

/// The second round came after the ticket expired.
pub static TICKET_EXPIRED: RejectionCode = RejectionCode::refused("ticket-expired", Some(ANEW));

/// The ticket was used before.
pub static TICKET_SPENT: RejectionCode = RejectionCode::refused("ticket-spent", Some(ANEW));

/// Most characters of a rejection's text: the longest of ours, with two names of the longest kind.
const TEXT_MAX: usize = 512;

/// Hint for all ticket errors.
const ANEW: &str = "send the evidence again without the ticket, and answer the new challenge";

/// The creator of the token is locked or may not create it any more. Named after tokens, the only evidence with a creator.
pub static SUSPENDED: RejectionCode = RejectionCode::refused("token-suspended", Some("ask for a new token"));

/// Rejected evidence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Reject {
    /// Declared by the attestor, or one of this module.
    pub code: &'static RejectionCode,
    /// What is wrong, for the client.
    pub text: String,
}

impl Reject {
    /// `text` is shown to the client. It may quote what the client sent: it is cut to a length that is read, and characters that
    /// would act on a terminal, hide or reorder text are escaped.
    #[must_use]
    pub fn new(code: &'static RejectionCode, text: impl Into<String>) -> Self {
        let text = text.into();
        let escaped = |c: char| if pki::is_deceptive(c) { c.escape_default().collect() } else { c.to_string() };
        let mut shown: String = text.chars().take(TEXT_MAX).map(escaped).collect();
        if text.chars().nth(TEXT_MAX).is_some() {
            shown.push_str("...");
        }
        Self { code, text: shown }
    }

    /// For a lock on somebody else behind the evidence. The text does not disclose who.
    #[must_use]
    pub fn suspended() -> Self {
        Self::new(&SUSPENDED, "the join token cannot be used at present")
    }

    /// For pieces that exclude each other.
    #[must_use]
    pub fn together(why: &str) -> Self {
        Self::new(&CONFLICT, format!("these pieces of evidence cannot stand beside each other: {why}"))
    }

    /// For a piece above its attestor's size limit.
    #[must_use]
    pub fn too_large(kind: &str, max: usize) -> Self {
        Self::new(&TOO_LARGE, format!("the evidence of kind `{kind}` is larger than {max} bytes"))
    }

    /// For a renewal without required evidence of these kinds; `ago` is the age in seconds of the oldest evidence on record.
    #[must_use]
    pub fn wanted(kinds: &[&str], ago: u64) -> Self {
        let kinds = kinds.join("`, `");
        Self::new(&WANTED, format!("the policy wants fresh evidence of kind `{kinds}`, last shown {ago} s ago"))
    }

    /// For evidence that is only for enrollment, sent at a renewal.
    #[must_use]
    pub fn only_admits(kind: &str) -> Self {
        Self::new(&UNKNOWN, format!("evidence of kind `{kind}` is for joining, and says nothing at a renewal"))
    }

    /// For an invalid ticket.
    #[must_use]
    pub fn ticket(why: &str) -> Self {
        Self::new(&TICKET_INVALID, format!("the ticket does not hold: {why}"))
    }

    /// For a ticket that expired so many seconds ago.
    #[must_use]
    pub fn late_ticket(seconds: u64) -> Self {
        Self::new(&TICKET_EXPIRED, format!("the ticket ended {seconds} s ago"))
    }

    /// For a ticket that was used before.
    #[must_use]
    pub fn spent_ticket() -> Self {
        Self::new(&TICKET_SPENT, "the ticket was used already")
    }

    /// One of each rejection in this module, for tests of the documentation.
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

    /// For evidence of a kind without an attestor.
    #[must_use]
    pub fn unknown(kind: &str) -> Self {
        let shown: String = kind.chars().take(32).collect();
        Self::new(&UNKNOWN, format!("evidence of kind `{shown}` is not accepted here"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_quoted_is_cut_and_escaped() {
        let text = |text: &str| Reject::new(&UNKNOWN, text).text;
        assert_eq!(text("web1.example.com is no name"), "web1.example.com is no name");
        assert_eq!(text("a\u{1b}[2Jb"), "a\\u{1b}[2Jb");
        let long = text(&"\u{e4}".repeat(100_000));
        assert_eq!((long.chars().count(), long.ends_with("\u{e4}...")), (TEXT_MAX + 3, true));
        assert_eq!(text(&"x".repeat(TEXT_MAX)).len(), TEXT_MAX);
    }
}
