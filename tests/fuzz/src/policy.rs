//! Policies and their tables of cases. Each complaint names a place; what is loaded allows nothing that no rule permits,
//! and nothing at all once a rule forbids everything.

use policy::{
    Action, Admission, Ask, Claim, DEFAULT_CASES, DEFAULT_POLICY, Decision, Machine, Newcomer, Person, Principal,
    Resource, Ruleset, Source, admit, decide, run_cases,
};

use crate::Outcome;

/// Between a policy and its cases.
const CUT: &str = "\n#### cases\n";

/// Judges one input.
pub fn check(data: &[u8]) -> Outcome {
    let text = String::from_utf8_lossy(data);
    let (policy, cases) = text.split_once(CUT).unwrap_or((&text, ""));
    let Some(rules) = load(policy) else { return Outcome::Refused };
    let silent = !policy.contains("permit");
    let closed = load(&format!("{policy}\n@id(\"fuzz-nobody\") forbid (principal, action, resource);"));
    for newcomer in newcomers() {
        let admission = admit(&rules, &newcomer, NOW);
        assert!(!silent || refused(&admission), "nobody permits it: {admission:?}");
        if let Some(closed) = &closed {
            assert!(refused(&admit(closed, &newcomer, NOW)), "forbidden, and done");
        }
    }
    for ask in asks() {
        let decision = decide(&rules, &ask);
        assert!(!silent || matches!(decision, Decision::Denied(_)), "nobody permits it: {decision:?}");
        if let Some(closed) = &closed {
            assert!(matches!(decide(closed, &ask), Decision::Denied(_)), "forbidden, and done");
        }
    }
    if let Ok(report) = run_cases(&rules, cases) {
        assert!(report.failures() <= report.results.len());
    }
    Outcome::Taken
}

const NOW: u64 = 1_772_366_400;

fn load(text: &str) -> Option<Ruleset> {
    match Ruleset::load(&[Source { name: "fuzz.cedar", text }], &gateway::attest::claims().collect::<Vec<_>>()) {
        Ok(rules) => Some(rules),
        Err(complaints) => {
            assert!(!complaints.is_empty(), "refused without a word");
            for complaint in complaints {
                assert!(complaint.line >= 1 && complaint.column >= 1, "{complaint}");
                assert!(complaint.line <= text.matches('\n').count() + 1, "{complaint}");
                assert_eq!(complaint.to_string().lines().count(), 1, "{complaint}");
            }
            None
        }
    }
}

const fn refused(admission: &Admission) -> bool {
    matches!(admission, Admission::Refuse(_))
}

fn newcomers() -> [Newcomer; 3] {
    let stranger = Newcomer { key: "00".repeat(32), role: "machine".to_owned(), ..Newcomer::default() };
    let claims = [("token_id".to_owned(), Claim::Text("t".to_owned()))].into();
    let with_token = Newcomer { claims, assurance: 1, wanted_name: Some("edge-07".to_owned()), ..stranger.clone() };
    let person = Newcomer { role: "person".to_owned(), known: true, ..with_token.clone() };
    [stranger, with_token, person]
}

fn asks() -> Vec<Ask> {
    let machine = Machine { name: "edge-07".to_owned(), owner: Some("olga".to_owned()), ..Machine::default() };
    let person = Person { name: "olga".to_owned(), groups: vec!["admins".to_owned()], ..Person::default() };
    let ask =
        |action, principal: &Principal, resource| Ask { action, principal: principal.clone(), resource, now: NOW };
    let (machines, people) = (Principal::Machine(machine.clone()), Principal::Person(person));
    vec![
        ask(Action::Renew, &machines, Resource::Gateway),
        ask(Action::Read, &machines, Resource::Machine(machine.clone())),
        ask(Action::Lock, &people, Resource::Machine(machine)),
        ask(Action::Administer, &people, Resource::Token(policy::Token::default())),
        ask(Action::Administer, &people, Resource::Gateway),
    ]
}

/// The rules of a new gateway one by one, with some of their cases; and rules with something wrong. The whole would take
/// so long for each input that hardly any were tried.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let case = DEFAULT_CASES.split("[[case]]").nth(1).map(|case| format!("{CUT}[[case]]{case}")).unwrap_or_default();
    let mut seeds: Vec<String> = DEFAULT_POLICY.split_inclusive(";\n").map(|rule| format!("{rule}{case}")).collect();
    let bent = [
        "permit (principal, action, resource);",
        "@id(\"a\") @lifetime(\"1y\") permit (principal, action == Lychgate::Action::\"renew\", resource);",
        "@id(\"a\") forbid (principal, action, resource) when { principal.colour == 1 };",
        "@id(\"a\") permit (principal, action, resource) when { context.time > 9223372036854775807 + 1 };",
        "@id(\"a\")\npermit (principal is Lychgate::Newcomer, action, resource) when { principal.claims has nothing };",
        "@id(\"a\") permit (principal, action, resource) unless { if true then (1 == 2) else [1, {x: ip(\"::1\")}] };",
    ];
    seeds.extend(bent.map(str::to_owned));
    seeds.into_iter().map(String::into_bytes).collect()
}
