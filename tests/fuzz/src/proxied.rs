//! The header that a balancer sends before TLS. Whatever comes, no more is read than the header, and no more than its bound; a
//! header that is taken is read the same when something follows it.

use std::{
    future::Future as _,
    pin::pin,
    task::{Context, Poll, Waker},
};

use gateway::{edge::proxied, limits::PROXY_HEADER_MAX};

use crate::Outcome;

/// The fixed part of version 2.
const FIXED: usize = 16;

/// Judges one input.
pub fn check(data: &[u8]) -> Outcome {
    let Some((from, left)) = read(data) else { return Outcome::Refused };
    let taken = data.len() - left;
    assert!(taken <= FIXED + PROXY_HEADER_MAX, "{taken} bytes were read");
    if let proxied::Origin::Client(client) = from {
        let address = client.ip();
        assert!(!address.is_unspecified() && !address.is_multicast(), "{address} is nobody's");
        assert_eq!(address, address.to_canonical());
    }
    assert_eq!(read(&data[..taken]), Some((from, 0)), "what follows changed it");
    for cut in 0..taken {
        assert_eq!(read(&data[..cut]), None, "a header cut at {cut} was taken");
    }
    Outcome::Taken
}

/// What is read, and how many bytes are left.
fn read(mut bytes: &[u8]) -> Option<(proxied::Origin, usize)> {
    let outcome = pin!(proxied::read(&mut bytes)).poll(&mut Context::from_waker(Waker::noop()));
    match outcome {
        Poll::Ready(read) => Some((read.ok()?, bytes.len())),
        Poll::Pending => panic!("bytes that are there are waited for"),
    }
}

/// Headers of each form.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let v2 = |command: u8, family: u8, rest: &[u8]| {
        let length = u16::try_from(rest.len()).unwrap_or_default().to_be_bytes();
        [b"\r\n\r\n\0\r\nQUIT\n", &[command, family][..], &length, rest, b"\x16\x03\x01"].concat()
    };
    vec![
        b"PROXY TCP4 192.0.2.7 198.51.100.1 50000 443\r\n\x16".to_vec(),
        b"PROXY TCP6 2001:db8::7 2001:db8::1 1 443\r\n".to_vec(),
        b"PROXY UNKNOWN\r\n".to_vec(),
        v2(0x21, 0x11, &[192, 0, 2, 7, 198, 51, 100, 1, 0xc3, 0x50, 1, 187]),
        v2(0x21, 0x21, &[0x20; 36]),
        v2(0x20, 0, &[]),
        v2(0x21, 0x11, &[192, 0, 2, 7, 198, 51, 100, 1, 0xc3, 0x50, 1, 187, 4, 0, 1, 0]),
        b"\x16\x03\x01\x02\x00".to_vec(),
    ]
}
