//! The PROXY protocol, versions 1 and 2 (haproxy's `doc/proxy-protocol.txt`): what a balancer says before the first byte of
//! TLS, of the client it speaks for. Believed from the addresses that the configuration names, and from nobody else.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::limits::PROXY_HEADER_MAX;

/// What version 2 begins with.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// What version 1 begins with.
const WORD: &[u8; 6] = b"PROXY ";

/// Shortest header of all: `PROXY UNKNOWN` and its line end.
const SHORTEST: usize = 15;

/// Longest header of version 1 (section 2.1).
const LINE_MAX: usize = 107;

/// The fixed part of version 2.
const FIXED: usize = 16;

/// Whom a connection is from.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The balancer itself, which looks whether we are there.
    Local,
    /// Somebody for whom it speaks.
    Client(SocketAddr),
}

/// Why a header is not taken.
#[derive(Debug, Error)]
pub enum BadHeader {
    /// It is something else, most likely the client's TLS.
    #[error("there is no PROXY protocol header")]
    Missing,
    /// It begins well.
    #[error("the PROXY protocol header is malformed: {0}")]
    Malformed(&'static str),
    /// The connection broke.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Reads a header and not a byte more: what follows is the client's. The time is the caller's business.
///
/// # Errors
/// [`BadHeader`].
pub async fn read<IO: AsyncRead + Unpin>(io: &mut IO) -> Result<Origin, BadHeader> {
    let mut head = [0; FIXED];
    let (start, last) = head.split_at_mut(SHORTEST);
    io.read_exact(start).await?;
    if start.starts_with(WORD) {
        let mut line = start.to_vec();
        // Byte by byte, since the line's end is not known before it is there.
        while !line.ends_with(b"\n") {
            if line.len() >= LINE_MAX {
                return Err(BadHeader::Malformed("its line does not end"));
            }
            line.push(io.read_u8().await?);
        }
        return version1(&line);
    }
    if !start.starts_with(&SIGNATURE) {
        return Err(BadHeader::Missing);
    }
    io.read_exact(last).await?;
    let length = usize::from(u16::from_be_bytes([head[14], head[15]]));
    if length > PROXY_HEADER_MAX {
        return Err(BadHeader::Malformed("it is too long"));
    }
    let mut rest = vec![0; length];
    io.read_exact(&mut rest).await?;
    version2(head[12], head[13], &rest)
}

/// The line of version 1, with its end.
///
/// # Errors
/// [`BadHeader::Malformed`].
pub fn version1(line: &[u8]) -> Result<Origin, BadHeader> {
    let bad = BadHeader::Malformed;
    let text = std::str::from_utf8(line).map_err(|_| bad("it is not ASCII"))?;
    let text = text.strip_suffix("\r\n").ok_or(bad("its line does not end in CRLF"))?;
    let mut words = text.split(' ');
    let (Some("PROXY"), Some(family)) = (words.next(), words.next()) else { return Err(bad("it has no family")) };
    if family == "UNKNOWN" {
        // Whatever follows is to be passed over.
        return Ok(Origin::Local);
    }
    let (Some(source), Some(to), Some(port), Some(to_port), None) =
        (words.next(), words.next(), words.next(), words.next(), words.next())
    else {
        return Err(bad("it has not two addresses and two ports"));
    };
    let address = |text: &str| -> Option<IpAddr> {
        match family {
            "TCP4" => text.parse().ok().map(IpAddr::V4),
            "TCP6" => text.parse().ok().map(IpAddr::V6),
            _ => None,
        }
    };
    let number =
        |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u16>().ok()).flatten();
    match (address(source), address(to), number(port), number(to_port)) {
        (Some(source), Some(_), Some(port), Some(_)) => client(source, port),
        _ => Err(bad("an address or a port is none of its family")),
    }
}

/// Version 2: its 13th and 14th byte, and what its length counts.
///
/// # Errors
/// [`BadHeader::Malformed`].
pub fn version2(command: u8, family: u8, rest: &[u8]) -> Result<Origin, BadHeader> {
    let bad = BadHeader::Malformed;
    match command {
        // Addresses of a `LOCAL` are to be passed over.
        0x20 => return Ok(Origin::Local),
        0x21 => {}
        _ => return Err(bad("its version or command is unknown")),
    }
    match (family, rest) {
        // TCP over IPv4: two addresses, two ports, and then what more there is to say.
        (0x11, [a, b, c, d, _, _, _, _, high, low, _, _, ..]) => {
            client(Ipv4Addr::new(*a, *b, *c, *d).into(), u16::from_be_bytes([*high, *low]))
        }
        (0x21, rest) if rest.len() >= 36 => {
            let source: [u8; 16] = rest.first_chunk().copied().ok_or(bad("it is cut short"))?;
            let port = rest.get(32..34).and_then(|port| port.try_into().ok()).map_or(0, u16::from_be_bytes);
            client(Ipv6Addr::from(source).into(), port)
        }
        (0x11 | 0x21, _) => Err(bad("it is cut short")),
        _ => Err(bad("its addresses are neither IPv4 nor IPv6 with TCP")),
    }
}

fn client(source: IpAddr, port: u16) -> Result<Origin, BadHeader> {
    let source = source.to_canonical();
    let nobody = match source {
        IpAddr::V4(v4) => v4.is_unspecified() || v4.is_broadcast() || v4.is_multicast(),
        IpAddr::V6(v6) => v6.is_unspecified() || v6.is_multicast(),
    };
    if nobody {
        return Err(BadHeader::Malformed("its source is nobody's address"));
    }
    Ok(Origin::Client(SocketAddr::new(source, port)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What is read of these bytes, and how many are left. Nothing when more are wanted.
    fn outcome(bytes: &[u8]) -> Result<(Origin, usize), String> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut left = bytes;
        let read = runtime.block_on(read(&mut left)).map_err(|error| error.to_string())?;
        Ok((read, left.len()))
    }

    #[track_caller]
    fn check(header: &[u8], want: &Result<Origin, &str>) {
        let whole = [header, b"\x16\x03\x01"].concat();
        let got = outcome(&whole);
        match want {
            Ok(from) => {
                assert_eq!(got, Ok((*from, 3)), "{}", header.escape_ascii());
                for cut in 0..header.len() {
                    assert!(outcome(&header[..cut]).is_err(), "{} cut at {cut}", header.escape_ascii());
                }
            }
            Err(says) => assert!(got.clone().unwrap_err().contains(says), "{}: {got:?}", header.escape_ascii()),
        }
    }

    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, rest].concat()
    }

    fn from(text: &str) -> Result<Origin, &'static str> {
        Ok(Origin::Client(text.parse().unwrap()))
    }

    #[test]
    fn lines() {
        check(b"PROXY TCP4 192.0.2.7 198.51.100.1 50000 443\r\n", &from("192.0.2.7:50000"));
        check(b"PROXY TCP6 2001:db8::7 2001:db8::1 1 443\r\n", &from("[2001:db8::7]:1"));
        check(b"PROXY TCP6 ::ffff:192.0.2.7 ::1 1 443\r\n", &from("192.0.2.7:1"));
        check(b"PROXY UNKNOWN\r\n", &Ok(Origin::Local));
        check(b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n", &Ok(Origin::Local));
        let rows: [(&[u8], &str); 12] = [
            (b"PROXY TCP4 192.0.2.7 198.51.100.1 50000 443\n", "CRLF"),
            (b"PROXY TCP4 2001:db8::7 198.51.100.1 1 443\r\n", "family"),
            (b"PROXY TCP4 192.0.2.7 198.51.100.1 1 443 5\r\n", "two ports"),
            (b"PROXY TCP4 192.0.2.7 198.51.100.1 1\r\n", "two ports"),
            (b"PROXY TCP4 192.0.2.7 198.51.100.1 +1 443\r\n", "family"),
            (b"PROXY TCP4 192.0.2.7 198.51.100.1 65536 443\r\n", "family"),
            (b"PROXY TCP4 0.0.0.0 198.51.100.1 1 443\r\n", "nobody"),
            (b"PROXY UDP4 192.0.2.7 198.51.100.1 1 443\r\n", "family"),
            (b"PROXY  TCP4 192.0.2.7 198.51.100.1 1 443\r\n", "two ports"),
            (&[b"PROXY TCP4 ".as_slice(), &[b'1'; 100]].concat(), "does not end"),
            (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "no PROXY"),
            (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03aaaaaaa", "no PROXY"),
        ];
        for (line, says) in rows {
            check(line, &Err(says));
        }
    }

    #[test]
    fn binary_headers() {
        let v4 = [192, 0, 2, 7, 198, 51, 100, 1, 0xc3, 0x50, 1, 187];
        let mut v6 = [0; 36];
        (v6[0], v6[1], v6[2], v6[3], v6[15], v6[33]) = (0x20, 1, 0x0d, 0xb8, 7, 9);
        check(&v2(0x21, 0x11, &v4), &from("192.0.2.7:50000"));
        check(&v2(0x21, 0x11, &[&v4[..], &[3, 0, 4, 1, 2, 3, 4]].concat()), &from("192.0.2.7:50000"));
        check(&v2(0x21, 0x21, &v6), &from("[2001:db8::7]:9"));
        check(&v2(0x20, 0x00, &[]), &Ok(Origin::Local));
        check(&v2(0x20, 0x11, &v4), &Ok(Origin::Local));
        check(&v2(0x21, 0x00, &[]), &Err("neither"));
        check(&v2(0x21, 0x12, &v4), &Err("neither"));
        check(&v2(0x21, 0x31, &[0; 216]), &Err("neither"));
        check(&v2(0x21, 0x11, &v4[..11]), &Err("cut short"));
        check(&v2(0x21, 0x21, &v6[..35]), &Err("cut short"));
        check(&v2(0x11, 0x11, &v4), &Err("unknown"));
        check(&v2(0x22, 0x11, &v4), &Err("unknown"));
        check(&v2(0x21, 0x11, &[0; 12]), &Err("nobody"));
        check(&v2(0x21, 0x11, &vec![1; PROXY_HEADER_MAX + 1]), &Err("too long"));
    }

    proptest! {
        /// Whatever comes: no panic, never more read than allowed, and what is taken is what was said.
        #[test]
        fn any_bytes(start in 0_usize..3, bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let whole = [[&b""[..], &SIGNATURE, WORD][start], &bytes].concat();
            if let Ok((_, left)) = outcome(&whole) {
                prop_assert!(whole.len() - left <= FIXED + PROXY_HEADER_MAX);
            }
        }

        #[test]
        fn what_is_written_is_read(a in any::<[u8; 4]>(), port in any::<u16>(), more in proptest::collection::vec(any::<u8>(), 0..64)) {
            let source = Ipv4Addr::from(a);
            prop_assume!(!source.is_unspecified() && !source.is_broadcast() && !source.is_multicast());
            let rest = [&a[..], &[9, 9, 9, 9], &port.to_be_bytes(), &[0, 1], &more].concat();
            let want = Origin::Client(SocketAddr::new(source.into(), port));
            prop_assert_eq!(outcome(&v2(0x21, 0x11, &rest)), Ok((want, 0)));
            let line = format!("PROXY TCP4 {source} 9.9.9.9 {port} 1\r\n");
            prop_assert_eq!(outcome(line.as_bytes()), Ok((want, 0)));
        }
    }
}
