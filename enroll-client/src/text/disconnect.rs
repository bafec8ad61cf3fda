//! The SSH disconnect message with which `connect` reports an error to ssh, in place of the machine's sshd.
//!
//! With `ControlPersist`, which Ansible uses, ssh discards the standard error of a ProxyCommand and reports only "Connection closed". It
//! does show a disconnect message, also before the key exchange.

use crate::text;

/// Most bytes of a reason that OpenSSH shows.
const SHOWN: usize = 400;

/// `SSH_DISCONNECT_BY_APPLICATION` (RFC 4253 11.1): the other codes have a specific meaning that does not apply.
const BY_APPLICATION: u32 = 11;

/// `SSH_MSG_DISCONNECT` (RFC 4253 12).
const DISCONNECT: u8 = 1;

/// Block size in bytes: packets are multiples of it, with at least four bytes of padding (RFC 4253 6).
const BLOCK: usize = 8;

/// An identification and a disconnect message with the reason.
#[must_use]
pub fn message(why: &str) -> Vec<u8> {
    let mut why = text::safe(why);
    why.truncate(why.floor_char_boundary(SHOWN));
    let mut payload = vec![DISCONNECT];
    payload.extend(BY_APPLICATION.to_be_bytes());
    payload.extend(u32::try_from(why.len()).unwrap_or_default().to_be_bytes());
    payload.extend(why.as_bytes());
    // No language tag.
    payload.extend(0_u32.to_be_bytes());
    let short = BLOCK - (4 + 1 + payload.len()) % BLOCK;
    let padding = if short < 4 { short + BLOCK } else { short };
    let mut out = b"SSH-2.0-lychgate\r\n".to_vec();
    out.extend(u32::try_from(1 + payload.len() + padding).unwrap_or_default().to_be_bytes());
    out.push(u8::try_from(padding).unwrap_or_default());
    out.extend(payload);
    out.extend(std::iter::repeat_n(0, padding));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_is_as_long_as_it_says_whatever_the_reason() {
        for length in (0..40).chain([399, 400, 401, 5000]) {
            let why = "ü".repeat(length);
            let message = message(&why);
            let packet = message.strip_prefix(b"SSH-2.0-lychgate\r\n").unwrap();
            assert_eq!(packet.len() % BLOCK, 0);
            let said = u32::from_be_bytes(packet[..4].try_into().unwrap());
            assert_eq!(usize::try_from(said).unwrap(), packet.len() - 4);
            assert!((4..=255).contains(&packet[4]), "{}", packet[4]);
            assert_eq!((packet[5], &packet[6..10]), (DISCONNECT, &BY_APPLICATION.to_be_bytes()[..]));
            let text = u32::from_be_bytes(packet[10..14].try_into().unwrap());
            let text = &packet[14..14 + usize::try_from(text).unwrap()];
            assert!(text.len() <= SHOWN && why.starts_with(std::str::from_utf8(text).unwrap()));
            assert_eq!(packet.len(), 14 + text.len() + 4 + usize::from(packet[4]));
        }
    }

    #[test]
    fn nothing_in_it_moves_the_cursor() {
        assert!(!message("\u{1b}[2J\n").windows(2).any(|two| two == b"\x1b["));
    }
}
