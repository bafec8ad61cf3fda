//! Instances of clouds, by documents that look like those of AWS and of Azure.

use serde_json::{Value, json};
use tests::cli::Lychgate;
use tests::cloud::Cloud;
use tests::gateway::{Gateway, Setup};
use tests::program::Ended;
use toml::Table;

use crate::{assert_says, audit};

/// The rule in the operator's guide, unchanged.
fn rule_of_the_guide() -> String {
    const GUIDE: &str = include_str!("../../../docs/operator.md");
    let begin = GUIDE.find("    @id(\"cloud-instances\")").expect("the rule is in the guide");
    let lines = GUIDE[begin..].lines().take_while(|line| line.starts_with("    "));
    lines.map(|line| format!("{}\n", &line[4..])).collect()
}

/// Whatever the section lets in.
const RULE: &str = r#"
@id("clouds")
@lifetime("24h")
permit (principal is Lychgate::Newcomer, action == Lychgate::Action::"enroll", resource)
when { principal.claims has cloud_document };
"#;

fn gateway(section: &str, rules: &str) -> Gateway {
    let section: Table = section.parse().unwrap();
    Setup::default().config("attest.cloud", section).policy(rules).start()
}

fn join(gateway: &Gateway, machine: &Lychgate, name: &str) -> Ended {
    let (url, pin) = (gateway.enroll().url(""), gateway.info().pin);
    machine.run(&["join", &url, "--pin", &pin, "--name", name, "--no-wait", "--wait", "1s"])
}

fn verified(alice: &Lychgate, name: &str) -> Value {
    alice.json(&["machines", "show", name])["verified"].clone()
}

#[test]
fn an_instance_with_a_nitro_tpm_joins_and_renews_as_what_was_measured() {
    let cloud = Cloud::new();
    let image = |pcr4: &str| {
        let pcrs = json!({ "0": "aa".repeat(48), "1": "bb".repeat(48), "2": "cc".repeat(48), "4": pcr4.repeat(48) });
        cloud.instance(&json!({ "module_id": "i-1234567890abcdef0-tpm0000000000000000", "pcrs": pcrs }));
    };
    let expected = "44".repeat(48);
    let section = format!("[aws-nitro]\nroot = '{}'\npcrs.4 = '{expected}'\n", cloud.file("root.pem").display());
    let gateway = gateway(&section, RULE);
    let alice = gateway.first_person();
    let machine = gateway.client("machine").under(&cloud.wrapper_with_nitro());
    image("55");
    let refused = join(&gateway, &machine, "edge-1");
    assert_says(&refused, refused.code, "PCR 4 is 5555");
    image("44");
    let joined = join(&gateway, &machine, "edge-1");
    assert_eq!(joined.code, 0, "{}", joined.stderr);
    assert!(joined.stderr.contains("offering the evidence of this machine: cloud"), "{}", joined.stderr);
    let shown = verified(&alice, "edge-1");
    assert_eq!((&shown["cloud_device"], &shown["cloud_bound"]), (&"aws i-1234567890abcdef0".into(), &"key".into()));
    assert_eq!(shown["cloud_pcr4"], expected.as_str());
    machine.ok(&["renew", "--force"]);
    machine.ok(&["renew", "--force"]);
    assert!(!audit(&alice, "evidence.taken").is_empty());
    // Another image is no reason not to renew: a rule with `@reattest` decides that.
    image("55");
    let renewed = machine.run(&["renew", "--force"]);
    assert_says(&renewed, 0, "renewing without the evidence `cloud`: PCR 4 is 5555");
    assert_eq!(cloud.asked(), Vec::<String>::new(), "the metadata service was asked for nothing");
}

#[test]
fn an_instance_of_aws_is_admitted_once_by_its_identity_document() {
    let cloud = Cloud::new();
    let started = rfc3339_now();
    let instance = |account: &str| {
        json!({
            "accountId": account, "architecture": "x86_64", "imageId": "ami-5fb8c835", "kernelId": null,
            "instanceId": "i-1234567890abcdef0", "pendingTime": started, "region": "lab-1", "version": "2017-09-30",
        })
    };
    let section = format!(
        "[aws-identity]\naccounts = ['111122223333']\nregions.lab-1 = '{}'\n",
        cloud.file("region.pem").display()
    );
    let gateway = gateway(&section, &rule_of_the_guide());
    let alice = gateway.first_person();
    let on_instance = |name: &str| gateway.client(name).under(&cloud.wrapper("aws"));
    cloud.instance(&instance("999999999999"));
    let refused = join(&gateway, &on_instance("stranger"), "edge-1");
    assert_says(&refused, refused.code, "the instance is of the account `999999999999`, which may not join");
    cloud.instance(&instance("111122223333"));
    let machine = on_instance("machine");
    let joined = join(&gateway, &machine, "edge-1");
    assert_eq!(joined.code, 0, "{}", joined.stderr);
    let asked = cloud.asked();
    let one = ["PUT /latest/api/token", "GET /latest/dynamic/instance-identity/rsa2048"];
    assert_eq!(asked[asked.len() - 2..], one);
    let shown = verified(&alice, "edge-1");
    assert_eq!((&shown["cloud_account"], &shown["cloud_bound"]), (&"111122223333".into(), &"use".into()));
    // Whoever reads the document has it, and comes too late.
    let thief = join(&gateway, &on_instance("thief"), "edge-2");
    assert_says(&thief, thief.code, "the instance `aws i-1234567890abcdef0` was admitted already");
    // The machine shows it at renewals as what it is known by.
    machine.ok(&["renew", "--force"]);
    machine.ok(&["renew", "--force"]);
    assert_eq!(verified(&alice, "edge-1")["cloud_instance"], "i-1234567890abcdef0");
    // A metadata service that fails is no reason not to renew.
    std::fs::remove_file(cloud.file("instance.json")).unwrap();
    let renewed = machine.run(&["renew", "--force"]);
    assert_says(&renewed, 0, "renewing without the evidence `cloud`: the metadata service does not answer");
}

/// The time, as AWS writes it.
fn rfc3339_now() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    pki::UnixTime::new(now).to_string()
}

#[test]
fn a_machine_of_azure_joins_and_comes_back_when_it_was_wiped() {
    let cloud = Cloud::new();
    cloud.instance(&json!({
        "vmId": "02aab8a4-74ef-476e-8182-f6d2ba4166a6", "subscriptionId": "6d0a5c1e-0000-4000-8000-000000000001",
        "sku": "24_04-lts", "plan": { "name": "", "product": "", "publisher": "" },
    }));
    let section = format!(
        "[azure-attested]\nanchors = '{}'\nsubscriptions = ['6d0a5c1e-0000-4000-8000-000000000001']\n",
        cloud.file("root.pem").display()
    );
    let gateway = gateway(&section, RULE);
    let alice = gateway.first_person();
    let machine = gateway.client("machine").under(&cloud.wrapper("azure"));
    let joined = join(&gateway, &machine, "edge-1");
    assert_eq!(joined.code, 0, "{}", joined.stderr);
    let device = "azure 02aab8a4-74ef-476e-8182-f6d2ba4166a6";
    assert_eq!(verified(&alice, "edge-1")["cloud_device"], device);
    machine.ok(&["renew", "--force"]);
    machine.ok(&["renew", "--force"]);
    // It was wiped: the document is for a new key, and of the same machine, whatever name it asks for.
    let again = gateway.client("again").under(&cloud.wrapper("azure"));
    let back = join(&gateway, &again, "edge-9");
    assert_says(&back, 0, "admitted as `edge-1`");
}

#[test]
fn a_document_that_was_named_and_cannot_be_had_is_an_error() {
    let cloud = Cloud::new();
    let section = format!(
        "[aws-identity]\naccounts = ['111122223333']\nregions.lab-1 = '{}'\n",
        cloud.file("region.pem").display()
    );
    let gateway = gateway(&section, RULE);
    let (url, pin) = (gateway.enroll().url(""), gateway.info().pin);
    let ask = |machine: &Lychgate| {
        machine.run(&[
            "join",
            &url,
            "--pin",
            &pin,
            "--name",
            "edge-1",
            "--attest",
            "cloud",
            "--no-wait",
            "--wait",
            "1s",
        ])
    };
    let nowhere = ask(&gateway.client("nowhere"));
    assert_says(&nowhere, nowhere.code, "the evidence `cloud` was asked for: its firmware names neither AWS nor Azure");
    // There is no document, so the metadata service answers with an error.
    let failed = ask(&gateway.client("failed").under(&cloud.wrapper("aws")));
    assert_says(&failed, failed.code, "the evidence `cloud` was asked for: the metadata service does not answer");
    let azure = ask(&gateway.client("azure").under(&cloud.wrapper("azure")));
    assert_says(&azure, azure.code, "the machine has `azure-attested`, and the gateway accepts `aws-identity`");
}
