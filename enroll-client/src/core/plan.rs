//! Decides what `lychgate join` does, from the command line, the identity in the folder and an unfinished request.

use std::collections::BTreeMap;

use pki::{KeyDigest, Name, UnixTime};

use crate::core::attestation::{Attestation, KeyPlace, KeyWish, Offer};
use crate::core::record::{Denied, Pending, RequestAtGate};
use crate::core::target::{Address, JoinTarget};
use crate::text::report::{Complaint, DENIED_HINT, Exit};

/// The parsed command line of `join`.
#[derive(Clone, Debug, Default)]
pub struct JoinRequest {
    /// The token or URL, if any.
    pub target: Option<JoinTarget>,
    /// `--pin`.
    pub pin: Option<KeyDigest>,
    /// `--name`.
    pub name: Option<Name>,
    /// `--person`.
    pub role: WantedRole,
    /// `--attribute`.
    pub attributes: BTreeMap<String, String>,
    /// `--attest`.
    pub offer: Option<Offer>,
    /// `--key`.
    pub key: Option<KeyWish>,
}

impl JoinRequest {
    /// Whether it says anything else about the machine's proofs and keys than what was chosen before.
    fn changes(&self, chosen: &Attestation) -> bool {
        let other_place = match self.key {
            Some(KeyWish::In(place)) => place != chosen.key,
            Some(KeyWish::Auto) | None => false,
        };
        other_place || self.offer.as_ref().is_some_and(|offer| *offer != chosen.attest)
    }

    /// Whether its token admits a person.
    #[must_use]
    pub fn is_for_a_person(&self) -> bool {
        matches!(&self.target, Some(JoinTarget::Token(token)) if token.role == "person")
    }

    /// Whether it speaks of the machine itself.
    fn is_about_the_machine(&self) -> bool {
        let proves = !matches!(self.offer, None | Some(Offer::Auto | Offer::Nothing));
        proves || !matches!(self.key, None | Some(KeyWish::In(KeyPlace::File)))
    }
}

/// The role to request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WantedRole {
    /// A machine, or the role in the token.
    #[default]
    AsTold,
    /// A person.
    Person,
}

/// The identity in the folder.
#[derive(Clone, Debug)]
pub struct ExistingIdentity {
    /// Its SPIFFE ID.
    pub identity: String,
    /// The name of the machine or person.
    pub name: String,
    /// The enroll face of its gateway.
    pub gateway: Address,
    /// The pin at first contact.
    pub pin: KeyDigest,
    /// Whether its certificate has expired.
    pub is_over: bool,
}

/// What to do with the key of an earlier attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EarlierKey {
    /// Use it if there is one: the same gateway may have received a request with it.
    Use,
    /// Make a new one: two gateways must not see the same key.
    Replace,
}

/// What `join` does.
#[derive(Debug, PartialEq, Eq)]
pub enum Plan {
    /// Nothing: the folder holds the identity already.
    Already,
    /// Fail.
    Refuse(Complaint),
    /// Continue the pending request.
    Resume,
    /// Send a new request.
    Ask {
        /// The enroll face.
        gateway: Address,
        /// The root to expect; when absent, a person must compare the fingerprint.
        pin: Option<KeyDigest>,
        /// The join token.
        token: Option<String>,
        /// Whether to use the key of an earlier attempt.
        key: EarlierKey,
    },
    /// Send a request with the expired certificate as evidence.
    Rejoin {
        /// The join token, if a new one was given.
        token: Option<String>,
    },
}

/// Decides what to do. `pending` is the unfinished request in the folder, and `chosen` what was said earlier of proofs and keys.
#[must_use]
pub fn plan(
    join: &JoinRequest,
    held: Option<&ExistingIdentity>,
    pending: Option<&Pending>,
    chosen: &Attestation,
) -> Plan {
    if let Some(refused) = wrong_role(join) {
        return refused;
    }
    let (gateway, pin, token) = match &join.target {
        None => {
            return match (held, pending) {
                (Some(held), _) if held.is_over => Plan::Rejoin { token: None },
                (Some(held), _) => already(join, held),
                (None, Some(Pending { denied: Some(denied), gateway, request: None, .. })) => {
                    Plan::Refuse(denied_before(denied, gateway))
                }
                // Also a denied request: the denial may have been taken back.
                (None, Some(pending)) => resume(join, pending, chosen),
                (None, None) => Plan::Refuse(
                    Complaint::new(Exit::Usage, "usage", "nothing to join is given, and no earlier request is waiting")
                        .hint("use `lychgate join TOKEN` or `lychgate join https://HOST[:PORT] --pin PIN`"),
                ),
            };
        }
        Some(JoinTarget::Token(token)) => (&token.gateway, Some(token.pin), Some(token.text.clone())),
        Some(JoinTarget::Url { gateway, pin }) => (gateway, *pin, None),
    };
    let pin = match (pin, join.pin) {
        (Some(a), Some(b)) if a != b => {
            return usage(
                "--pin differs from the pin in the token or URL",
                "one of the two is for another gateway; find out which",
            );
        }
        (a, b) => a.or(b),
    };
    if let Some(held) = held {
        let same = pin.map_or(held.gateway == *gateway, |pin| pin == held.pin);
        return match (same, held.is_over) {
            (true, true) => Plan::Rejoin { token },
            (true, false) => already(join, held),
            (false, _) => Plan::Refuse(
                Complaint::new(
                    Exit::Failure,
                    "already-joined",
                    format!("this folder already holds `{}` of another gateway, {}", held.identity, held.gateway),
                )
                .hint("a second identity has a folder of its own: `lychgate --dir OTHER-FOLDER join`; or `lychgate leave` gives this one up"),
            ),
        };
    }
    let Some(pending) = pending else {
        return Plan::Ask { gateway: gateway.clone(), pin, token, key: EarlierKey::Use };
    };
    beside_an_earlier_one(join, (pending, chosen), gateway, pin, token)
}

/// The refusal of what is not for a person, or not for a machine.
fn wrong_role(join: &JoinRequest) -> Option<Plan> {
    let as_person = join.role == WantedRole::Person;
    let (what, hint) = match &join.target {
        Some(JoinTarget::Token(token)) if as_person && token.role != "person" => {
            ("the token admits a machine, not a person", "ask for an invitation: `lychgate people invite`")
        }
        Some(JoinTarget::Url { .. }) if as_person => {
            ("a person joins by an invitation", "ask for one: `lychgate people invite`")
        }
        Some(JoinTarget::Token(_)) if join.is_for_a_person() && join.is_about_the_machine() => (
            "the token admits a person, who is not the machine that they sit at",
            "leave out --attest and --key: a person's key is in a file",
        ),
        Some(JoinTarget::Token(_) | JoinTarget::Url { .. }) | None => return None,
    };
    Some(usage(what, hint))
}

/// The plan when a gateway is named and there is an unfinished request.
fn beside_an_earlier_one(
    join: &JoinRequest,
    (pending, chosen): (&Pending, &Attestation),
    gateway: &Address,
    pin: Option<KeyDigest>,
    token: Option<String>,
) -> Plan {
    let same_place = pending.gateway == gateway.to_string();
    let pending_pin = KeyDigest::parse_hex(&pending.pin).ok();
    let same_root = pin.is_none() || pin == pending_pin;
    // After a denial, which is about the key, a new request needs a new key.
    if !(same_place && same_root) || pending.denied.is_some() {
        return Plan::Ask { gateway: gateway.clone(), pin, token, key: EarlierKey::Replace };
    }
    let wants_nothing_new = (token.is_none() || token == pending.token)
        && join.name.as_ref().is_none_or(|name| Some(name.as_str()) == pending.name.as_deref())
        && join.attributes.is_empty();
    if wants_nothing_new {
        resume(join, pending, chosen)
    } else if let (Some(request), None) = (&pending.request, &token) {
        waits_already(pending, request)
    } else {
        Plan::Ask { gateway: gateway.clone(), pin: pending_pin, token, key: EarlierKey::Use }
    }
}

/// Goes on with the unfinished request, unless it is at the gateway and something else is now said of it.
fn resume(join: &JoinRequest, pending: &Pending, chosen: &Attestation) -> Plan {
    match &pending.request {
        Some(request) if join.changes(chosen) => waits_already(pending, request),
        Some(_) | None => Plan::Resume,
    }
}

/// The gateway keeps the first version of a request, which is what approvers see, so it cannot be changed.
fn waits_already(pending: &Pending, request: &RequestAtGate) -> Plan {
    let named = pending.name.as_ref().map_or("without a name".to_owned(), |name| format!("for the name `{name}`"));
    Plan::Refuse(
        Complaint::new(
            Exit::Failure,
            "waits-already",
            format!("the request {} {named} waits already, and stays as it was made", request.id),
        )
        .hint("`lychgate join` without arguments goes on with it; `lychgate leave` drops it, then join anew"),
    )
}

/// The message about a denied request.
#[must_use]
pub fn denied_before(denied: &Denied, gateway: &str) -> Complaint {
    let at = UnixTime::new(denied.at);
    let what = format!("a person denied this machine at {gateway} (received {at}): {}", denied.what);
    Complaint::new(Exit::Refused, "denied-by-person", what).hint(DENIED_HINT)
}

/// The plan when the folder holds an identity: nothing to do, unless another name is requested.
fn already(join: &JoinRequest, held: &ExistingIdentity) -> Plan {
    match &join.name {
        Some(name) if name.as_str() != held.name => Plan::Refuse(
            Complaint::new(Exit::Failure, "already-joined", format!("already joined as `{}`", held.identity))
                .hint("a second identity has a folder of its own: `lychgate --dir OTHER-FOLDER join`; or `lychgate leave` gives this one up"),
        ),
        _ => Plan::Already,
    }
}

/// The command line contradicts itself.
fn usage(what: &str, hint: &str) -> Plan {
    Plan::Refuse(Complaint::new(Exit::Usage, "usage", what).hint(hint))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::record::VERSION;
    use crate::core::target::Token;

    fn pin(byte: &str) -> KeyDigest {
        KeyDigest::parse_hex(&byte.repeat(32)).unwrap()
    }

    fn address(text: &str) -> Address {
        Address::parse(text, 443).unwrap()
    }

    fn url(text: &str, pin: Option<KeyDigest>) -> JoinRequest {
        JoinRequest { target: Some(JoinTarget::Url { gateway: address(text), pin }), ..JoinRequest::default() }
    }

    fn token(text: &str, role: &str) -> JoinRequest {
        let token = Token {
            text: text.into(),
            gateway: address("gw:1"),
            pin: pin("aa"),
            expires: UnixTime::new(9),
            role: role.into(),
        };
        JoinRequest { target: Some(JoinTarget::Token(token)), ..JoinRequest::default() }
    }

    fn held(is_over: bool) -> ExistingIdentity {
        ExistingIdentity {
            identity: "spiffe://td/machine/a".into(),
            name: "a".into(),
            gateway: address("gw:1"),
            pin: pin("aa"),
            is_over,
        }
    }

    fn pending(gateway: &str, token: Option<&str>) -> Pending {
        Pending {
            version: VERSION,
            gateway: gateway.into(),
            pin: pin("aa").hex(),
            token: token.map(str::to_owned),
            name: None,
            attributes: BTreeMap::new(),
            created: 0,
            request: Some(RequestAtGate { id: "e".into(), key: String::new(), code: "ABCD-EFGH".into(), expires: 9 }),
            denied: None,
            trouble: None,
        }
    }

    fn name(plan: &Plan) -> String {
        match plan {
            Plan::Already => "already".into(),
            Plan::Refuse(complaint) => format!("refuse {}", complaint.exit as u8),
            Plan::Resume => "resume".into(),
            Plan::Ask { gateway, pin, token, key } => {
                let pin = pin.map_or("look".to_owned(), |pin| pin.hex()[..2].to_owned());
                format!("ask {gateway} {pin} {} {key:?}", token.as_deref().unwrap_or("-"))
            }
            Plan::Rejoin { token } => format!("rejoin {}", token.as_deref().unwrap_or("-")),
        }
    }

    #[track_caller]
    fn check(join: &JoinRequest, held: Option<ExistingIdentity>, pending: Option<Pending>, want: &str) {
        assert_eq!(name(&plan(join, held.as_ref(), pending.as_ref(), &Attestation::default())), want);
    }

    #[test]
    fn from_an_empty_folder() {
        check(&JoinRequest::default(), None, None, "refuse 2");
        check(&token("T", "machine"), None, None, "ask gw:1 aa T Use");
        check(&url("gw:1", None), None, None, "ask gw:1 look - Use");
        check(&url("gw:1", Some(pin("bb"))), None, None, "ask gw:1 bb - Use");
    }

    #[test]
    fn pins_on_the_command_line() {
        let with = |join: JoinRequest, byte| JoinRequest { pin: Some(pin(byte)), ..join };
        check(&with(url("gw:1", None), "bb"), None, None, "ask gw:1 bb - Use");
        check(&with(token("T", "machine"), "aa"), None, None, "ask gw:1 aa T Use");
        check(&with(token("T", "machine"), "bb"), None, None, "refuse 2");
        check(&with(url("gw:1", Some(pin("aa"))), "bb"), None, None, "refuse 2");
    }

    #[test]
    fn persons_and_machines() {
        let as_person = |join: JoinRequest| JoinRequest { role: WantedRole::Person, ..join };
        check(&as_person(token("T", "machine")), None, None, "refuse 2");
        check(&as_person(token("T", "person")), None, None, "ask gw:1 aa T Use");
        check(&as_person(url("gw:1", None)), None, None, "refuse 2");
        check(&token("T", "person"), None, None, "ask gw:1 aa T Use");
    }

    #[test]
    fn joined_already() {
        check(&JoinRequest::default(), Some(held(false)), None, "already");
        check(&token("T", "machine"), Some(held(false)), None, "already");
        check(&url("gw:1", None), Some(held(false)), None, "already");
        check(&url("other:1", None), Some(held(false)), None, "refuse 1");
        check(&url("gw:1", Some(pin("bb"))), Some(held(false)), None, "refuse 1");
        let named = |text| JoinRequest { name: Some(Name::parse(text).unwrap()), ..JoinRequest::default() };
        check(&named("a"), Some(held(false)), None, "already");
        check(&named("b"), Some(held(false)), None, "refuse 1");
    }

    #[test]
    fn expired_identities_rejoin() {
        check(&JoinRequest::default(), Some(held(true)), None, "rejoin -");
        check(&token("T", "machine"), Some(held(true)), None, "rejoin T");
        check(&url("other:1", None), Some(held(true)), None, "refuse 1");
    }

    #[test]
    fn unfinished_requests_resume() {
        check(&JoinRequest::default(), None, Some(pending("gw:1", None)), "resume");
        check(&url("gw:1", None), None, Some(pending("gw:1", None)), "resume");
        check(&url("gw:1", Some(pin("aa"))), None, Some(pending("gw:1", None)), "resume");
        check(&token("T", "machine"), None, Some(pending("gw:1", Some("T"))), "resume");
    }

    #[test]
    fn what_is_said_at_the_second_time_is_not_dropped_in_silence() {
        let named = |text| JoinRequest { name: Some(Name::parse(text).unwrap()), ..url("gw:1", None) };
        let labelled = JoinRequest { attributes: BTreeMap::from([("rack".into(), "7".into())]), ..url("gw:1", None) };
        let before = || Pending { name: Some("a".into()), ..pending("gw:1", None) };
        check(&named("a"), None, Some(before()), "resume");
        check(&named("b"), None, Some(before()), "refuse 1");
        check(&labelled, None, Some(before()), "refuse 1");
        // A request that the gateway has not recorded can be changed.
        check(&named("b"), None, Some(Pending { request: None, ..before() }), "ask gw:1 aa - Use");
    }

    #[test]
    fn what_is_chosen_of_proofs_and_keys_is_not_dropped_either() {
        let offers = |offer| JoinRequest { offer: Some(Offer::parse(offer).unwrap()), ..JoinRequest::default() };
        let keys = |place| JoinRequest { key: Some(KeyWish::In(place)), ..JoinRequest::default() };
        let waits = || Some(pending("gw:1", None));
        check(&offers("auto"), None, waits(), "resume");
        check(&keys(KeyPlace::File), None, waits(), "resume");
        check(&JoinRequest { key: Some(KeyWish::Auto), ..JoinRequest::default() }, None, waits(), "resume");
        for other in [offers("tpm"), offers("none"), keys(KeyPlace::Tpm)] {
            check(&other, None, waits(), "refuse 1");
            check(&JoinRequest { target: url("gw:1", None).target, ..other.clone() }, None, waits(), "refuse 1");
            // A request that the gateway has not recorded can be changed.
            check(&other, None, Some(Pending { request: None, ..pending("gw:1", None) }), "resume");
            check(&other, Some(held(false)), None, "already");
        }
    }

    #[test]
    fn a_person_is_not_a_machine() {
        let person = |offer: &str, key| JoinRequest {
            offer: Some(Offer::parse(offer).unwrap()),
            key: Some(key),
            ..token("T", "person")
        };
        let file = KeyWish::In(KeyPlace::File);
        check(&person("auto", file), None, None, "ask gw:1 aa T Use");
        check(&person("tpm", file), None, None, "refuse 2");
        check(&person("none", KeyWish::In(KeyPlace::Tpm)), None, None, "refuse 2");
        check(&person("none", KeyWish::Auto), None, None, "refuse 2");
    }

    #[test]
    fn a_new_token_for_the_same_gateway_keeps_the_key() {
        check(&token("U", "machine"), None, Some(pending("gw:1", Some("T"))), "ask gw:1 aa U Use");
        check(&token("U", "machine"), None, Some(pending("gw:1", None)), "ask gw:1 aa U Use");
    }

    #[test]
    fn what_a_person_turned_away_is_asked_again_by_a_person_only() {
        let denied = || {
            let denied = Some(Denied { at: 9, what: "no".into() });
            Some(Pending { token: None, request: None, denied, ..pending("gw:1", None) })
        };
        check(&JoinRequest::default(), None, denied(), "refuse 3");
        let kept = denied().map(|denied| Pending { request: pending("gw:1", Some("e1")).request, ..denied });
        check(&JoinRequest::default(), None, kept.clone(), "resume");
        check(&url("gw:1", None), None, kept, "ask gw:1 look - Replace");
        check(&url("gw:1", None), None, denied(), "ask gw:1 look - Replace");
        check(&url("gw:1", Some(pin("aa"))), None, denied(), "ask gw:1 aa - Replace");
        check(&token("T", "machine"), None, denied(), "ask gw:1 aa T Replace");
    }

    #[test]
    fn another_gateway_gets_another_key() {
        check(&url("other:1", None), None, Some(pending("gw:1", None)), "ask other:1 look - Replace");
        check(&url("gw:1", Some(pin("bb"))), None, Some(pending("gw:1", None)), "ask gw:1 bb - Replace");
    }
}
