//! Our object identifiers, under `2.25` (X.667; no registration needed).
//!
//! The UUID 6f1d4b0e-5c3a-4d8f-9b27-e0a1c94d7352 is split into five arcs, one of 16 and four of 28 bits, because RFC 5280
//! appendix B requires readers to support only arcs below 2^28: a single arc of 128 bits makes Go before 1.23 and pkilint
//! reject the certificate. Below the UUID: `.1.<role>` marks an issuing CA; in a leaf, `.2.<level>` is the assurance level,
//! `.3.<class>` the approver class and `.4.<what>` what the assurance is of. All are certificate policies (RFC 5280 4.2.1.4).

use crate::der;

/// The UUID's arcs.
const ARCS: [u32; 5] = [0x6f1d, 0x04b0_e5c3, 0x0a4d_8f9b, 0x027e_0a1c, 0x094d_7352];

/// `certificatePolicies` (RFC 5280 4.2.1.4), for the encoder.
pub(crate) const CERTIFICATE_POLICIES: [u64; 4] = [2, 5, 29, 32];

/// Content octets of `anyPolicy` 2.5.29.32.0 (RFC 5280 4.2.1.4).
pub(crate) const ANY_POLICY: [u8; 4] = [0x55, 0x1d, 0x20, 0x00];

/// Branch of the role markers of issuing CAs.
pub(crate) const ROLE: u8 = 1;
/// Branch of the assurance levels of leaves.
pub(crate) const ASSURANCE: u8 = 2;
/// Branch of the approver classes of leaves.
pub(crate) const ADMITTED_BY: u8 = 3;
/// Branch of what the assurance of leaves is of.
pub(crate) const ASSURANCE_OF: u8 = 4;

/// Content octets of our identifiers: 1 for `2.25`, 3 for the arc of 16 bits, 4 for each of 28 bits, 2 for branch and value.
pub(crate) const LEN: usize = 22;

/// Content octets of `2.25.<UUID>.<branch>.<value>` (X.690 8.19). Branch and value must be below 128.
pub(crate) const fn ours(branch: u8, value: u8) -> [u8; LEN] {
    let mut out = [0; LEN];
    out[0] = 2 * 40 + 25;
    let mut at = 1;
    let mut arc = 0;
    while arc < ARCS.len() {
        let mut group = if arc == 0 { 3 } else { 4 };
        while group > 0 {
            group -= 1;
            let bits = ((ARCS[arc] >> (7 * group)) & 0x7f) as u8;
            out[at] = if group > 0 { 0x80 | bits } else { bits };
            at += 1;
        }
        arc += 1;
    }
    out[20] = branch;
    out[21] = value;
    out
}

/// The value, if this is `2.25.<UUID>.<branch>.<value>`.
pub(crate) fn value_under(branch: u8, oid: &[u8]) -> Option<u8> {
    let value = *oid.get(LEN - 1)?;
    (value < 0x80 && oid == ours(branch, value)).then_some(value)
}

/// The content of a certificatePolicies extension with these policies and no qualifiers (RFC 5280 4.2.1.4).
pub(crate) fn policies(oids: &[&[u8]]) -> Vec<u8> {
    let each: Vec<Vec<u8>> = oids.iter().map(|oid| der::tlv(der::SEQUENCE, &[&der::tlv(der::OID, &[oid])])).collect();
    let parts: Vec<&[u8]> = each.iter().map(Vec::as_slice).collect();
    der::tlv(der::SEQUENCE, &parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoding_reads_back_as_the_uuid() {
        let oid = ours(ROLE, 3);
        let mut arcs = vec![0_u128];
        for (at, byte) in oid[1..20].iter().enumerate() {
            let arc = arcs.last_mut().unwrap();
            assert!(*arc != 0 || byte & 0x7f != 0 || byte & 0x80 == 0, "minimal at {at}");
            *arc = (*arc << 7) | u128::from(byte & 0x7f);
            if byte & 0x80 == 0 {
                arcs.push(0);
            }
        }
        assert_eq!(arcs.pop(), Some(0));
        assert!(arcs.iter().all(|arc| *arc < 1 << 28), "RFC 5280 appendix B");
        let uuid = arcs.iter().fold(0, |uuid, arc| (uuid << 28) | arc);
        assert_eq!(uuid, 0x6f1d_4b0e_5c3a_4d8f_9b27_e0a1_c94d_7352);
        assert_eq!(oid[0], 105);
        assert_eq!(oid[20..], [1, 3]);
    }

    #[test]
    fn values() {
        assert_eq!(value_under(ROLE, &ours(ROLE, 2)), Some(2));
        assert_eq!(value_under(ROLE, &ours(ASSURANCE, 2)), None);
        assert_eq!(value_under(ROLE, &ANY_POLICY), None);
        assert_eq!(value_under(ROLE, &[]), None);
        assert_eq!(value_under(ROLE, &[&ours(ROLE, 2)[..], &[0]].concat()), None);
    }
}
