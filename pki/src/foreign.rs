//! A client whose certificate leads to a CA that is none of ours: the manufacturer of its device (IEEE 802.1AR), or another
//! authority. It has no identity here. What is kept is the chain that was verified, for whoever knows how to read it.

use crate::anchor::AnchorSet;
use crate::chain::{ChainError, Eku, SENT_MAX, Unstated, verify_chain_of};
use crate::key::KeyDigest;
use crate::time::UnixTime;

/// A client whose certificate leads to an anchor that is none of ours. That it holds the key is for the handshake to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignPeer {
    /// Its certificate, DER.
    pub leaf: Vec<u8>,
    /// The CAs between that and the anchor, DER, from the leaf's issuer upwards.
    pub issuers: Vec<Vec<u8>>,
    /// The digest of its key.
    pub key: KeyDigest,
    /// The digest of the anchor's key.
    pub anchor: KeyDigest,
    /// End of the certificate's validity.
    pub not_after: UnixTime,
}

/// Verifies a client by anchors that are none of ours. Unlike ours, its certificate need not state what it may be used for.
pub fn verify_foreign(
    leaf: &[u8],
    intermediates: &[&[u8]],
    anchors: &AnchorSet,
    now: UnixTime,
) -> Result<ForeignPeer, ChainError> {
    if intermediates.len() >= SENT_MAX {
        return Err(ChainError::TooManyIntermediates { found: intermediates.len() });
    }
    let chain = verify_chain_of(leaf, intermediates, anchors, (Eku::ClientAuth, Unstated::Taken), &[], now)?;
    Ok(ForeignPeer {
        leaf: chain.leaf.der().to_vec(),
        issuers: chain.issuers.iter().map(|ca| ca.der().to_vec()).collect(),
        key: chain.leaf.key().digest(),
        anchor: chain.anchor(),
        not_after: chain.leaf.not_after(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cert::CertFault;
    use crate::name::Role;
    use crate::testing::{NOW, leaf_params, world, world_named};

    const MACHINE: &str = "spiffe://maker/machine/m";

    #[test]
    fn it_leads_to_one_of_the_anchors() {
        let (maker, other) = (world_named("maker"), world());
        let (issued, ca) = (maker.issue(MACHINE), maker.ca(Role::Machine).cert_der());
        let anchors = AnchorSet::new(&[maker.root.cert_der()], NOW).unwrap();
        let foreign = verify_foreign(&issued.der, &[ca], &anchors, NOW).unwrap();
        assert_eq!((&foreign.leaf, foreign.issuers), (&issued.der, vec![ca.to_vec()]));
        assert_eq!((foreign.key, foreign.anchor), (issued.key, maker.root.pin()));
        assert_eq!(foreign.not_after, issued.not_after);
        let others = AnchorSet::new(&[other.root.cert_der()], NOW).unwrap();
        assert_eq!(verify_foreign(&issued.der, &[ca], &others, NOW), Err(ChainError::UnknownIssuer));
        let late = issued.not_after.plus(std::time::Duration::from_secs(1));
        let expired = ChainError::Leaf(CertFault::Expired { at: issued.not_after });
        assert_eq!(verify_foreign(&issued.der, &[ca], &anchors, late), Err(expired));
        let many = ChainError::TooManyIntermediates { found: SENT_MAX };
        assert_eq!(verify_foreign(&issued.der, &[ca; SENT_MAX], &anchors, NOW), Err(many));
    }

    /// What a manufacturer's certificate may leave unsaid, and what it may not say.
    #[test]
    fn usages_need_not_be_stated() {
        use rcgen::ExtendedKeyUsagePurpose::{Any, ClientAuth, ServerAuth};
        let maker = world_named("maker");
        let anchors = AnchorSet::new(&[maker.root.cert_der()], NOW).unwrap();
        let wrong = ChainError::Leaf(CertFault::ExtendedKeyUsage { wanted: Eku::ClientAuth });
        for (usages, want) in [
            (vec![], Ok(())),
            (vec![ClientAuth], Ok(())),
            (vec![ClientAuth, ServerAuth], Ok(())),
            (vec![ServerAuth], Err(wrong.clone())),
            (vec![Any], Err(wrong)),
        ] {
            let (mut params, key) = leaf_params(MACHINE);
            params.extended_key_usages.clone_from(&usages);
            let leaf = maker.authority(Role::Machine).sign(&params, &key).unwrap();
            let ca = maker.ca(Role::Machine).cert_der();
            assert_eq!(verify_foreign(&leaf, &[ca], &anchors, NOW).map(drop), want, "{usages:?}");
        }
    }
}
