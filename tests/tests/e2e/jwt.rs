//! Tokens of other issuers: OpenSSL signs them, and a server in Python has the keys. It looks like GitHub Actions to its jobs.

use std::time::Duration;

use serde_json::{Value, json};
use tests::cli::Lychgate;
use tests::gateway::{Gateway, Setup};
use tests::issuer::{Issuer, SECRET};
use tests::program::Ended;
use toml::Table;

use crate::{assert_says, audit};

/// The rule in the operator's guide, unchanged.
fn rule_of_the_guide() -> String {
    const GUIDE: &str = include_str!("../../../docs/operator.md");
    let begin = GUIDE.find("    @id(\"ci-jobs\")").expect("the rule is in the guide");
    let lines = GUIDE[begin..].lines().take_while(|line| line.starts_with("    "));
    lines.map(|line| format!("{}\n", &line[4..])).collect()
}

/// A job that the rule admits.
fn job() -> Value {
    json!({
        "repository_id": "1296269", "repository_owner_id": "9919", "event_name": "push", "ref": "refs/heads/main",
        "job_workflow_ref": "octo/repo/.github/workflows/ci.yml@refs/heads/main", "runner_environment": "github-hosted",
    })
}

/// The same with another claim.
fn other_job(claim: &str, value: &str) -> Value {
    let mut job = job();
    job[claim] = value.into();
    job
}

fn gateway(section: &str, rules: &str) -> Gateway {
    let section: Table = section.parse().unwrap();
    Setup::default().config("attest.jwt", section).policy(rules).start()
}

/// A job of GitHub Actions, as far as the client can tell.
fn in_a_job(machine: &Lychgate, issuer: &Issuer) -> Lychgate {
    let url = format!("ACTIONS_ID_TOKEN_REQUEST_URL={}/token?api-version=2.0", issuer.name());
    let ca = format!("CURL_CA_BUNDLE={}", issuer.ca().display());
    machine.under(&["env", "LYCHGATE_JWT=", &url, &format!("ACTIONS_ID_TOKEN_REQUEST_TOKEN={SECRET}"), &ca])
}

fn join(gateway: &Gateway, machine: &Lychgate, name: &str) -> Ended {
    let (url, pin) = (gateway.enroll().url(""), gateway.info().pin);
    machine.run(&["join", &url, "--pin", &pin, "--name", name, "--no-wait", "--wait", "1s"])
}

#[test]
fn a_job_joins_by_the_rule_of_the_guide_and_renews() {
    let mut issuer = Issuer::new();
    issuer.start();
    issuer.job(&job());
    let (name, ca) = (issuer.name(), issuer.ca());
    let section = format!(
        "[issuers.ci]\npreset = 'github-actions'\nissuer = '{name}'\nca = '{}'\nprivate_network = true\n\
         require.repository_owner_id = '9919'\n",
        ca.display()
    );
    let gateway = gateway(&section, &rule_of_the_guide());
    let alice = gateway.first_person();
    let machine = in_a_job(&gateway.client("job-1"), &issuer);
    let joined = join(&gateway, &machine, "job-1");
    assert_eq!(joined.code, 0, "{}", joined.stderr);
    assert!(joined.stderr.contains("offering the evidence of this machine: jwt"), "{}", joined.stderr);
    let verified = || alice.json(&["machines", "show", "job-1"])["verified"].clone();
    assert_eq!(verified()["jwt_issuer"], "ci");
    assert_eq!(verified()["jwt_bound"], "key");
    assert_eq!(verified()["jwt_github_repository_id"], "1296269");
    // It is shown again at renewals: the first one is sent before anything was heard of what renewals may carry.
    machine.ok(&["renew", "--force"]);
    machine.ok(&["renew", "--force"]);
    assert!(!audit(&alice, "evidence.taken").is_empty());
    // Another branch is not admitted by the rule, and would wait; another owner is refused at once.
    issuer.job(&other_job("ref", "refs/heads/odd"));
    let waits = join(&gateway, &in_a_job(&gateway.client("job-2"), &issuer), "job-2");
    assert_eq!(waits.code, 4, "{}", waits.stderr);
    issuer.job(&other_job("repository_owner_id", "9920"));
    let refused = join(&gateway, &in_a_job(&gateway.client("job-3"), &issuer), "job-3");
    assert_ne!(refused.code, 0);
    assert_says(&refused, refused.code, "the claim `repository_owner_id` is \"9920\", which is not admitted");
    // What a token says is nowhere in the log.
    let log = gateway.log();
    assert!(!log.contains("eyJ"), "{log}");
}

/// The trust that pods of a cluster get by a file of keys.
fn cluster(issuer: &Issuer) -> String {
    format!(
        "[issuers.cluster]\npreset = 'kubernetes'\nissuer = '{}'\nkeys = '{}'\n",
        issuer.name(),
        issuer.keys().display()
    )
}

const PODS: &str = r#"
@id("pods")
@lifetime("24h")
permit (principal is Lychgate::Newcomer, action == Lychgate::Action::"enroll", resource)
when { principal.claims has jwt_kubernetes_namespace && principal.claims.jwt_kubernetes_namespace == "db" };
"#;

fn pod(uid: &str) -> Value {
    json!({ "kubernetes.io": {
        "namespace": "db", "serviceaccount": { "name": "db", "uid": "sa-1" }, "pod": { "name": "db-0", "uid": uid },
    } })
}

/// A machine with this token in a file.
fn with_token(gateway: &Gateway, name: &str, token: &str) -> Lychgate {
    let file = gateway.room().join(format!("{name}.token"));
    std::fs::write(&file, format!("{token}\n")).unwrap();
    gateway.client(name).under(&["env".to_owned(), format!("LYCHGATE_JWT={}", file.display())])
}

#[test]
fn a_token_in_a_file_counts_once_and_the_machine_renews_all_the_same() {
    let issuer = Issuer::new();
    let gateway = gateway(&cluster(&issuer), PODS);
    let alice = gateway.first_person();
    let audience = "lychgate://test.example";
    let token = issuer.mint("1", audience, &pod("pod-1"));
    let machine = with_token(&gateway, "db-0", &token);
    assert_eq!(join(&gateway, &machine, "db-0").code, 0);
    let verified = || alice.json(&["machines", "show", "db-0"])["verified"].clone();
    assert_eq!((&verified()["jwt_bound"], &verified()["jwt_machine"]), (&"use".into(), &"kubernetes:pod-1".into()));
    let thief = join(&gateway, &with_token(&gateway, "db-1", &token), "db-1");
    assert_ne!(thief.code, 0);
    assert_says(&thief, thief.code, "the JWT was used already for another key");
    // The token that is still in the file is no reason not to renew.
    machine.ok(&["renew", "--force"]);
    let again = machine.run(&["renew", "--force"]);
    assert_eq!(again.code, 0, "{}", again.stderr);
    assert_says(&again, 0, "renewing without the evidence `jwt`: the JWT was used already for another key");
    // The kubelet has written another one, and then the issuer signs with a new key.
    with_token(&gateway, "db-0", &issuer.mint("1", audience, &pod("pod-1")));
    machine.ok(&["renew", "--force"]);
    assert_eq!(verified()["jwt_issuer"], "cluster");
    issuer.make_key("2");
    issuer.publish(&["2"]);
    std::thread::sleep(Duration::from_secs(6));
    with_token(&gateway, "db-0", &issuer.mint("2", audience, &pod("pod-1")));
    machine.ok(&["renew", "--force"]);
    assert_eq!(verified()["jwt_issuer"], "cluster");
    for (kid, audience, more, says) in [
        ("1", audience, pod("pod-2"), "it is signed by none of the keys that its issuer publishes now"),
        ("2", "https://api.example", pod("pod-2"), "must be for \"lychgate://test.example\" alone"),
        ("2", audience, json!({}), "the claim `namespace` is missing"),
        ("2", audience, json!({ "iss": "https://api.example" }), "which this gateway does not know"),
        ("2", audience, json!({ "exp": 1_000_000 }), "the JWT does not hold: it ended "),
    ] {
        let refused = join(&gateway, &with_token(&gateway, "db-2", &issuer.mint(kid, audience, &more)), "db-2");
        assert_ne!(refused.code, 0);
        assert_says(&refused, refused.code, says);
    }
}

#[test]
fn an_issuer_that_does_not_answer_is_named() {
    let issuer = Issuer::new();
    let section = format!(
        "[issuers.ci]\npreset = 'oidc'\nissuer = '{0}'\nkeys = '{0}/.well-known/jwks'\naudience = 'us'\nprivate_network = true\n",
        issuer.name()
    );
    let gateway = gateway(&section, "");
    let refused = join(&gateway, &with_token(&gateway, "job-1", &issuer.mint("1", "us", &json!({}))), "job-1");
    assert_ne!(refused.code, 0);
    assert_says(&refused, refused.code, "the keys of the issuer `ci` cannot be had");
    assert!(gateway.log().contains("a document cannot be fetched"), "{}", gateway.log());
}
