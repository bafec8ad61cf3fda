//! Responses of TPMs. What is taken is bounded by the response that it came in, and another length is refused.

use tpm::{
    Bank, HashAlgorithm, PcrSet, Selection,
    command::{
        Authorization, Command, MESSAGE_MAX, activate_credential, create_primary, flush_context, get_handles,
        get_pcr_banks, get_properties, nv_read, nv_read_public, pcr_read, policy_secret, quote, read_public,
        response_code, start_policy_session,
    },
};

use crate::{
    Outcome,
    parts::{mode, with_mode},
};

/// Judges one input: which command it answers, and the response behind its size.
pub fn check(data: &[u8]) -> Outcome {
    let Some((mode, rest)) = mode(data) else { return Outcome::Refused };
    let Some((tag, rest)) = rest.split_first_chunk::<2>() else { return Outcome::Refused };
    let size = u32::try_from(rest.len() + 6).unwrap_or(u32::MAX);
    let response = [&tag[..], &size.to_be_bytes(), rest].concat();
    if response.len() > MESSAGE_MAX {
        assert_eq!(response_code(&response), None, "a response that is too long");
    }
    let sha256 = Bank::Believed(HashAlgorithm::Sha256);
    let selection = Selection { bank: sha256, pcrs: PcrSet::of([0, 7]).expect("PCRs") };
    let ek = (2, Authorization::Policy(3));
    let taken = match mode % 12 {
        0 => lists(get_handles(0x01c0_0000), &response, |found| 4 * found.handles.len()),
        1 => lists(get_pcr_banks(), &response, |found| 3 * found.len()),
        2 => lists(get_properties(0x105, 8), &response, |found| 8 * found.len()),
        3 => lists(nv_read_public(0x01c0_0002), &response, |_| 0),
        4 => lists(nv_read(0x01c0_0002, 0, 512), &response, Vec::len),
        5 => lists(create_primary(1, &[0; 32]), &response, |made| made.public.len()),
        6 => lists(read_public(1), &response, Vec::len),
        7 => lists(start_policy_session(HashAlgorithm::Sha256, &[0; 16]), &response, |_| 0),
        8 => lists(policy_secret(1, 2), &response, |()| 0),
        9 => lists(activate_credential(1, ek, &[0, 0], &[0, 0]), &response, Vec::len),
        10 => lists(quote(1, b"nonce", selection), &response, |said| said.attest.len() + said.signature.len()),
        _ => {
            lists(pcr_read(selection), &response, |values| values.values().map(Vec::len).sum())
                || lists(flush_context(1), &response, |()| 0)
        }
    };
    Outcome::any(&[taken])
}

/// Whether the command takes the response; what it reads from it is not longer.
fn lists<T>(command: Result<Command<T>, tpm::CodecError>, response: &[u8], len: impl Fn(&T) -> usize) -> bool {
    let command = command.expect("a command");
    for other in [&response[..response.len() - 1], &[response, &[0]].concat()[..]] {
        assert!(command.response(other).is_err(), "another length");
    }
    match command.response(response) {
        Ok(answer) => {
            assert!(len(&answer) <= response.len(), "more than there was");
            true
        }
        Err(error) => {
            assert!(error.to_string().contains(command.name()));
            false
        }
    }
}

/// A good response to each command, and a refusal.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let ok = [0; 4];
    let plain = |mode: u8, parts: &[&[u8]]| with_mode(mode, &[&[0x80, 0x01], &ok[..], &parts.concat()].concat());
    let session = |mode: u8, handle: &[u8], parts: &[&[u8]]| {
        let parameters = parts.concat();
        let size = u32::try_from(parameters.len()).expect("a size").to_be_bytes();
        with_mode(mode, &[&[0x80, 0x02], &ok[..], handle, &size, &parameters, &[0, 0, 1, 0, 0]].concat())
    };
    let ticket = [0x80, 0x21, 0x40, 0, 0, 0x0b, 0, 1, 7];
    vec![
        plain(0, &[&[0, 0, 0, 0, 1, 0, 0, 0, 1, 0x01, 0xc0, 0, 2]]),
        plain(1, &[&[0, 0, 0, 0, 5, 0, 0, 0, 1, 0, 0x0b, 3, 0xff, 0xff, 0xff]]),
        plain(2, &[&[0, 0, 0, 0, 6, 0, 0, 0, 1, 0, 0, 1, 5, 0x49, 0x42, 0x4d, 0]]),
        plain(3, &[&[0, 14, 0x01, 0xc0, 0, 2, 0, 0x0b, 0x62, 7, 0x28, 1, 0, 0, 3, 0xf4, 0, 2, 0, 0x0b]]),
        session(4, &[], &[&[0, 3, 0x30, 0x82, 3]]),
        session(5, &[0x80, 0, 0, 1], &[&[0, 2, 1, 2, 0, 1, 3, 0, 1, 4], &ticket, &[0, 2, 0, 0x0b]]),
        plain(6, &[&[0, 2, 1, 2, 0, 2, 0, 0x0b, 0, 2, 0, 0x0b]]),
        plain(7, &[&[3, 0, 0, 0, 0, 4, 1, 2, 3, 4]]),
        session(8, &[], &[&[0, 0], &ticket]),
        session(9, &[], &[&[0, 4, 0xde, 0xad, 0xbe, 0xef]]),
        session(10, &[], &[&[0, 4, 0xff, 0x54, 0x43, 0x47, 0, 0x18, 0, 0x0b]]),
        plain(11, &[&[0, 0, 0, 20, 0, 0, 0, 1, 0, 0x0b, 3, 1, 0, 0, 0, 0, 0, 1, 0, 32], &[7; 32]]),
        plain(11, &[]),
        with_mode(0, &[0x80, 0x01, 0, 0, 9, 0x21]),
    ]
}
