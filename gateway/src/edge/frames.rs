//! What frames say, in our own types.

use wire::tunnel as said;

use crate::core::session::{EndReason, Mode, Offer};

impl From<EndReason> for said::Reason {
    fn from(reason: EndReason) -> Self {
        match reason {
            EndReason::Peer => Self::Peer,
            EndReason::Drained => Self::Drained,
            EndReason::Expired => Self::Expired,
            EndReason::Locked => Self::Locked,
            EndReason::Policy => Self::Policy,
            EndReason::Killed => Self::Killed,
            EndReason::Limit => Self::Limit,
            EndReason::Replaced => Self::Replaced,
            EndReason::Lost => Self::Lost,
            EndReason::Broken => Self::Broken,
        }
    }
}

impl From<Mode> for said::Mode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Raw => Self::Raw,
            Mode::Sealed => Self::Sealed,
        }
    }
}

impl From<said::ServiceOffer> for Offer {
    fn from(offer: said::ServiceOffer) -> Self {
        let mode = match offer.mode {
            said::Mode::Raw => Mode::Raw,
            said::Mode::Sealed => Mode::Sealed,
        };
        Self { name: offer.name, mode }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_word_for_a_reason_and_for_a_mode() {
        for reason in EndReason::ALL {
            assert_eq!(said::Reason::from(reason).as_str(), reason.as_str());
        }
        for mode in [Mode::Raw, Mode::Sealed] {
            assert_eq!(said::Mode::from(mode).as_str(), mode.as_str());
        }
    }
}
