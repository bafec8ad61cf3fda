//! Every limit of the network edge, with its reason. `[limits]` in the configuration sets those in [`Limits`]; the
//! others are fixed.

use std::{num::NonZeroU32, str::FromStr, time::Duration};

use thiserror::Error;

/// Most labels on a machine: they go into every policy decision about it.
pub const LABELS_MAX: usize = 32;

/// Most bytes in a label's key.
pub const LABEL_KEY_MAX: usize = 64;

/// Most bytes in a label's value.
pub const LABEL_VALUE_MAX: usize = 128;

/// Most groups of a person: they go into every policy decision about them.
pub const GROUPS_MAX: usize = 32;

/// Most bytes in a group's name.
pub const GROUP_NAME_MAX: usize = 64;

/// Most approvals of one request on record, each by another person: more than any policy requires, and each is checked again
/// at every further approval.
pub const APPROVALS_MAX: usize = 32;

/// Longest lifetime of a join token. For a longer time, create a new one.
pub const TOKEN_TTL_MAX: Duration = Duration::from_secs(90 * 24 * 3600);

/// Most keys that may redeem one join token: the token's record lists them and must stay small.
pub const TOKEN_USES_MAX: u32 = 1000;

/// Most machines named in one request to renew now, which is one batch of the store. For more, ask all machines or send several requests.
pub const RENEWALS_NAMED_MAX: usize = 100;

/// Longest request head, in bytes. Our own client sends 1.5 kB; an RSA proof with its key 3 kB; hyper's read buffer ends
/// here as well.
pub const HEAD_MAX: usize = 16 * 1024;

/// Most header lines of a request: the HTTP library's limit. Our own client sends 7, a browser 20.
pub const FIELDS_MAX: usize = 100;

/// Largest `Content-Length` that is parsed, in bytes: far above every endpoint's limit, and far below 2^64, where the HTTP library uses
/// sentinel values.
pub const LENGTH_MAX: u64 = 1 << 32;

/// Longest header of the PROXY protocol after its fixed part, in bytes: two addresses have 36, the TLVs that load balancers add (a name,
/// an authority, the TLS version) a few hundred.
pub const PROXY_HEADER_MAX: usize = 2 * 1024;

/// Limits of the /64, the /48 and the /32 of an IPv6 address, as multiples of the limit of an IPv4 /24: a /64 is a home, a /48 a company,
/// and a /32 a provider with several customers at one site.
pub const SHARES_OF_IPV6: [u32; 3] = [1, 4, 8];

/// Most connections that were closed in favour of others and have not ended yet: each ends within milliseconds.
pub const EVICTIONS_MAX: usize = 64;

/// Shortest time between two log lines about rejected connections, for each reason.
pub const TURNED_AWAY_LOG: Duration = Duration::from_secs(60);

/// From the complete request to the first byte of the answer, without the wait of a long poll. A commit on a busy disk and a
/// signature take far below a second; most clients give up at about this time.
pub const REQUEST_TIME: Duration = Duration::from_secs(30);

/// How long the connection waits beyond [`REQUEST_TIME`] and the longest poll before it closes, so that the handler can first answer
/// with a reason.
pub const ANSWER_MARGIN: Duration = Duration::from_secs(5);

/// Time for a connection that is cut to complete its last reply, which was authorised before the lock. The cut stays far below
/// the promised second.
pub const CUT_GRACE: Duration = Duration::from_millis(200);

/// Time for a refused peer to read our answer while we discard what it still sends. Otherwise the close would reset the
/// connection, and the peer might lose the answer (RFC 9112 9.6).
pub const LINGER_TIME: Duration = Duration::from_secs(1);

/// Bytes discarded in [`LINGER_TIME`]: twice the largest accepted body.
pub const LINGER_BYTES: usize = 128 * 1024;

/// Interval of the search for open connections with expired certificates. Certificates expire on whole seconds, so half a second keeps
/// the delay below one second.
pub const EXPIRY_SWEEP: Duration = Duration::from_millis(500);

/// First pause after `accept` failed, most likely for lack of descriptors: long enough not to spin, short enough to accept
/// again soon after a connection ended. Doubles up to [`ACCEPT_PAUSE_MAX`].
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Longest pause after `accept` failed.
pub const ACCEPT_PAUSE_MAX: Duration = Duration::from_secs(1);

/// Most source prefixes in the rate limiters. An entry takes about 100 bytes and is removed when its quota has refilled; an
/// attack from more prefixes is subject only to the total limits.
pub const PREFIXES_MAX: usize = 65_536;

/// How long one read of the store may take before the gateway counts as hung. A read comes from memory or one place on
/// the disk; this is a thousand times its duration on a busy machine.
pub const WATCHDOG_READ: Duration = Duration::from_secs(5);

/// Ended sessions that can still be queried: an hour of a busy team, at 600 bytes each. The audit has all.
pub const SESSIONS_KEPT: usize = 1_000;

/// Events of opened and ended sessions kept for watchers that are behind.
pub const SESSION_EVENTS_KEPT: usize = 2_000;

/// Most open sessions of one person or one machine: an Ansible play over all machines of a large site. Each takes two
/// buffers and a record, 150 kB at worst.
pub const SESSIONS_PER_CALLER: usize = 1_024;

/// From a person's request to the machine's answer. The machine's timeout for its target is shorter by a margin.
pub const OPEN_TIME: Duration = Duration::from_secs(12);

/// Most open streams on one connection of a helper.
pub const HELPER_STREAMS: usize = 256;

/// A tunnel whose peer reads nothing of what we write for this long is closed.
pub const TUNNEL_STALL: Duration = Duration::from_secs(20);

/// Buffer of a session in bytes, one for each direction: four TLS records. Freed with the session.
pub const CARRY_BUFFER: usize = 64 * 1024;

/// Bytes that a socket with many streams buffers beyond what is in flight (`TCP_NOTSENT_LOWAT`). Interactive traffic queues behind them:
/// at 20 Mbit/s for 13 ms.
pub const UNSENT: u32 = 32 * 1024;

/// Bytes that TLS buffers in addition, already encrypted: one record.
pub const UNSENT_TLS: usize = 17 * 1024;

/// Most concurrent handshakes of tunnels. Machines can wait, people cannot: on two cores this many delay others by 10 ms.
pub const TUNNEL_HANDSHAKES: usize = 16;

/// If a machine connects from another address less than this after the last frame of its old tunnel, it may be two machines.
pub const TUNNEL_TWICE: Duration = Duration::from_secs(150);

/// TCP keep-alive: idle time before the first probe, and interval of the probes (RFC 9293 3.8.4).
pub const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(15));

/// How long the end of a broken stream waits for the end of its tunnel, to report the right cause: separate tasks notice the two,
/// and a busy machine may run them some time apart.
pub const FATE_TIME: Duration = Duration::from_millis(250);

/// How long an ended stream waits for its other end to complete the move to a connection of its own (dial-back).
pub const FINISH_TIME: Duration = Duration::from_secs(10);

/// How long a lock waits for the end of the last session that it cuts, before it reports number and duration: far above the
/// promised second.
pub const ENFORCE_TIME: Duration = Duration::from_secs(5);

/// How long open connections and sessions continue while the store cannot be reached: enough for a database to elect another leader or
/// to restart. A lock set elsewhere does not reach them meanwhile.
pub const STORE_GRACE: Duration = Duration::from_mins(5);

/// Interval of [`Store::lapse`](crate::store::Store::lapse) for an embedded engine.
pub const LAPSE_INTERVAL: Duration = Duration::from_secs(1);

/// Interval of checks that the store can be reached, while its watch reports nothing.
pub const STORE_LOOK: Duration = Duration::from_secs(5);

/// Most entries of one CRL: 20 MB, which every client that fetches it must hold in memory. Superseded certificates are left out
/// first.
pub const CRL_ENTRIES_MAX: usize = 400_000;

/// Number of CRL entries from which the log warns, before any must be left out.
pub const CRL_ENTRIES_MANY: usize = CRL_ENTRIES_MAX / 2;

/// Interval of removing refilled quotas from the rate limiters.
pub const RATES_SWEEP: Duration = Duration::from_secs(10);

/// Interval of requests to the service manager for more start time, while the store is checked.
pub const START_EVERY: Duration = Duration::from_secs(20);
/// Requested start time in microseconds, from the time of the request (`EXTEND_TIMEOUT_USEC`).
pub const START_ASKED: u32 = 60_000_000;
/// Most such requests: an hour in all. Checking a store of twenty thousand machines takes some minutes.
pub const START_EXTENSIONS: u32 = 180;

/// Interval of housekeeping and of checking the wall clock.
pub const SWEEP: Duration = Duration::from_secs(60);

/// How long the lease lasts of the gateway that sweeps a store: it may miss two rounds, and the others wait no longer for one that is gone.
pub const LEAD_LEASE: Duration = Duration::from_secs(3 * SWEEP.as_secs());

/// Interval of the log line about a doubted clock.
pub const CLOCK_REMINDER: Duration = Duration::from_hours(1);

/// Most damaged records that are logged and counted: with more, run `store check`.
pub const DAMAGED_NAMED: usize = 1_000;

/// Most concurrent signatures by keys in devices: as many as an HSM commonly has sessions for, and far fewer than the blocking
/// threads, which the store needs as well.
pub const SIGNATURES_AT_ONCE: usize = 16;

/// How long a signature by a key in a device may take, including the wait for a thread: well below [`REQUEST_TIME`], so that the client
/// gets the reason. An HSM takes up to 200 ms.
pub const SIGNING_TIME: Duration = Duration::from_secs(10);

/// Lifetime of the gateway's own certificate. It is renewed at half of that, by the wall clock, and after a failure again within a
/// quarter of an hour, so the operator has days to react before clients refuse the certificate.
pub const GATEWAY_LEAF_LIFE: Duration = Duration::from_hours(7 * 24);

/// Longest time span in the configuration. More than a hundred years is a mistake.
pub const CONFIG_DURATION_MAX: Duration = Duration::from_hours(100 * 365 * 24);

/// Limits that the configuration can set. The default of each, with its reason, is in [`Limits::default`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Open connections in total.
    pub connections: usize,
    /// Open connections from one source prefix (IPv4 /24, IPv6 /64; [`SHARES_OF_IPV6`] for the wider ones).
    pub connections_per_prefix: usize,
    /// Open connections on the enroll face.
    pub connections_enroll: usize,
    /// Open connections on the enroll face from one source prefix.
    pub connections_enroll_per_prefix: usize,
    /// TLS handshakes in progress in total; more wait.
    pub handshakes: usize,
    /// TLS handshakes in progress or waiting from one source prefix; more are dropped.
    pub handshakes_per_prefix: usize,
    /// Tunnels per second that may reconnect after all were lost: machines are told to spread their attempts accordingly.
    pub tunnels_per_second: usize,
    /// Certificates of each kind (its own, those for sealed services) for one machine or person within one lifetime of a certificate.
    pub certificates_per_life: usize,
    /// From the accepted socket to the end of the TLS handshake.
    pub handshake_time: Duration,
    /// From the first byte of a request's head to its last.
    pub head_time: Duration,
    /// From the last byte of the head to the last of the body.
    pub body_time: Duration,
    /// Idle time of a connection on the enroll face.
    pub idle_enroll: Duration,
    /// Idle time of a connection on the manage face.
    pub idle_manage: Duration,
    /// A peer that reads nothing of what we write for this long is disconnected.
    pub write_stall: Duration,
    /// Time for open requests and streams to end when the gateway stops.
    pub drain_time: Duration,
    /// Rate limits by class of request.
    pub rates: RateLimits,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // At 24 KiB each 240 MiB, and far below the 65,536 descriptors that the service file asks for.
            connections: 10_000,
            // A lab or an office behind one address; a twentieth of the total.
            connections_per_prefix: 500,
            // A flood of the face that is open to all leaves four fifths of the total to clients with a certificate.
            connections_enroll: 2_000,
            // A twentieth of that; a waiting machine has one.
            connections_enroll_per_prefix: 100,
            // A peer can make a handshake take 64 kB: 64 MiB at worst. One core completes some 1,500 per second.
            handshakes: 1_024,
            // It takes eight prefixes to reach the total.
            handshakes_per_prefix: 128,
            // A fifth of the capacity of one core.
            tunnels_per_second: 200,
            // One is needed; the others are for restarts, manual renewals and lost replies. Each takes 4 KiB on the disk and a CRL entry
            // until it expires.
            certificates_per_life: 16,
            // Two round trips; a satellite link takes two seconds.
            handshake_time: Duration::from_secs(5),
            // 16 KiB over a 20 kbit/s link.
            head_time: Duration::from_secs(10),
            // 64 KiB over a 40 kbit/s link.
            body_time: Duration::from_secs(15),
            // Longer than the longest poll (25 s), so that a waiting machine keeps its connection.
            idle_enroll: Duration::from_secs(30),
            // A person at the command line, a machine between two requests.
            idle_manage: Duration::from_mins(10),
            // A peer that read nothing for this long is gone.
            write_stall: Duration::from_secs(20),
            // Below the 90 s after which service managers kill the process.
            drain_time: Duration::from_secs(30),
            rates: RateLimits::default(),
        }
    }
}

/// Rate limits for each class of requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimits {
    /// New enrollments: each costs two signature checks and perhaps a record on disk.
    pub anonymous: ClassLimits,
    /// Polls of enrollments, and public downloads.
    pub poll: ClassLimits,
    /// Machines with a certificate.
    pub machine: ClassLimits,
    /// People with a certificate.
    pub person: ClassLimits,
    /// Connections to services, refused ones included.
    pub connect: ClassLimits,
    /// Health checks.
    pub health: ClassLimits,
}

impl Default for RateLimits {
    fn default() -> Self {
        Self {
            anonymous: ClassLimits {
                // A class room of 60 joins at once, then one machine each 200 ms.
                per_prefix: Quota::of(5, 60),
                // A twentieth of what one core signs.
                total: Quota::of(100, 400),
            },
            poll: ClassLimits {
                // 500 waiting machines behind one address poll every 25 s.
                per_prefix: Quota::of(20, 200),
                total: Quota::of(1_000, 4_000),
            },
            machine: ClassLimits {
                // 500 machines behind one address reconnect after an outage.
                per_prefix: Quota::of(50, 500),
                total: Quota::of(2_000, 10_000),
            },
            person: ClassLimits {
                // A script that walks through a listing.
                per_prefix: Quota::of(20, 200),
                total: Quota::of(500, 2_000),
            },
            connect: ClassLimits {
                // An Ansible play over 500 machines starts; an office is behind one address.
                per_prefix: Quota::of(100, 1_000),
                total: Quota::of(1_000, 4_000),
            },
            health: ClassLimits {
                // Several balancers probe twice a second each.
                per_prefix: Quota::of(10, 50),
                total: Quota::of(200, 400),
            },
        }
    }
}

/// Rate limits of one class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassLimits {
    /// From one source prefix.
    pub per_prefix: Quota,
    /// From everywhere.
    pub total: Quota,
}

/// A token bucket: rate and size. Written `5/s burst 60`.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Requests refilled per second.
    pub per_second: NonZeroU32,
    /// Size of the bucket: most requests at once.
    pub burst: NonZeroU32,
}

impl Quota {
    /// A zero is replaced by one.
    #[must_use]
    pub fn of(per_second: u32, burst: u32) -> Self {
        let at_least_one = |n| NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN);
        Self { per_second: at_least_one(per_second), burst: at_least_one(burst) }
    }
}

/// The text is not a quota.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Error)]
#[error("not a rate")]
pub struct BadQuota;

impl FromStr for Quota {
    type Err = BadQuota;

    fn from_str(text: &str) -> Result<Self, BadQuota> {
        let (rate, burst) = text.split_once("/s burst ").ok_or(BadQuota)?;
        let number = |digits: &str| digits.trim().parse::<NonZeroU32>().map_err(|_| BadQuota);
        Ok(Self { per_second: number(rate)?, burst: number(burst)? })
    }
}

/// Most SSH certificates for a lineage within one lifetime of a certificate. Each adds an audit event, so without a limit a client could
/// fill the store; a person with many keys, or a script that requests one for each run, stays far below.
pub const SSH_CERTIFICATES_PER_LIFE: u32 = 64;

/// The period for [`SSH_CERTIFICATES_PER_LIFE`] if the policy sets no lifetime: a day, like that of a machine's own certificate.
pub const SSH_LIFE: Duration = Duration::from_hours(24);

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, want: Option<(u32, u32)>) {
        assert_eq!(text.parse().ok(), want.map(|(rate, burst)| Quota::of(rate, burst)), "{text}");
    }

    #[test]
    fn quotas() {
        check("5/s burst 60", Some((5, 60)));
        check("  5/s burst 60 ", Some((5, 60)));
        check("0/s burst 60", None);
        check("5/s burst 0", None);
        check("5/s", None);
        check("5", None);
        check("-5/s burst 1", None);
        check("5/m burst 1", None);
        check("99999999999/s burst 1", None);
    }

    const fn kib(bytes: usize) -> usize {
        bytes / 1024
    }

    /// What `docs/protocol.md` says of requests, with the numbers of the code.
    fn documented_of_requests() -> Vec<String> {
        use wire::limits::*;

        let limits = Limits::default();
        let times = [limits.handshake_time, limits.head_time, limits.body_time].map(|time| time.as_secs());
        let idle = (limits.idle_enroll.as_secs(), limits.idle_manage.as_secs() / 60);
        vec![
            format!("| head | {} KiB, {FIELDS_MAX} lines |", kib(HEAD_MAX)),
            format!("{} KiB for `POST /v1/enrollments` and `POST /v1/renew`", kib(ENROLL_BODY_MAX)),
            format!("but at most {} MiB. ", kib(kib(ENROLL_BODY_MOST))),
            format!("{} KiB for a [report]", kib(REPORT_BODY_MAX)),
            format!("{} KiB elsewhere", kib(REQUEST_BODY_MAX)),
            format!("for some kinds more, at most {} KiB", kib(EVIDENCE_PIECE_MOST)),
            format!("| {} s, {} s, {} s, unless", times[0], times[1], times[2]),
            format!("{} s on the enroll face, {} minutes on", idle.0, idle.1),
            format!("| one request | {} s,", REQUEST_TIME.as_secs()),
            format!("our client reads {} MiB", kib(kib(REPLY_BODY_MAX))),
            format!("at most {} certificates: ", pki::SENT_MAX),
            format!("a path of at most {} certificates", pki::CHAIN_MAX),
            format!("seconds: 0 when absent, at most {WAIT_MAX_SECS}."),
            format!("at most {RENEWALS_NAMED_MAX} names, or `all`"),
            format!("100 when absent and at most {PAGE_MAX}"),
            format!("`reason` has at most {REASON_MAX} bytes"),
            format!("a label's key at most {LABEL_KEY_MAX}, a label's value at most {LABEL_VALUE_MAX}."),
            format!("at most {LABELS_MAX} labels, a person at most {} groups", super::GROUPS_MAX),
            format!("or after {} s: `sessions`", ENFORCE_TIME.as_secs()),
            format!("may redeem it, at most {TOKEN_USES_MAX} |"),
            format!("up to {} days", TOKEN_TTL_MAX.as_secs() / 86_400),
            format!("valid for, at most {TOKEN_NAMES_MAX};"),
            format!("keeps the last {SESSION_EVENTS_KEPT} events"),
            format!("`tool` has at most {REPORT_TOOL_MAX} bytes, `version` and `run_id` {REPORT_WORD_MAX}"),
            format!("`play` has at most {REPORT_PLAY_MAX}."),
        ]
    }

    /// What it says of proofs and evidence.
    fn documented_of_evidence() -> Vec<String> {
        use wire::limits::*;

        use crate::core::{proof, ticket, token};

        let ticket = (ticket::TICKET_MAX / 1000, ticket::TICKET_MAX % 1000);
        vec![
            format!("within {} s of the gateway's clock", proof::PROOF_AGE_MAX.as_secs()),
            format!("A proof has at most {} KiB.", kib(proof::PROOF_MAX)),
            format!("{} KiB at most, nothing after it", kib(pki::CSR_MAX)),
            format!("at most {EVIDENCE_MAX} of [7]"),
            format!("At most {ATTRIBUTES_MAX}; names of at most {ATTRIBUTE_NAME_MAX} bytes"),
            format!("values of at most {ATTRIBUTE_VALUE_MAX} bytes"),
            format!("at most {},{:03} characters", ticket.0, ticket.1),
            format!("is valid: {} minutes", ticket::TICKET_LIFE_SECS / 60),
            format!("signed by the gateway, at most {} KiB", kib(token::TOKEN_MAX)),
        ]
    }

    /// What it says of tunnels and streams.
    fn documented_of_tunnels() -> Vec<String> {
        use wire::tunnel::*;

        use crate::{core::frame_rate, edge::tunnel::conversation};

        vec![
            format!("| streams at a time | {TUNNEL_STREAMS},"),
            format!("| window of a stream | {} KiB |", kib(STREAM_WINDOW)),
            format!("{} s (gateway)", TUNNEL_STALL.as_secs()),
            format!("most significant byte first, at most {FRAME_MAX}"),
            format!("first, within {} s, and once", conversation::HELLO_TIME.as_secs()),
            format!("At most {SERVICES_MAX} services"),
            format!("inner hyphens, {SERVICE_NAME_MAX} bytes at most"),
            format!("at least every {} s", conversation::HEARTBEAT_BUSY.as_secs()),
            format!("`heartbeat_ms` is {}.", conversation::HEARTBEAT.as_millis()),
            format!("more than {} frames in {} s", frame_rate::FRAMES_MAX, frame_rate::FRAMES_SPAN.as_secs()),
            format!("or with none within {} s, is reset", OPEN_TIME.as_secs()),
            format!("at most {HELPER_STREAMS} at a time"),
        ]
    }

    #[test]
    fn the_protocols_document_has_the_limits_of_the_code() {
        let document = include_str!("../../docs/protocol.md").replace('\n', " ");
        for text in [documented_of_requests(), documented_of_evidence(), documented_of_tunnels()].concat() {
            assert!(document.contains(&text), "docs/protocol.md does not say `{text}`");
        }
    }

    #[test]
    fn the_defaults_fit_together() {
        let limits = Limits::default();
        let poll = Duration::from_secs(wire::limits::WAIT_MAX_SECS);
        assert!(limits.idle_enroll > poll, "a waiting machine keeps its connection");
        assert!(limits.connections_enroll < limits.connections);
        assert!(20 * limits.connections_per_prefix <= limits.connections);
        assert!(20 * limits.connections_enroll_per_prefix <= limits.connections_enroll);
        assert!(limits.handshakes_per_prefix < limits.handshakes);
        assert!(CUT_GRACE < Duration::from_secs(1));
        const { assert!(2 * wire::limits::ENROLL_BODY_MAX <= LINGER_BYTES) };
    }
}
