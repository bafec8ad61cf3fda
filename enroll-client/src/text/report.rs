//! Errors for people: what happened, what to do, and a stable exit code.

use std::process::ExitCode;

use serde_json::{Value, json};

use crate::text;

/// How the command ended. The numbers are documented in `lychgate --help` and never change their meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Ok = 0,
    /// Any failure that no other code describes.
    Failure = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// The gateway refused: policy, a person, a token.
    Refused = 3,
    /// A person has yet to approve (`--no-wait`, Ctrl-C while waiting, `status`).
    Waiting = 4,
    /// The gateway, a machine or its service does not answer, or is too busy.
    Unreachable = 5,
    /// The gateway is not the one expected: pin, name or CA.
    Untrusted = 6,
    /// A local file or folder cannot be read or written.
    Files = 7,
    /// This folder holds no identity.
    NotJoined = 8,
    /// The machine, person, key or lineage is locked, or its lineage forked.
    Locked = 9,
    /// The certificate has expired.
    Expired = 10,
}

impl Exit {
    /// All of them.
    const ALL: [Self; 11] = [
        Self::Ok,
        Self::Failure,
        Self::Usage,
        Self::Refused,
        Self::Waiting,
        Self::Unreachable,
        Self::Untrusted,
        Self::Files,
        Self::NotJoined,
        Self::Locked,
        Self::Expired,
    ];

    /// The number.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The reverse of [`Exit::code`].
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|exit| exit.code() == code)
    }
}

/// The table of exit codes as `--help` and the man page show it.
pub const EXIT_CODES: &str = "\
Exit codes:
   0  done
   1  any other failure
   2  the command line makes no sense
   3  refused by the gateway (policy, an approver, a token)
   4  waiting for approval (--no-wait, or interrupted while waiting)
   5  the gateway, a machine or its service does not answer, or is too busy
   6  the gateway is not the one expected (pin, name or CA)
   7  a local file or folder cannot be read or written
   8  not joined
   9  locked, or the lineage has forked
  10  the certificate has expired";

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command failed, as text for a person and as a code for a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// What happened.
    pub what: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// The exit code of the process.
    pub exit: Exit,
    /// A stable name for programs: the gateway's problem code, or one of ours such as `unreachable`.
    pub code: String,
    /// The gateway's correlation id.
    pub instance: Option<String>,
}

impl Complaint {
    /// A complaint without a hint.
    #[must_use]
    pub fn new(exit: Exit, code: &str, what: impl Into<String>) -> Self {
        Self { what: what.into(), hint: None, exit, code: code.to_owned(), instance: None }
    }

    /// Adds a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the gateway's correlation id.
    #[must_use]
    pub fn instance(mut self, instance: impl Into<String>) -> Self {
        self.instance = Some(instance.into()).filter(|id: &String| !id.is_empty());
        self
    }

    /// The lines for standard error. Parts may come from the gateway, so control characters are escaped.
    #[must_use]
    pub fn lines(&self) -> String {
        let mut out = format!("lychgate: error: {}\n", text::safe(&self.what));
        if let Some(hint) = &self.hint {
            out.push_str(&format!("lychgate: hint: {}\n", text::safe(hint)));
        }
        if let Some(instance) = &self.instance {
            out.push_str(&format!("lychgate: note: in the gateway's log under `{}`\n", text::safe(instance)));
        }
        out
    }

    /// The object for standard output under `--json`.
    #[must_use]
    pub fn json(&self) -> Value {
        json!({ "error": {
            "code": self.code,
            "exit": self.exit as u8,
            "what": self.what,
            "hint": self.hint,
            "instance": self.instance,
        } })
    }
}

impl std::fmt::Display for Complaint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Complaint {}

/// A complaint from an error of clap: its first paragraph on one line, and its hint.
#[must_use]
pub fn misuse(said: &str) -> Complaint {
    let line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut parts = said.split("\n\n");
    let what = line(parts.next().unwrap_or_default());
    let complaint = Complaint::new(Exit::Usage, "usage", what.strip_prefix("error: ").unwrap_or(&what));
    match parts.map(line).find(|part| part.starts_with("tip: ") || part.starts_with("Usage: ")) {
        Some(advice) => complaint.hint(advice.strip_prefix("tip: ").unwrap_or(&advice)),
        None => complaint,
    }
}

/// A refusal by the gateway, from its problem document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// The stable code, such as `denied`.
    pub code: String,
    /// What happened to this request.
    pub detail: String,
    /// The gateway's hint.
    pub hint: Option<String>,
    /// Correlation id.
    pub instance: String,
    /// `Retry-After`.
    pub retry_after: Option<std::time::Duration>,
    /// The policy rules that decided.
    pub rules: Vec<String>,
}

impl Refusal {
    /// Whether the same request may succeed later without any change by a person.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        matches!(self.code.as_str(), "queue-full" | "rate-limited" | "internal" | "signer-unavailable" | "unavailable")
            || matches!(self.status, 429 | 502..=504)
    }

    /// Whether a lock or fork is the cause.
    #[must_use]
    pub fn is_lock(&self) -> bool {
        matches!(self.code.as_str(), "locked" | "forked" | "retired" | "removed")
    }

    /// The exit code that goes with the problem code.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self.code.as_str() {
            "denied" | "waiting-expired" | "denied-by-person" | "name-taken" | "name-illegal" | "token-expired"
            | "token-spent" | "token-revoked" | "token-invalid" | "token-not-for-key" | "wrong-code"
            | "prior-invalid" | "evidence-unknown" | "evidence-conflict" | "replaced" | "not-sealed"
            | "wrong-caller" | "not-exposed" | "refused-by-machine" => Exit::Refused,
            // The arguments are invalid, although only the gateway has detected it.
            "malformed" => Exit::Usage,
            "expired" => Exit::Expired,
            "locked" | "forked" | "retired" | "removed" => Exit::Locked,
            "queue-full" | "rate-limited" | "signer-unavailable" | "unavailable" | "offline" | "target-closed"
            | "target-slow" | "machine-silent" | "stream-limit" => Exit::Unreachable,
            _ => Exit::Failure,
        }
    }

    /// The complaint for a person.
    #[must_use]
    pub fn complaint(&self) -> Complaint {
        let what = if self.detail.is_empty() {
            format!("the gateway answered `{}` (HTTP {})", self.code, self.status)
        } else {
            self.detail.clone()
        };
        let mut complaint = Complaint::new(self.exit(), &self.code, what).instance(self.instance.clone());
        complaint.hint = own_hint(&self.code).map(str::to_owned).or_else(|| self.hint.clone());
        complaint
    }
}

/// What to do about a denial.
pub const DENIED_HINT: &str = "ask the approver to take the denial back, then run `lychgate join`; `lychgate join` with the token \
                               or URL sends a new request with a new key";

/// Hints that name commands of this program, for codes where that is more helpful than the gateway's hint, which is for any client. For
/// other codes the gateway's hint is used.
fn own_hint(code: &str) -> Option<&'static str> {
    Some(match code {
        "bad-proof" => "check that nothing between here and the gateway takes TLS apart, and the clock",
        "denied-by-person" => DENIED_HINT,
        "waiting-expired" => "`lychgate join` with the token or URL asks again",
        "name-taken" => {
            "choose another name with --name, if the token is for more than this one, or have whoever has it removed"
        }
        "rate-limited" => "wait a little and try again",
        "wrong-caller" => "use the identity of a person: --dir or LYCHGATE_DIR names its folder",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(code: &str, detail: &str) -> Refusal {
        Refusal {
            status: 403,
            code: code.into(),
            detail: detail.into(),
            hint: None,
            instance: String::new(),
            retry_after: None,
            rules: vec![],
        }
    }

    #[track_caller]
    fn check(complaint: &Complaint, want: &str) {
        assert_eq!(complaint.lines(), want);
    }

    #[test]
    fn error_alone_is_one_line() {
        check(&Complaint::new(Exit::Failure, "x", "it broke"), "lychgate: error: it broke\n");
    }

    #[test]
    fn hint_follows_the_error_and_is_the_gateways_unless_ours_says_more() {
        let hinted =
            |code: &str| Refusal { hint: Some("as the gateway says".into()), ..refusal(code, "no") }.complaint();
        for code in ["denied", "retired", "forked", "locked", "token-expired", "expired", "unavailable"] {
            check(&hinted(code), "lychgate: error: no\nlychgate: hint: as the gateway says\n");
        }
        for code in ["name-taken", "bad-proof", "denied-by-person", "waiting-expired"] {
            assert!(!hinted(code).lines().contains("as the gateway says"), "{code}");
        }
        check(&refusal("denied", "no").complaint(), "lychgate: error: no\n");
    }

    #[test]
    fn correlation_id_comes_last() {
        let mut said = refusal("internal", "something failed");
        said.instance = "req-7".into();
        check(
            &said.complaint(),
            "lychgate: error: something failed\nlychgate: note: in the gateway's log under `req-7`\n",
        );
    }

    #[test]
    fn what_the_gateway_says_cannot_move_the_cursor() {
        check(&refusal("malformed", "no\u{1b}[2Jsense").complaint(), "lychgate: error: no\\u{1b}[2Jsense\n");
    }

    #[test]
    fn silence_is_named_by_code_and_status() {
        check(&refusal("weird", "").complaint(), "lychgate: error: the gateway answered `weird` (HTTP 403)\n");
    }

    #[test]
    fn every_code_has_its_exit() {
        for (code, want) in [
            ("denied", Exit::Refused),
            ("denied-by-person", Exit::Refused),
            ("waiting-expired", Exit::Refused),
            ("name-taken", Exit::Refused),
            ("token-spent", Exit::Refused),
            ("wrong-code", Exit::Refused),
            ("locked", Exit::Locked),
            ("expired", Exit::Expired),
            ("prior-invalid", Exit::Refused),
            ("forked", Exit::Locked),
            ("retired", Exit::Locked),
            ("rate-limited", Exit::Unreachable),
            ("queue-full", Exit::Unreachable),
            ("unavailable", Exit::Unreachable),
            ("signer-unavailable", Exit::Unreachable),
            ("internal", Exit::Failure),
            ("not-found", Exit::Failure),
            ("never heard of", Exit::Failure),
            ("malformed", Exit::Usage),
        ] {
            assert_eq!(refusal(code, "").exit(), want, "{code}");
        }
    }

    #[test]
    fn misuse_is_a_complaint_like_any_other() {
        let said = "error: the following required arguments were not provided:\n  <ID>\n\nUsage: lychgate requests show <ID>\n\n\
                    For more information, try '--help'.\n";
        let complaint = misuse(said);
        assert_eq!(complaint.what, "the following required arguments were not provided: <ID>");
        assert_eq!(complaint.hint.as_deref(), Some("Usage: lychgate requests show <ID>"));
        assert_eq!((complaint.exit, complaint.json()["error"]["exit"].as_u64()), (Exit::Usage, Some(2)));
        let said = "error: unexpected argument '--nmae' found\n\n  tip: a similar argument exists: '--name'\n\nUsage: lychgate join\n";
        assert_eq!(misuse(said).hint.as_deref(), Some("a similar argument exists: '--name'"));
        assert_eq!(misuse("").what, "");
    }

    #[test]
    fn json_carries_the_exit_code() {
        let value = Complaint::new(Exit::Untrusted, "wrong-pin", "no").json();
        assert_eq!(value["error"]["exit"], 6);
        assert_eq!(value["error"]["code"], "wrong-pin");
    }
}
