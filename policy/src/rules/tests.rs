//! Loading: policies that are accepted, and the exact text and position of complaints.

use std::borrow::Cow;

use proptest::prelude::*;

use super::*;
use crate::facts::ClaimType;
use crate::{DEFAULT_POLICY, SCHEMA};

/// Claims as the attestors of a gateway declare them.
pub(crate) const CLAIMS: [ClaimDecl; 6] = [
    ClaimDecl { name: Cow::Borrowed("token_id"), kind: ClaimType::Text },
    ClaimDecl { name: Cow::Borrowed("token_owner"), kind: ClaimType::Text },
    ClaimDecl { name: Cow::Borrowed("token_by"), kind: ClaimType::Text },
    ClaimDecl { name: Cow::Borrowed("prior_name"), kind: ClaimType::Text },
    ClaimDecl { name: Cow::Borrowed("prior_expired_for"), kind: ClaimType::Number },
    ClaimDecl { name: Cow::Borrowed("secure_boot"), kind: ClaimType::Bool },
];

pub(crate) fn load(text: &str) -> Result<Ruleset, Vec<Complaint>> {
    Ruleset::load(&[Source { name: "p.cedar", text }], &CLAIMS)
}

fn complaints(text: &str) -> Vec<String> {
    match load(text) {
        Ok(_) => Vec::new(),
        Err(complaints) => complaints.iter().map(ToString::to_string).collect(),
    }
}

#[track_caller]
fn check(text: &str, want: &[&str]) {
    assert_eq!(complaints(text), want, "for:\n{text}");
}

#[test]
fn default_policy_loads_and_names_its_rules() {
    let rules = load(DEFAULT_POLICY).unwrap();
    let ids: Vec<&str> = rules.rule_ids().collect();
    assert_eq!(
        ids,
        [
            "admins",
            "admins-connect",
            "admins-login",
            "admins-make-admins",
            "forked",
            "locked",
            "locked-machine",
            "machine-reads-itself",
            "machine-reports-itself",
            "owner",
            "owner-connects",
            "person-reads-themselves",
            "rejoin-machine",
            "rejoin-person",
            "renew-machine",
            "renew-person",
            "stranger-machine",
            "token-machine",
            "token-person",
            "two-check-the-code",
        ]
    );
    let place = rules.place("token-machine").unwrap().to_string();
    let line: usize = place.strip_prefix("p.cedar:").unwrap().parse().unwrap();
    assert_eq!(DEFAULT_POLICY.lines().nth(line - 1), Some("@id(\"token-machine\")"));
    assert_eq!(rules.place("nobody"), None);
}

#[test]
fn complaints_are_worded_as_pinned() {
    let got = Ruleset::load(&[Source { name: "bad.cedar", text: include_str!("../../testdata/bad.cedar") }], &CLAIMS)
        .unwrap_err()
        .iter()
        .map(|complaint| format!("{complaint}\n"))
        .collect::<String>();
    let want = include_str!("../../testdata/bad.complaints.txt");
    assert!(got == want, "pinned:\n{want}\nnow:\n{got}");
}

#[test]
fn syntax_errors_point_at_the_token() {
    for (text, want) in [
        ("permit(principal, action, resource)", "p.cedar:1:36: unexpected end of input (expected `;` or identifier)"),
        (
            "@id(\"a\")\npermit(principal,, action, resource);",
            "p.cedar:2:18: unexpected token `,` (expected `)` or identifier)",
        ),
        (
            "@id(\"é\") permit(principal, action, resource) when { 'x' };",
            "p.cedar:1:53: invalid token (strings must use double quotes, not single quotes)",
        ),
        (
            "@id(\"a\") permit(principal, action, resource) when { \"open };",
            "p.cedar:1:53: invalid token (try checking that all strings are closed properly)",
        ),
        ("@id(\"a\") @id(\"b\") permit(principal, action, resource);", "p.cedar:1:10: duplicate annotation: @id"),
        (
            "@id(\"a\") permit(principal == ?principal, action, resource);",
            "p.cedar:1:1: a rule cannot have slots (write the entity instead of `?principal` or `?resource`)",
        ),
    ] {
        check(text, &[want]);
    }
}

#[test]
fn a_broken_file_does_not_hide_the_mistakes_of_another() {
    let sources = [
        Source { name: "b.cedar", text: "permit" },
        Source { name: "a.cedar", text: "\n  @idd(\"x\") permit(principal, action, resource);" },
    ];
    let got: Vec<String> = Ruleset::load(&sources, &CLAIMS)
        .unwrap_err()
        .iter()
        .map(|complaint| format!("{}:{}:{}", complaint.file, complaint.line, complaint.column))
        .collect();
    assert_eq!(got, ["b.cedar:1:7", "a.cedar:2:3", "a.cedar:2:3"]);
}

#[test]
fn an_id_is_unique_across_files() {
    let text = "@id(\"x\") permit(principal is Lychgate::Person, action, resource);";
    let sources = [Source { name: "a.cedar", text }, Source { name: "b.cedar", text }];
    let got: Vec<String> = Ruleset::load(&sources, &CLAIMS).unwrap_err().iter().map(ToString::to_string).collect();
    assert_eq!(got, ["b.cedar:1:1: the `@id` `x` is taken (its first rule is at a.cedar:1)"]);
}

#[test]
fn every_has_names_a_declared_fact() {
    let rule = |condition: &str| {
        format!(
            "@id(\"x\")\nforbid(principal is Lychgate::Newcomer, action, resource)\n\
             when {{ principal.known  || ({condition}) }};"
        )
    };
    for (condition, want) in [
        ("principal.claims has token_id", None),
        ("principal.claims has \"token_id\"", None),
        ("principal has claims.token_id", None),
        ("principal has wanted_name", None),
        (
            "principal.claims has tokenid",
            Some("p.cedar:3:50: no attestor declares the claim `tokenid` (did you mean `token_id`?)"),
        ),
        (
            "!(principal.claims has \"tokenid\")",
            Some("p.cedar:1:1: no attestor declares the claim `tokenid` (did you mean `token_id`?)"),
        ),
        (
            "principal has claims.tokenid",
            Some("p.cedar:3:50: no attestor declares the claim `tokenid` (did you mean `token_id`?)"),
        ),
        (
            "principal.claims has quote",
            Some("p.cedar:3:50: no attestor declares the claim `quote` (the schema lists every claim)"),
        ),
        (
            "principal has wantedname",
            Some("p.cedar:3:43: nothing has the attribute `wantedname` (did you mean `wanted_name`?)"),
        ),
    ] {
        check(&rule(condition), want.as_slice());
    }
}

#[test]
fn claims_must_be_declared_sensibly() {
    let declare = |claims: &[ClaimDecl]| -> Vec<String> {
        match Ruleset::load(&[], claims) {
            Ok(_) => Vec::new(),
            Err(complaints) => complaints.into_iter().map(|c| c.message).collect(),
        }
    };
    let text = |name: &'static str| ClaimDecl { name: name.into(), kind: ClaimType::Text };
    let number = |name: &'static str| ClaimDecl { name: name.into(), kind: ClaimType::Number };
    assert_eq!(declare(&[]), [""; 0]);
    // Two attestors may declare the same claim, and Cedar's keywords are valid names.
    assert_eq!(declare(&[text("a"), text("a"), text("if"), text("in")]), [""; 0]);
    assert_eq!(
        declare(&[text("a"), number("a"), text("B"), text(""), text("a\"?: Long, \"b")]),
        [
            "two attestors declare the claim `a` with different types",
            "the claim `B` must be lower-case letters, digits and `_`, a letter first",
            "the claim `` must be lower-case letters, digits and `_`, a letter first",
            "the claim `a\\\"?: Long, \\\"b` must be lower-case letters, digits and `_`, a letter first",
        ]
    );
}

#[test]
fn no_rules_is_a_policy_and_the_digest_tells_texts_apart() {
    let digest = |texts: &[&str], claims: &[ClaimDecl]| {
        let sources: Vec<Source<'_>> = texts.iter().map(|text| Source { name: "p", text }).collect();
        Ruleset::load(&sources, claims).unwrap().digest().to_owned()
    };
    let digests = [
        digest(&[], &[]),
        digest(&[""], &[]),
        digest(&["", ""], &[]),
        digest(&["// a"], &[]),
        digest(&["// ", "// a"], &[]),
        digest(&[], &CLAIMS),
    ];
    let distinct: std::collections::HashSet<&String> = digests.iter().collect();
    assert_eq!(distinct.len(), digests.len());
    assert_eq!(digest(&["// a"], &CLAIMS), digest(&["// a"], &CLAIMS));
    assert!(digests.iter().all(|digest| digest.len() == 64));
}

/// The schema is the rule author's reference: each fact, type and action has a comment.
#[test]
fn every_fact_in_the_schema_is_explained() {
    let mut previous = "";
    let mut explained = 0;
    for line in SCHEMA.lines().map(str::trim) {
        let declares = ["entity ", "action ", "type "].iter().any(|word| line.starts_with(word));
        let fact = line
            .split_once(':')
            .is_some_and(|(name, _)| name.trim_end_matches('?').chars().all(|c| c.is_ascii_lowercase() || c == '_'));
        let of_action =
            line.starts_with("principal: [") || line.starts_with("resource: [") || line.starts_with("context: ");
        if (declares || fact) && !of_action {
            assert!(previous.starts_with("//"), "no comment above `{line}`");
            explained += 1;
        }
        previous = line;
    }
    assert!(explained > 40, "{explained}");
    assert_eq!(SCHEMA.matches("// <claims>").count(), 1);
}

#[test]
fn the_schema_has_our_actions_and_no_action_groups() {
    let (_, schema) = schema(&CLAIMS).unwrap();
    let mut declared: Vec<String> = schema.actions().map(|uid| uid.id().unescaped().to_owned()).collect();
    declared.sort();
    let mut ours: Vec<&str> = Action::ALL.iter().map(|action| action.as_str()).collect();
    ours.sort_unstable();
    assert_eq!(declared, ours);
    assert_eq!(actions().len(), Action::ALL.len());
    // `covers` treats `in [..]` as a list of actions.
    assert_eq!(schema.action_groups().count(), 0);
}

/// The deepest rules within the limits, loaded on a thread with the stack size of a runtime's. Each rule is invalid and must be
/// reported: a validator that runs out of stack reports nothing.
#[test]
fn the_deepest_rule_allowed_is_still_validated() {
    let shapes: [fn(usize) -> String; 8] = [
        |n| format!("x&&{}", vec!["1==1"; n / 6].join("&&")).replacen('x', "principal.wrong", 1),
        |n| format!("principal.wrong+{}>0", vec!["1"; n / 2 - 20].join("+")),
        |n| format!("principal{}", ".wrong".repeat(n / 6)),
        |n| format!("principal{}", ".a".repeat(n / 2 - 10)),
        |n| format!("{}principal.wrong", "if principal.locked then 1==1else ".repeat(n / 32)),
        |n| format!("principal{}", "[\"a\"]".repeat(n / 4 - 10)),
        |_| format!("{}principal.wrong{}", "[".repeat(30), "]".repeat(30)),
        |_| format!("{}principal.wrong{}", "(1==1&&".repeat(30), ")".repeat(30)),
    ];
    for (index, shape) in shapes.iter().enumerate() {
        let text = format!("@id(\"x\")permit(principal is Lychgate::Person,action,resource)when{{{}}};", shape(4_000));
        let got = complaints(&text);
        let found = got.iter().any(|line| line.contains("attribute `wrong") || line.contains("attribute `a"));
        assert!(found, "shape {index}: {:.300?}", got);
    }
}

/// A rule as deep as the limits allow loads. Evaluated on a small stack it gives a decision or denies.
#[test]
fn the_deepest_rule_allowed_can_be_asked() {
    let text = format!(
        "@id(\"x\")permit(principal is Lychgate::Person,action,resource)when{{1+{}>0}};",
        vec!["context.now"; 300].join("+")
    );
    let rules = load(&text).unwrap();
    let ask = crate::Ask {
        action: Action::Renew,
        principal: crate::Principal::Person(crate::Person::default()),
        resource: crate::Resource::Gateway,
        now: 1,
    };
    let got = crate::decide(&rules, &ask).explain();
    assert!(got == "allowed by rule `x`" || got.contains("recursion limit"), "{got}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn mutated_policies_never_panic(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0..4_usize, "\\PC{0,6}|[(){};,.\"@=&|!<>?\\[\\]]{1,4}"), 1..6),
    ) {
        let mut text = DEFAULT_POLICY.to_owned();
        for (index, cut, insert) in edits {
            let start = text.floor_char_boundary(index.index(text.len() + 1));
            let end = text.ceil_char_boundary(text.len().min(start + cut * cut));
            text.replace_range(start..end, &insert);
        }
        if let Err(complaints) = load(&text) {
            prop_assert!(!complaints.is_empty());
            let lines = text.split('\n').count();
            for complaint in complaints {
                prop_assert!((1..=lines).contains(&complaint.line));
                prop_assert!(!complaint.to_string().contains('\n'));
            }
        }
    }
}

#[track_caller]
fn advised(rule: &str, want: Option<&str>) {
    let rules = load(&format!("@id(\"r\")\n{rule}")).unwrap();
    let got: Vec<&str> = rules.advice().iter().map(|advice| advice.message.as_str()).collect();
    assert_eq!(got, want.into_iter().collect::<Vec<_>>(), "{rule}");
}

#[test]
fn what_was_hardly_meant_is_said() {
    assert_eq!(load(DEFAULT_POLICY).unwrap().advice(), []);
    let everybody = Some("the rule permits everybody everything");
    advised("permit (principal, action, resource);", everybody);
    advised("forbid (principal, action, resource);", None);
    advised("permit (principal, action, resource) when { context.hour > 6 };", None);
    let admits = |condition: &str| {
        format!(
            "permit (principal is Lychgate::Newcomer, action == Lychgate::Action::\"enroll\", resource) {condition};"
        )
    };
    let own_word = Some("the rule admits newcomers by what they say of themselves");
    let nothing = Some("the rule admits newcomers by nothing that was checked");
    advised(&admits("when { principal.self_reported.contains(\"site=lab\") }"), own_word);
    advised(&admits("when { principal.role == Lychgate::Role::\"machine\" }"), nothing);
    advised(&admits(""), nothing);
    advised(&admits("when { principal.self_reported.contains(\"a=b\") && principal.claims has token_id }"), None);
    advised(&admits("when { principal.known }"), None);
}

#[test]
fn an_action_without_its_namespace_is_told_how_it_is_written() {
    let said = complaints("@id(\"r\")\npermit (principal, action == Action::\"approve\", resource);");
    assert!(said.iter().any(|line| line.contains("write `Lychgate::Action::\"approve\"`")), "{said:?}");
}
