//! Decisions of the default policy, and that every error denies.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::facts::Built;
use crate::facts::{Approval, Claim, Machine, Person, Request, Service, Token};
use crate::rules::{Reads, tests::load};
use crate::{DEFAULT_CASES, DEFAULT_POLICY, run_cases};

mod left_out;

/// Noon of 2026-01-01 UTC, a Thursday.
const NOW: u64 = 1_767_268_800;

fn newcomer() -> Newcomer {
    Newcomer {
        key: "ab".repeat(32),
        role: "machine".into(),
        wanted_name: Some("edge-7".into()),
        assurance: 2,
        assurance_of: Some("host".into()),
        claims: BTreeMap::from([
            ("token_id".into(), "t-1".into()),
            ("prior_expired_for".into(), Claim::Number(i64::MIN)),
            ("secure_boot".into(), true.into()),
        ]),
        attributes: BTreeMap::from([("os".into(), "linux".into())]),
        source: Some("192.0.2.1".parse().unwrap()),
        known: true,
        same_device: false,
    }
}

fn machine() -> Machine {
    Machine {
        name: "edge-7".into(),
        owner: Some("bob".into()),
        labels: BTreeMap::from([("site".into(), "oslo".into()), ("a".into(), "b=c".into())]),
        assurance: 3,
        assurance_of: Some("key".into()),
        lineage_age: u64::MAX,
        admitted_by: Some("ann".into()),
        claims: BTreeMap::from([("token_id".into(), "t-1".into())]),
        ..Machine::default()
    }
}

fn ann() -> Person {
    Person { name: "ann".into(), groups: vec!["admins".into(), "staff".into()], locked: false }
}

fn principals() -> [Principal; 3] {
    [Principal::Newcomer(newcomer()), Principal::Machine(machine()), Principal::Person(ann())]
}

fn resources() -> [Resource; 6] {
    [
        Resource::Gateway,
        Resource::Request(Request {
            id: "e-1".into(),
            newcomer: newcomer(),
            approvals_wanted: 2,
            approval: Some(Approval {
                name: "edge-7".into(),
                owner: Some("ann".into()),
                labels: BTreeMap::from([("env".into(), "lab".into())]),
                code_checked: true,
            }),
        }),
        Resource::Machine(machine()),
        Resource::Person(Person { name: "bob".into(), ..Person::default() }),
        Resource::Service(Service { name: "ssh".into(), machine: machine() }),
        Resource::Token(Token {
            role: "person".into(),
            names: vec!["bob".into()],
            groups: vec!["staff".into()],
            labels: BTreeMap::from([("env".into(), "lab".into())]),
            owner: Some("ann".into()),
            uses: 3,
        }),
    ]
}

fn enroll(newcomer: Newcomer) -> Ask {
    Ask { action: Action::Enroll, principal: Principal::Newcomer(newcomer), resource: Resource::Gateway, now: NOW }
}

fn renew() -> Ask {
    Ask { action: Action::Renew, principal: Principal::Machine(machine()), resource: Resource::Gateway, now: NOW }
}

#[track_caller]
fn check(rules: &str, ask: &Ask, want: &str) {
    assert_eq!(decide(&load(rules).unwrap(), ask).explain(), want, "for:\n{rules}");
}

#[test]
fn default_policy_keeps_its_promises() {
    let rules = load(DEFAULT_POLICY).unwrap();
    let report = run_cases(&rules, DEFAULT_CASES).unwrap();
    let failed: Vec<String> =
        report.results.iter().filter(|result| result.mismatch.is_some()).map(ToString::to_string).collect();
    assert_eq!(failed, [""; 0]);
    assert_eq!(report.untested, [""; 0]);
    assert_eq!(report.failures(), 0);
}

/// A locked principal is denied every action on every resource.
#[test]
fn the_locked_may_do_nothing() {
    let rules = load(DEFAULT_POLICY).unwrap();
    let mut asked = 0;
    for action in Action::ALL {
        for resource in resources() {
            for mut principal in principals() {
                match &mut principal {
                    // Refused before any rule is evaluated.
                    Principal::Newcomer(_) => continue,
                    Principal::Machine(machine) => machine.locked = true,
                    Principal::Person(person) => person.locked = true,
                }
                let ask = Ask { action, principal, resource: resource.clone(), now: NOW };
                let Decision::Denied(denial) = decide(&rules, &ask) else {
                    panic!("allowed: {ask:?}");
                };
                if denial.why == Why::Forbidden {
                    assert!(denial.rules.contains(&"locked".to_owned()));
                    asked += 1;
                }
            }
        }
    }
    // All combinations of the schema: 1 approve, 2 renew, 1 login, 1 connect,
    // 1 reach, 3 lock, 10 read, 2 report, 5 administer.
    assert_eq!(asked, 26);
}

/// Rules are not validated for combinations outside the schema, so none is evaluated for those.
#[test]
fn questions_outside_the_schema_are_denied() {
    let rules = load("@id(\"all\") permit(principal, action, resource);").unwrap();
    let mut allowed = 0;
    for action in Action::ALL {
        for principal in principals() {
            for resource in resources() {
                let ask = Ask { action, principal: principal.clone(), resource, now: NOW };
                match decide(&rules, &ask) {
                    Decision::Allowed(grant) => {
                        assert_eq!(grant.rules(), ["all"]);
                        allowed += 1;
                    }
                    // The rule has no `@principals`, so it gives no login.
                    Decision::Denied(denial) if denial.why == Why::NoPrincipals => {
                        assert_eq!((action, denial.rules.as_slice()), (Action::Login, &["all".to_owned()][..]));
                    }
                    Decision::Denied(denial) => {
                        assert!(matches!(denial.why, Why::EvaluationError(_)), "{ask:?}");
                    }
                }
            }
        }
    }
    assert_eq!(allowed, 27);
    let ask = Ask { principal: Principal::Person(ann()), ..enroll(newcomer()) };
    assert!(decide(&rules, &ask).explain().starts_with("denied: the policy failed: the question"));
}

fn build(rules: &Ruleset, ask: &Ask) -> Built {
    let built = rules.vocabulary().build(ask, &Reads::All).unwrap();
    assert_eq!(rules.vocabulary().types(ask), (built.principal.type_name(), built.resource.type_name()));
    built
}

/// The entities that `facts.rs` builds match the schema that rules are validated against.
#[test]
fn everything_built_fits_the_schema() {
    let rules = load(DEFAULT_POLICY).unwrap();
    // Cedar's own check of a request accepts the same combinations as ours, and our context.
    for action in Action::ALL {
        for (principal, resource) in principals().into_iter().flat_map(|p| resources().map(|r| (p.clone(), r))) {
            let built = build(&rules, &Ask { action, principal, resource, now: NOW });
            let known = rules.for_action(action).unwrap();
            let fits = known.of(built.principal.type_name(), built.resource.type_name()).is_some();
            let (principal, resource, schema) = (built.principal, built.resource, Some(rules.schema()));
            let request = cedar_policy::Request::new(principal, known.uid.clone(), resource, built.context, schema);
            assert_eq!(request.is_ok(), fits, "{action}: {request:?}");
        }
    }
    for principal in principals() {
        for resource in resources() {
            let principal = principal.clone();
            let ask = Ask { action: Action::Read, principal, resource, now: u64::MAX };
            let built = build(&rules, &ask);
            Entities::from_entities(built.entities, Some(rules.schema())).unwrap();
        }
    }
    let bare = Ask {
        action: Action::Read,
        principal: Principal::Machine(Machine::default()),
        resource: Resource::Request(Request {
            newcomer: Newcomer { role: "person".into(), ..Newcomer::default() },
            ..Request::default()
        }),
        now: 0,
    };
    let built = build(&rules, &bare);
    Entities::from_entities(built.entities, Some(rules.schema())).unwrap();
}

/// Cedar would skip the failing rule and let the other decide. Overflow is the only error that strict validation cannot rule out.
#[test]
fn a_rule_that_fails_denies() {
    let permit = "@id(\"yes\") permit(principal is Lychgate::Machine, action, resource);";
    let overflow = |effect: &str| {
        format!(
            "{permit}\n@id(\"broken\") {effect}(principal is Lychgate::Machine, \
             action == Lychgate::Action::\"renew\", resource)\n\
             when {{ context.now + 9223372036854775807 > 0 }};"
        )
    };
    check(permit, &renew(), "allowed by rule `yes`");
    for effect in ["forbid", "permit"] {
        let rules = load(&overflow(effect)).unwrap();
        let Decision::Denied(denial) = decide(&rules, &renew()) else {
            panic!("a broken {effect} was skipped");
        };
        assert_eq!(denial.rules, ["broken"]);
        let Why::EvaluationError(error) = denial.why else { panic!("{:?}", denial.why) };
        assert!(error.contains("overflow"), "{error}");
        // Other actions are not affected.
        let resource = Resource::Machine(machine());
        let ask = Ask { action: Action::Read, resource, ..renew() };
        assert_eq!(decide(&rules, &ask).explain(), "allowed by rule `yes`");
    }
}

#[test]
fn bad_facts_deny() {
    let all = "@id(\"all\") permit(principal, action, resource);";
    let with = |change: fn(&mut Newcomer)| {
        let mut newcomer = newcomer();
        change(&mut newcomer);
        enroll(newcomer)
    };
    for (ask, want) in [
        (with(|n| n.role = "gateway".into()), "the role `gateway` is neither `machine` nor `person`"),
        (with(|n| n.assurance = 4), "the assurance 4 is not between 0 and 3"),
        (with(|n| n.assurance_of = Some("tpm".into())), "the assurance is of `tpm` and must be of `host` or `key`"),
        (with(|n| drop(n.claims.insert("rogue".into(), true.into()))), "the claim `rogue` is declared by no attestor"),
        (
            with(|n| drop(n.claims.insert("token_id".into(), 7.into()))),
            "the claim `token_id` has another type than its attestor declared",
        ),
        (
            with(|n| drop(n.attributes.insert("a=b".into(), "c".into()))),
            "the key `a=b` of a label or attribute contains `=`",
        ),
    ] {
        check(all, &ask, &format!("denied: the policy failed: {want}"));
    }
}

#[test]
fn the_strictest_obligation_wins() {
    let rules = "
        @id(\"a\") @lifetime(\"24h\") @approvals(\"1\")
        permit(principal, action == Lychgate::Action::\"request\", resource);
        @id(\"b\") @lifetime(\"90m\")
        permit(principal, action == Lychgate::Action::\"request\", resource);
        @id(\"c\") @approvals(\"3\")
        permit(principal, action == Lychgate::Action::\"request\", resource);
        @id(\"d\") @lifetime(\"60s\") @approvals(\"5\")
        permit(principal, action == Lychgate::Action::\"request\", resource)
        when { principal.assurance == 0 };";
    let Admission::Wait(grant) = admit(&load(rules).unwrap(), &newcomer(), NOW) else {
        panic!("not a wait");
    };
    assert_eq!(grant.rules(), ["a", "b", "c"]);
    assert_eq!(grant.lifetime(), Some(Duration::from_secs(5_400)));
    assert_eq!(grant.approvals(), 3);
    assert_eq!(grant.action(), Action::Request);
    assert_eq!(grant.explain(), "allowed by rules `a`, `b`, `c`, for 90m, with 3 approvals");
}

fn login(groups: &[&str]) -> Ask {
    let groups = groups.iter().map(|&group| group.to_owned()).collect();
    let person = Person { name: "ann".into(), groups, locked: false };
    Ask { action: Action::Login, principal: Principal::Person(person), resource: Resource::Gateway, now: NOW }
}

#[test]
fn the_logins_of_all_rules_that_permit_add_up() {
    let rules = r#"
        @id("all") permit(principal, action, resource) when { !(principal has locked && principal.locked) };
        @id("self") @lifetime("8h") @principals("{name}")
        permit(principal is Lychgate::Person in Lychgate::Group::"staff", action == Lychgate::Action::"login", resource);
        @id("ops") @lifetime("30m") @principals("root, deploy")
        permit(principal is Lychgate::Person in Lychgate::Group::"ops", action == Lychgate::Action::"login", resource);
        @id("never") forbid(principal is Lychgate::Person in Lychgate::Group::"guests", action, resource);"#;
    check(rules, &login(&["staff"]), "allowed by rules `all`, `self`, for 8h, as `ann`");
    check(
        rules,
        &login(&["staff", "ops"]),
        "allowed by rules `all`, `ops`, `self`, for 30m, as `ann`, `deploy`, `root`",
    );
    check(rules, &login(&["ops", "guests"]), "denied: forbidden by rule `never`");
    check(rules, &login(&[]), "denied: allowed by rule `all`, with no `@principals`");
    check("", &login(&["staff"]), "denied: no rule permits it");
    let Decision::Allowed(grant) = decide(&load(rules).unwrap(), &login(&["ops"])) else { panic!() };
    assert_eq!(grant.principals(), ["deploy", "root"]);
    check(rules, &renew(), "allowed by rule `all`");
}

#[test]
fn a_newcomer_is_issued_or_waits_or_is_refused() {
    let enroll = "@id(\"e\") permit(principal, action == Lychgate::Action::\"enroll\", resource);";
    let no_enroll = "@id(\"ne\") forbid(principal, action == Lychgate::Action::\"enroll\", resource);";
    let broken = "@id(\"be\") permit(principal, action == Lychgate::Action::\"enroll\", resource)
        when { context.now + 9223372036854775807 > 0 };";
    let request = "@id(\"r\") permit(principal, action == Lychgate::Action::\"request\", resource);";
    let no_request = "@id(\"nr\") forbid(principal, action == Lychgate::Action::\"request\", resource);";
    for (rules, want) in [
        (vec![], "refuse: denied: no rule permits it"),
        (vec![enroll], "issue: allowed by rule `e`"),
        (vec![request], "wait: allowed by rule `r`"),
        (vec![enroll, request], "issue: allowed by rule `e`"),
        (vec![enroll, no_enroll, request], "wait: allowed by rule `r`"),
        (vec![no_enroll], "refuse: denied: forbidden by rule `ne`"),
        (vec![no_enroll, no_request], "refuse: denied: forbidden by rule `nr`"),
        (vec![request, no_request], "refuse: denied: forbidden by rule `nr`"),
    ] {
        let rules = load(&rules.join("\n")).unwrap();
        let got = match admit(&rules, &newcomer(), NOW) {
            Admission::Issue(grant) => format!("issue: {}", grant.explain()),
            Admission::Wait(grant) => format!("wait: {}", grant.explain()),
            Admission::Refuse(denial) => format!("refuse: {}", denial.explain()),
        };
        assert_eq!(got, want);
    }
    let rules = load(&format!("{broken}\n{request}")).unwrap();
    let Admission::Refuse(denial) = admit(&rules, &newcomer(), NOW) else {
        panic!("a failing rule turned into a wait");
    };
    assert_eq!(denial.rules, ["be"]);
}

#[test]
fn facts_reach_the_rules() {
    let yes = |condition: &str| {
        let rules = format!(
            "@id(\"x\") permit(principal is Lychgate::Newcomer, \
             action == Lychgate::Action::\"enroll\", resource) when {{ {condition} }};"
        );
        matches!(decide(&load(&rules).unwrap(), &enroll(newcomer())), Decision::Allowed(_))
    };
    for (condition, want) in [
        ("principal.key like \"abab*\"", true),
        ("principal.role == Lychgate::Role::\"machine\"", true),
        ("principal has wanted_name && principal.wanted_name == \"edge-7\"", true),
        ("principal.assurance >= 2", true),
        ("principal.assurance >= 3", false),
        ("principal has assurance_of && principal.assurance_of == \"host\"", true),
        ("principal has assurance_of && principal.assurance_of == \"key\"", false),
        ("principal.claims has token_id && principal.claims.token_id == \"t-1\"", true),
        ("principal.claims has token_by", false),
        ("principal.claims has secure_boot && principal.claims.secure_boot", true),
        ("principal.claims has prior_expired_for && principal.claims.prior_expired_for < 0", true),
        ("principal.self_reported.contains(\"os=linux\")", true),
        ("principal.self_reported.contains(\"os=bsd\")", false),
        ("principal has source && principal.source.isInRange(ip(\"192.0.2.0/24\"))", true),
        ("principal has source && principal.source.isLoopback()", false),
        ("principal.known", true),
        ("principal.same_device", false),
        ("context.now == 1767268800 && context.hour == 12 && context.weekday == 4", true),
    ] {
        assert_eq!(yes(condition), want, "{condition}");
    }
}

#[test]
fn facts_of_a_service_reach_the_rules() {
    let yes = |condition: &str| {
        let rules = format!(
            "@id(\"x\") permit(principal is Lychgate::Person, \
             action == Lychgate::Action::\"connect\", resource) when {{ {condition} }};"
        );
        let resource = Resource::Service(Service { name: "ssh".into(), machine: machine() });
        let principal = Principal::Person(ann());
        let ask = Ask { action: Action::Connect, principal, resource, now: NOW };
        matches!(decide(&load(&rules).unwrap(), &ask), Decision::Allowed(_))
    };
    for (condition, want) in [
        ("resource.name == \"ssh\"", true),
        ("resource.machine.labels.contains(\"site=oslo\")", true),
        ("resource.machine.labels.contains(\"a=b=c\")", true),
        ("resource.machine has owner && resource.machine.owner == principal", false),
        ("resource.machine has admitted_by && resource.machine.admitted_by == principal", true),
        ("resource.machine.lineage_age > 86400", true),
        ("principal in Lychgate::Group::\"staff\"", true),
        ("principal in Lychgate::Group::\"guests\"", false),
    ] {
        assert_eq!(yes(condition), want, "{condition}");
    }
}

/// An IPv4-mapped IPv6 address is treated as the IPv4 address.
#[test]
fn mapped_addresses_match_as_ipv4() {
    let rules = "@id(\"lan\") permit(principal, action == Lychgate::Action::\"enroll\", resource)
        when { principal has source && principal.source.isInRange(ip(\"192.0.2.0/24\")) };";
    for (source, want) in [
        ("192.0.2.9", "allowed by rule `lan`"),
        ("::ffff:192.0.2.9", "allowed by rule `lan`"),
        ("2001:db8::1", "denied: no rule permits it"),
    ] {
        let source = Some(source.parse().unwrap());
        check(rules, &enroll(Newcomer { source, ..newcomer() }), want);
    }
}

#[test]
fn names_of_the_same_text_are_different_entities() {
    let rules = "@id(\"self\") permit(principal is Lychgate::Machine,
        action == Lychgate::Action::\"read\", resource is Lychgate::Machine)
        when { resource == principal };";
    let ask = |resource| Ask { action: Action::Read, resource, ..renew() };
    check(rules, &ask(Resource::Machine(machine())), "allowed by rule `self`");
    let other = Machine { name: "edge-8".into(), ..machine() };
    check(rules, &ask(Resource::Machine(other)), "denied: no rule permits it");
    let person = Person { name: "edge-7".into(), ..Person::default() };
    check(rules, &ask(Resource::Person(person)), "denied: no rule permits it");
}

#[test]
fn cases_compare_principals_in_any_order() {
    let rules = load(DEFAULT_POLICY).unwrap();
    let run = |principals: &str| {
        let table = format!(
            "[[case]]\nname = \"c\"\naction = \"login\"\nexpect = \"allow\"\nprincipals = {principals}\n\
             principal.person = {{ name = \"ann\", groups = [\"admins\"] }}"
        );
        run_cases(&rules, &table).unwrap().results[0].to_string()
    };
    assert_eq!(run(r#"["root", "ann"]"#), "ok: c");
    assert_eq!(run(r#"["ann", "root"]"#), "ok: c");
    assert_eq!(run(r#"["root"]"#), "FAILED: c: expected the principals root, got ann, root");
}

#[test]
fn cases_say_what_differs() {
    let rules = load(DEFAULT_POLICY).unwrap();
    let run = |lines: &str| {
        let table = format!(
            "[[case]]\nname = \"c\"\naction = \"enroll\"\n\
             principal.newcomer = {{ role = \"machine\", claims = {{ token_id = \"t\" }} }}\n{lines}"
        );
        match run_cases(&rules, &table) {
            Ok(report) => report.results.iter().map(ToString::to_string).collect(),
            Err(error) => error.to_string(),
        }
    };
    for (lines, want) in [
        ("expect = \"allow\"", "ok: c"),
        ("expect = \"allow\"\nlifetime = \"1d\"\napprovals = 1\nrule = \"token-machine\"", "ok: c"),
        ("expect = \"deny\"", "FAILED: c: expected deny, got allow: allowed by rule `token-machine`, for 24h"),
        ("expect = \"wait\"", "FAILED: c: expected wait, got allow: allowed by rule `token-machine`, for 24h"),
        (
            "expect = \"allow\"\nrule = \"owner\"",
            "FAILED: c: expected rule `owner` to decide: allowed by rule `token-machine`, for 24h",
        ),
        ("expect = \"allow\"\nlifetime = \"12h\"", "FAILED: c: expected a lifetime of 12h, got 24h"),
        ("expect = \"allow\"\napprovals = 2", "FAILED: c: expected 2 approvals, got 1"),
        ("expect = \"allow\"\nrule = \"ownr\"", "the case `c` cannot be asked: there is no rule `ownr`"),
        (
            "expect = \"deny\"\nlifetime = \"12h\"",
            "the case `c` cannot be asked: a refusal has neither `lifetime` nor `approvals`",
        ),
        (
            "expect = \"allow\"\nprincipals = [\"root\"]",
            "the case `c` cannot be asked: only a `login` that is allowed has `principals`",
        ),
        (
            "expect = \"allow\"\nlifetime = \"1y\"",
            "the case `c` cannot be asked: write a number and one unit: `90s`, `30m`, `12h` or `1d`",
        ),
        (
            "expect = \"allow\"\nresource = \"token\"",
            "the case `c` cannot be asked: `enroll` is asked by a newcomer, of the gateway",
        ),
    ] {
        assert_eq!(run(lines), want, "{lines}");
    }
}

#[test]
fn tables_that_cannot_be_read_say_where() {
    let rules = load(DEFAULT_POLICY).unwrap();
    for (table, want) in [
        ("", "there is no case; write each under `[[case]]`"),
        ("[[cases]]\nname = \"c\"", "TOML parse error at line 1, column 3"),
        ("[[case]]\nname = 1", "TOML parse error at line 2, column 8"),
        (
            "[[case]]\nname = \"c\"\naction = \"fly\"\nprincipal.person = { name = \"a\" }\nexpect = \"deny\"",
            "the case `c` cannot be asked: `fly` is not an action",
        ),
        (
            "[[case]]\nname = \"c\"\naction = \"read\"\nprincipal.person = { name = \"a\" }\nexpect = \"wait\"",
            "the case `c` cannot be asked: `read` never ends in `wait`; only `enroll` does",
        ),
        (
            "[[case]]\nname = \"c\"\naction = \"read\"\nprincipal.person = { name = \"a\", group = [] }\nexpect = \"deny\"",
            "TOML parse error at line 4, column 34",
        ),
    ] {
        let got = run_cases(&rules, table).unwrap_err().to_string();
        assert!(got.contains(want), "{got}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// No text in a fact can change another fact or an identity.
    #[test]
    fn hostile_text_is_only_text(text in any::<String>(), now in any::<u64>()) {
        static RULES: LazyLock<Ruleset> = LazyLock::new(|| load(DEFAULT_POLICY).unwrap());
        let rules = &*RULES;
        let stranger = Newcomer {
            key: text.clone(),
            role: "machine".into(),
            wanted_name: Some(text.clone()),
            attributes: BTreeMap::from([("k".into(), text.clone())]),
            ..Newcomer::default()
        };
        let wait = matches!(admit(rules, &stranger, now), Admission::Wait(_));
        prop_assert!(wait);
        if text != "admins" {
            let person = Person { name: text.clone(), groups: vec![text], locked: false };
            let ask = Ask {
                action: Action::Administer,
                principal: Principal::Person(person),
                resource: Resource::Gateway,
                now,
            };
            let denied = matches!(decide(rules, &ask), Decision::Denied(_));
            prop_assert!(denied);
        }
    }
}

/// Prints the time of a decision: `cargo test -p policy --release -- --ignored --nocapture speed`.
#[test]
#[ignore = "prints a measurement"]
#[allow(clippy::disallowed_methods, clippy::disallowed_types)]
fn speed() {
    let rules = load(DEFAULT_POLICY).unwrap();
    let ask = enroll(newcomer());
    let rounds = 5_000;
    let start = std::time::Instant::now();
    for _ in 0..rounds {
        assert!(matches!(decide(&rules, &ask), Decision::Allowed(_)));
    }
    println!("enroll: {:?} each", start.elapsed() / rounds);
    let ask = renew();
    let start = std::time::Instant::now();
    for _ in 0..rounds {
        assert!(matches!(decide(&rules, &ask), Decision::Allowed(_)));
    }
    println!("renew: {:?} each", start.elapsed() / rounds);
}
