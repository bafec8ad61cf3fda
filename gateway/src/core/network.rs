//! IP networks in CIDR notation, as in the configuration.

use std::{net::IpAddr, str::FromStr};

use thiserror::Error;

/// An address prefix (`192.0.2.0/24`) or a single address.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

/// The text is neither an address nor a network.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Error)]
#[error("neither an address nor a network")]
pub struct BadNetwork;

impl FromStr for Network {
    type Err = BadNetwork;

    fn from_str(text: &str) -> Result<Self, BadNetwork> {
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().map_err(|_| BadNetwork)?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => most,
            Some(bits) => bits.parse().ok().filter(|bits| *bits <= most).ok_or(BadNetwork)?,
        };
        Ok(Self { address, bits })
    }
}

impl Network {
    /// An IPv4-mapped IPv6 address (RFC 4291 2.5.5.2) is matched as IPv4.
    #[must_use]
    pub fn contains(self, address: IpAddr) -> bool {
        let same = |ours: &[u8], theirs: &[u8]| {
            let differs = ours.iter().zip(theirs).map(|(a, b)| (a ^ b).leading_zeros()).enumerate();
            let equal = differs.into_iter().find(|(_, zeros)| *zeros < 8);
            equal.is_none_or(|(at, zeros)| at * 8 + zeros as usize >= usize::from(self.bits))
        };
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(ours), IpAddr::V4(theirs)) => same(&ours.octets(), &theirs.octets()),
            (IpAddr::V6(ours), IpAddr::V6(theirs)) => same(&ours.octets(), &theirs.octets()),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn network(text: &str, inside: &[&str], outside: &[&str]) {
        let network: Network = text.parse().unwrap();
        for (rows, want) in [(inside, true), (outside, false)] {
            for row in rows {
                assert_eq!(network.contains(row.parse().unwrap()), want, "{row} in {text}");
            }
        }
    }

    #[test]
    fn networks() {
        network("192.0.2.7", &["192.0.2.7", "::ffff:192.0.2.7"], &["192.0.2.6", "::7"]);
        network("192.0.2.0/25", &["192.0.2.0", "192.0.2.127"], &["192.0.2.128", "192.0.3.0"]);
        network("0.0.0.0/0", &["255.1.2.3"], &["::1"]);
        network("2001:db8::/33", &["2001:db8:7fff::1"], &["2001:db8:8000::1"]);
        network("::1", &["::1"], &["::2", "127.0.0.1"]);
        for bad in ["", "x", "192.0.2.0/33", "192.0.2.0/-1", "192.0.2.0/", "192.0.2", "::/129", "192.0.2.0/24/24"] {
            assert_eq!(bad.parse::<Network>(), Err(BadNetwork), "{bad}");
        }
    }
}
