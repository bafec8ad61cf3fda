//! Every limit of the network edge, with its reason. `[limits]` in the configuration moves the ones in [`Limits`]; the
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

/// Most approvals kept of one request, each of another person: more than any policy asks for, and each is judged again
/// whenever one comes.
pub const APPROVALS_MAX: usize = 32;

/// Longest life of a join token: past it, make a new one.
pub const TOKEN_TTL_MAX: Duration = Duration::from_secs(90 * 24 * 3600);

/// Most keys one join token may be redeemed for: each is kept in the record, which must stay small.
pub const TOKEN_USES_MAX: u32 = 1000;

/// Most machines named in one call to renew, which is one batch of the store. More are all of them, or several calls.
pub const RENEWALS_NAMED_MAX: usize = 100;

/// Longest request head, in bytes. Our own client sends 1.5 kB; an RSA proof with its key 3 kB; hyper's read buffer ends
/// here as well.
pub const HEAD_MAX: usize = 16 * 1024;

/// Most lines in a head: what the HTTP library reads at most. Our own client sends 7, a browser 20.
pub const FIELDS_MAX: usize = 100;

/// Largest `Content-Length` that is looked at any further, in bytes: far over what any endpoint takes, and far from the end of
/// 64 bits, where the HTTP library has numbers with a meaning of their own.
pub const LENGTH_MAX: u64 = 1 << 32;

/// Longest header of the PROXY protocol after its fixed part, in bytes: two addresses take 36, what balancers add (a name, an
/// authority, the version of TLS) a few hundred.
pub const PROXY_HEADER_MAX: usize = 2 * 1024;

/// What the /64, the /48 and the /32 of an IPv6 address may have, in shares of what one /24 of IPv4 may have: a /64 is a home, a
/// /48 a company, and a /32 a provider, who has as many more as there are likely to be customers in one place.
pub const SHARES_OF_IPV6: [u32; 3] = [1, 4, 8];

/// Connections that were told to give way and have not ended yet, at most: each ends within milliseconds.
pub const GIVING_WAY_MAX: usize = 64;

/// How often the log may say that connections are turned away, for each reason.
pub const TURNED_AWAY_LOG: Duration = Duration::from_secs(60);

/// From a whole request to the first byte of its answer, without the wait of a long poll. A commit on a busy disk and a
/// signature take far below a second; most clients give up at about this.
pub const REQUEST_TIME: Duration = Duration::from_secs(30);

/// What the connection waits beyond [`REQUEST_TIME`] and the longest poll before it ends by itself: the handler answers
/// first, with a reason.
pub const ANSWER_MARGIN: Duration = Duration::from_secs(5);

/// Time that a connection which is cut has to end its last reply. A reply that was authorised before the lock may go
/// out; the whole cut stays far below the promised second.
pub const CUT_GRACE: Duration = Duration::from_millis(200);

/// Time that a refused peer has to read our answer while we throw away what it still sends. Without it the close would
/// reset the connection and the answer with it.
pub const LINGER_TIME: Duration = Duration::from_secs(1);

/// Bytes thrown away while lingering: the largest body we take, twice.
pub const LINGER_BYTES: usize = 128 * 1024;

/// How often the table of live connections is looked through for certificates that ended. Certificates end on whole
/// seconds, so half of one keeps the delay below a second.
pub const EXPIRY_SWEEP: Duration = Duration::from_millis(500);

/// First pause after `accept` failed, for want of descriptors most likely: long enough not to spin, short enough to be
/// back as soon as one connection ended. Doubles up to [`ACCEPT_PAUSE_MAX`].
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Longest pause after `accept` failed.
pub const ACCEPT_PAUSE_MAX: Duration = Duration::from_secs(1);

/// Source prefixes whose rates are remembered. An entry takes about 100 bytes and lapses when its quota has refilled; an
/// attack from more prefixes than this is left to the limits in total.
pub const PREFIXES_MAX: usize = 65_536;

/// How long the store may take over one read before the gateway counts as hung. A read comes from memory or one place on
/// the disk: a thousand times what it takes on a busy machine.
pub const WATCHDOG_READ: Duration = Duration::from_secs(5);

/// Ended sessions that can still be asked why they ended: an hour of a busy team's, at 600 bytes each. The audit has them all.
pub const SESSIONS_KEPT: usize = 1_000;

/// Openings and ends of sessions that whoever watches may be behind.
pub const SESSION_EVENTS_KEPT: usize = 2_000;

/// Sessions that one person, or one machine, may have open at a time: a play over every machine of a large site. Each takes two
/// buffers and a record, 150 kB at worst.
pub const SESSIONS_PER_CALLER: usize = 1_024;

/// From a person's request to the machine's answer: the machine gives its target as long, less a margin.
pub const OPEN_TIME: Duration = Duration::from_secs(12);

/// What a person's helper may have open on one connection, and what it may be sent there before it is read, in bytes.
pub const HELPER_STREAMS: usize = 256;

/// A peer that takes nothing of what we write for this long holds no tunnel any more.
pub const TUNNEL_STALL: Duration = Duration::from_secs(20);

/// One buffer of a session, for each direction; given back with the session. Four records of TLS.
pub const CARRY_BUFFER: usize = 64 * 1024;

/// What a socket with many streams takes in beyond what is on its way: what waits there cannot be overtaken by a key that
/// somebody types. At 20 Mbit/s it takes 13 ms.
pub const UNSENT: u32 = 32 * 1024;

/// What TLS holds beside that, encrypted already: one record.
pub const UNSENT_TLS: usize = 17 * 1024;

/// Handshakes of tunnels under way at a time. Machines can wait, people cannot: on two cores so many cost 10 ms.
pub const TUNNEL_HANDSHAKES: usize = 16;

/// A machine that comes back from elsewhere while its tunnel was heard of this short a while ago may be two machines.
pub const TUNNEL_TWICE: Duration = Duration::from_secs(150);

/// Quiet time after which a peer is asked by TCP itself whether it is there, and the pause between questions.
pub const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(15));

/// How long the end of a broken stream waits to hear whether its tunnel broke: the two are noticed by tasks of their own,
/// which a busy machine runs a moment apart.
pub const FATE_TIME: Duration = Duration::from_millis(250);

/// How long a stream that has ended waits for its other end to have followed it to a connection of its own.
pub const FINISH_TIME: Duration = Duration::from_secs(10);

/// How long a lock waits for the last session it hits before it says how many and how fast: far above the promised second.
pub const ENFORCE_TIME: Duration = Duration::from_secs(5);

/// How long what is open goes on while the store cannot be reached: enough for a database to choose another leader, or to be started
/// anew. A lock that is set elsewhere meanwhile does not reach it.
pub const STORE_GRACE: Duration = Duration::from_mins(5);

/// How often a store in this process looks for leases that are over.
pub const LEASES_LOOK: Duration = Duration::from_secs(1);

/// How often the store is asked whether it is there when nothing is heard of it.
pub const STORE_LOOK: Duration = Duration::from_secs(5);

/// Entries that one revocation list takes: 20 MB, which whoever fetches it must hold in memory. What was merely replaced is left
/// out first.
pub const CRL_ENTRIES_MAX: usize = 400_000;

/// Entries from which a revocation list is said to grow long, while nothing is missing from it yet.
pub const CRL_ENTRIES_MANY: usize = CRL_ENTRIES_MAX / 2;

/// How often lapsed rates are dropped.
pub const RATES_SWEEP: Duration = Duration::from_secs(10);

/// While the store is checked at a start: how often the service manager is asked for more time, for how much, in microseconds,
/// and how many times. An hour in all: a store of twenty thousand machines takes some minutes.
pub const START_EVERY: Duration = Duration::from_secs(20);
/// See [`START_EVERY`].
pub const START_ASKED: u32 = 60_000_000;
/// See [`START_EVERY`].
pub const START_EXTENSIONS: u32 = 180;

/// How often housekeeping runs, and looks at the clock of the day.
pub const SWEEP: Duration = Duration::from_secs(60);

/// How often a clock that is not believed is said in the log while it lasts.
pub const CLOCK_REMINDER: Duration = Duration::from_hours(1);

/// Damaged records that are named in the log, and counted: whoever has more needs `store check`, not a longer log.
pub const DAMAGED_NAMED: usize = 1_000;

/// Signatures made at once: more than a key in a file can use on any machine, as many as a hardware module commonly has
/// sessions for, and far fewer than the threads that may block, which the store needs as well.
pub const SIGNATURES_AT_ONCE: usize = 16;

/// How long a signature may take, waiting for its turn included: well below the time of a request, so that whoever asks
/// hears why. A key in a file takes a millisecond, a hardware module up to 200.
pub const SIGNING_TIME: Duration = Duration::from_secs(10);

/// Life of the gateway's own certificate. It is renewed at half of it, by the wall clock, and each failure is tried again within a
/// quarter of an hour, so a gateway whose renewal fails has days to say so before anybody is shut out.
pub const GATEWAY_LEAF_LIFE: Duration = Duration::from_hours(7 * 24);

/// Longest life of anything set in the configuration. A hundred years is a slip of the pen.
pub const CONFIG_DURATION_MAX: Duration = Duration::from_hours(100 * 365 * 24);

/// Limits that the configuration may move. The default of each, with its reason, is in [`Limits::default`].
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
    /// TLS handshakes in progress in total; more wait their turn.
    pub handshakes: usize,
    /// TLS handshakes in progress or waiting from one source prefix; more are dropped.
    pub handshakes_per_prefix: usize,
    /// Tunnels that come back in a second after all were lost: machines are told to spread over the time that makes.
    pub tunnels_per_second: usize,
    /// Certificates of each kind (its own, those for sealed services) that one machine or person may have made in one life of
    /// them.
    pub certificates_per_life: usize,
    /// From the accepted socket to the end of the TLS handshake.
    pub handshake_time: Duration,
    /// From the first byte of a request's head to its last.
    pub head_time: Duration,
    /// From the last byte of the head to the last of the body.
    pub body_time: Duration,
    /// A connection of the enroll face without a request.
    pub idle_enroll: Duration,
    /// A connection of the manage face without a request.
    pub idle_manage: Duration,
    /// A peer that takes nothing of what we write.
    pub write_stall: Duration,
    /// What is in progress may end for this long when the gateway stops.
    pub drain_time: Duration,
    /// Requests in a time, by class.
    pub rates: RateLimits,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // At 24 KiB each 240 MiB, and far below the 65,536 descriptors that the service file asks for.
            connections: 10_000,
            // A lab or an office behind one address; nobody takes more than a twentieth of the total.
            connections_per_prefix: 500,
            // Whoever floods the face that is open to all leaves four fifths to those who belong here.
            connections_enroll: 2_000,
            // A twentieth of that; machines that wait hold one each.
            connections_enroll_per_prefix: 100,
            // A peer can make a handshake hold 64 kB: 64 MiB at worst. One core ends some 1,500 in a second.
            handshakes: 1_024,
            // Eight prefixes at once are needed to fill the total.
            handshakes_per_prefix: 128,
            // A fifth of what one core can do, beside everything else.
            tunnels_per_second: 200,
            // One in a life is what it takes; the others are for restarts, people at the keyboard and whoever loses replies. Each
            // is 4 KiB on the disk, and an entry of a revocation list until it ends.
            certificates_per_life: 16,
            // Two round trips; a satellite link takes two seconds.
            handshake_time: Duration::from_secs(5),
            // 16 KiB over a 20 kbit/s link.
            head_time: Duration::from_secs(10),
            // 64 KiB over a 40 kbit/s link.
            body_time: Duration::from_secs(15),
            // Longer than the longest poll (25 s), so that a waiting machine keeps its connection.
            idle_enroll: Duration::from_secs(30),
            // A person at the command line, a machine between two questions.
            idle_manage: Duration::from_mins(10),
            // One that took nothing for this long is gone.
            write_stall: Duration::from_secs(20),
            // Below the 90 s after which service managers kill.
            drain_time: Duration::from_secs(30),
            rates: RateLimits::default(),
        }
    }
}

/// Rates for each class of requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimits {
    /// New enrollments: each costs two signature checks and perhaps a record on disk.
    pub anonymous: ClassLimits,
    /// Polls of enrollments, and public downloads.
    pub poll: ClassLimits,
    /// Machines that hold a certificate.
    pub machine: ClassLimits,
    /// People who hold a certificate.
    pub person: ClassLimits,
    /// Connections to services, and who is refused one.
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
                // 500 machines behind one address come back after an outage.
                per_prefix: Quota::of(50, 500),
                total: Quota::of(2_000, 10_000),
            },
            person: ClassLimits {
                // A script that walks through a listing.
                per_prefix: Quota::of(20, 200),
                total: Quota::of(500, 2_000),
            },
            connect: ClassLimits {
                // A play over 500 machines begins; an office sits behind one address.
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

/// The two rates of one class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassLimits {
    /// From one source prefix.
    pub per_prefix: Quota,
    /// From everywhere.
    pub total: Quota,
}

/// So many in a second, and so many at once after a rest. Written `5/s burst 60`.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Refilled each second.
    pub per_second: NonZeroU32,
    /// At most this many at once.
    pub burst: NonZeroU32,
}

impl Quota {
    /// A quota; zero counts as one, since a rate of nothing is not a rate.
    #[must_use]
    pub fn of(per_second: u32, burst: u32) -> Self {
        let at_least_one = |n| NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN);
        Self { per_second: at_least_one(per_second), burst: at_least_one(burst) }
    }
}

/// A quota that is not written as one.
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

/// How many SSH certificates a lineage may have made in one life of them. No record is kept of one, but an event is, so whoever asks
/// without end fills the store; a person with many keys, or a script that asks for each run, stays far below.
pub const SSH_CERTIFICATES_PER_LIFE: u32 = 64;

/// The life by which they are counted when the policy sets none: a day, as with a machine's own.
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
