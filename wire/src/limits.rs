//! Limits on the sizes of messages, checked before any byte is decoded.

/// Largest enrollment request body, in bytes: three times the size of a CSR with a 4096-bit RSA key (2.2 kB in base64), four
/// pieces of evidence (a certificate with its chain is 8 kB) and the attributes.
pub const ENROLL_BODY_MAX: usize = 64 * 1024;

/// Largest enrollment or renewal request body, in bytes, when an enabled attestor accepts large evidence: a TPM's event log is 50
/// to 200 kB, and a third more in base64.
pub const ENROLL_BODY_MOST: usize = 1024 * 1024;

/// Upper bound of the limits that the kinds of evidence set for themselves, in bytes.
pub const EVIDENCE_PIECE_MOST: usize = 256 * 1024;

/// Largest body of any other request, in bytes: a CSR or a short JSON object.
pub const REQUEST_BODY_MAX: usize = 16 * 1024;

/// Largest reply a client reads, in bytes: four times a page of 1,000 audit events of about 1 kB each.
pub const REPLY_BODY_MAX: usize = 4 * 1024 * 1024;

/// Most pieces of evidence in one request: one for each attestor a machine may plausibly combine.
pub const EVIDENCE_MAX: usize = 4;

/// Most self-reported attributes in one request.
pub const ATTRIBUTES_MAX: usize = 32;

/// Longest attribute name, in bytes.
pub const ATTRIBUTE_NAME_MAX: usize = 64;

/// Longest attribute value, in bytes: an SSH public key or a kernel version string fits.
pub const ATTRIBUTE_VALUE_MAX: usize = 512;

/// Longest free text a person gives as a reason, in bytes.
pub const REASON_MAX: usize = 512;

/// Longest wait a client may request of a long poll, in seconds: below the 30 s after which many middleboxes drop an idle
/// connection.
pub const WAIT_MAX_SECS: u64 = 25;

/// Most items in a page of a listing.
pub const PAGE_MAX: usize = 1000;

/// Largest body of a report about a machine, in bytes: all texts at their maximum length, each byte escaped as `\uXXXX`, and seven
/// numbers.
pub const REPORT_BODY_MAX: usize = 4 * 1024;

/// Longest name of a tool in a report, in bytes.
pub const REPORT_TOOL_MAX: usize = 32;

/// Longest version and longest run id in a report, in bytes: a UUID has 36.
pub const REPORT_WORD_MAX: usize = 64;

/// Longest name of a playbook or other run target in a report, in bytes: the longest file name of Linux.
pub const REPORT_PLAY_MAX: usize = 255;

/// Most name patterns in a join token.
pub const TOKEN_NAMES_MAX: usize = 100;

/// Most groups in a join token.
pub const GROUPS_MAX: usize = 32;

/// Longest name of a group or an owner, in bytes.
pub const WORD_MAX: usize = 64;
