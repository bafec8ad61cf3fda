//! Several gateway processes with one store: the name and run of each, and which of them has the newest tunnel of a machine.

use std::fmt;

use pki::Name;

use super::records::{Seen, TunnelRecord};

/// A ticket for moving a stream: it names the gateway of the stream, and cannot be guessed.
#[must_use]
pub fn dial_back_ticket(own: &Name, drawn: [u8; 16]) -> String {
    format!("{own}.{}", hex::encode(drawn))
}

/// The other gateway that issued a ticket.
#[must_use]
pub fn given_elsewhere(own: &Name, ticket: &str) -> Option<Name> {
    let (gateway, _) = ticket.split_once('.')?;
    Name::parse(gateway).ok().filter(|gateway| gateway != own)
}

/// A gateway process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replica {
    /// From the configuration; unique among the gateways with the same store.
    pub name: Name,
    /// Distinguishes it from an earlier process with the same name.
    pub run: RunId,
}

/// Random id of one run of a process, drawn at its start.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct RunId([u8; 8]);

impl RunId {
    /// `bytes` must be random.
    #[must_use]
    pub const fn new(bytes: [u8; 8]) -> Self {
        Self(bytes)
    }

    /// Parses 16 lower-case hexadecimal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 8];
        hex::decode_to_slice(text, &mut bytes).ok()?;
        Some(Self(bytes)).filter(|run| run.to_string() == text)
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// What a gateway does with the record of a machine's tunnel.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum RecordChange {
    /// Write that the tunnel is at this gateway.
    Write,
    /// Delete it.
    Delete,
    /// Nothing: there is none, or another gateway must change it.
    Nothing,
}

/// Whether the recorded tunnel is at another gateway and newer than one at this gateway that opened after commit `after`. The order is
/// that of commits, since clocks differ: of two tunnels opened at the same time, the one recorded first wins.
#[must_use]
pub fn is_newer(own: &Name, seen: &Seen<TunnelRecord>, after: u64) -> bool {
    seen.record.gateway != own.as_str() && seen.version > after
}

/// Decides the change of a machine's record. `here` is the commit after which a tunnel at this gateway opened.
#[must_use]
pub fn record_change(own: &Name, seen: Option<&Seen<TunnelRecord>>, here: Option<u64>) -> RecordChange {
    match (seen, here) {
        (Some(seen), Some(after)) if is_newer(own, seen, after) => RecordChange::Nothing,
        (_, Some(_)) => RecordChange::Write,
        (Some(seen), None) if seen.record.gateway == own.as_str() => RecordChange::Delete,
        (_, None) => RecordChange::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::{
        super::records::UnixSecs,
        RecordChange::{Delete, Nothing, Write},
        *,
    };

    /// `seen`: who wrote the record, in which commit; `here`: the commit after which the tunnel at this gateway opened.
    #[track_caller]
    fn check(seen: Option<(&str, u64)>, here: Option<u64>, want: RecordChange) {
        let seen = seen.map(|(gateway, version)| {
            let source = IpAddr::from(Ipv4Addr::LOCALHOST);
            let record = TunnelRecord { gateway: gateway.to_owned(), since: UnixSecs(5), source, services: vec![] };
            Seen { record, version }
        });
        let own = Name::parse("a").unwrap();
        assert_eq!(record_change(&own, seen.as_ref(), here), want, "{seen:?} {here:?}");
    }

    #[test]
    fn the_newest_tunnel_is_written_down() {
        check(None, None, Nothing);
        check(None, Some(0), Write);
        check(Some(("a", 9)), None, Delete);
        check(Some(("a", 9)), Some(7), Write);
        check(Some(("a", 9)), Some(9), Write);
        check(Some(("b", 9)), None, Nothing);
        check(Some(("b", 9)), Some(9), Write);
        check(Some(("b", 9)), Some(12), Write);
        check(Some(("b", 9)), Some(8), Nothing);
    }

    #[test]
    fn a_ticket_names_its_gateway() {
        let [a, b] = ["a", "b"].map(|name| Name::parse(name).unwrap());
        let ticket = dial_back_ticket(&a, [0xab; 16]);
        assert_eq!(ticket, format!("a.{}", "ab".repeat(16)));
        assert_eq!(given_elsewhere(&b, &ticket), Some(a.clone()));
        assert_eq!(given_elsewhere(&a, &ticket), None);
        for other in ["", ".", "A.00", "abab", "\u{0}.00"] {
            assert_eq!(given_elsewhere(&a, other), None, "{other}");
        }
    }

    #[test]
    fn a_run_is_sixteen_digits() {
        let run = RunId::new([0, 1, 2, 3, 0xa, 0xbc, 0xde, 0xff]);
        assert_eq!(run.to_string(), "000102030abcdeff");
        assert_eq!(RunId::parse("000102030abcdeff"), Some(run));
        for bad in
            ["", "000102030abcdef", "000102030abcdeff0", "000102030ABCDEFF", "000102030abcdefg", "0x0102030abcdeff"]
        {
            assert_eq!(RunId::parse(bad), None, "{bad}");
        }
    }
}
