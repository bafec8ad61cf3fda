//! Ansible with our collection, and machines with sshd.

mod room;

use std::fs;
use std::net::Ipv4Addr;

use serde_json::{Value, json};
use tests::gateway::{Setup, TRUST_DOMAIN};
use tests::program::Ended;
use tests::ssh;
use tests::wait::unix_now;

use crate::rig::{Helpers, Running, sessions};
use crate::{audit, joined};
use room::{INVENTORIES, KEPT_FOR, Kept, Room, Sshd, ended, host_name, machine, person, ssh_config, ssh_key};

/// The members of a group, sorted.
fn members(inventory: &Value, group: &str) -> Vec<String> {
    let rows = inventory[group]["hosts"].as_array().cloned().unwrap_or_default();
    let mut names: Vec<String> = rows.iter().map(|name| name.as_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

#[test]
fn both_inventories_have_the_machines_one_may_see_in_their_groups() {
    let room = Room::new();
    let _bob = person(&room.gateway, &room.alice, "bob", &[]);
    machine(&room, "web-1", &["--label", "site=oslo-2", "--owner", "bob"], &[]);
    machine(&room, "web-2", &["--label", "site=rome"], &[]);
    machine(&room, "web-3", &[], &[]);
    room.alice.ok(&["machines", "lock", "web-3", "--reason", "stolen"]);
    for inventory in INVENTORIES {
        let listing = room.inventory(inventory, &["--list"]);
        assert_eq!(members(&listing, "state_active"), ["web-1", "web-2"], "{listing}");
        assert_eq!(members(&listing, "state_locked"), [""; 0]);
        assert_eq!(members(&listing, "label_site_oslo_2"), ["web-1"]);
        assert_eq!(members(&listing, "owner_bob"), ["web-1"]);
        assert_eq!(members(&listing, "assurance_software"), ["web-1", "web-2"]);
        assert_eq!(members(&listing, &format!("os_{}", std::env::consts::OS)), ["web-1", "web-2"]);
        let one = &listing["_meta"]["hostvars"]["web-1"];
        assert_eq!(one["ansible_host"], host_name("web-1"));
        assert_eq!(one["lychgate_identity"], format!("spiffe://{TRUST_DOMAIN}/machine/web-1"));
        assert_eq!(one["lychgate_labels"], json!({ "site": "oslo-2" }));
        assert_eq!(one["lychgate_claimed"]["os"], std::env::consts::OS);
        assert!(one["lychgate_verified"]["token_id"].is_string(), "{one}");
        assert!(one["lychgate_claimed"]["token_id"].is_null(), "{one}");
        // Only what the gateway's people decide: nothing that would drop ControlPersist, and no file that is not there.
        assert!(one.get("ansible_ssh_args").is_none() && one.get("ansible_ssh_common_args").is_none(), "{one}");
        let host = room.inventory(inventory, &["--host", "web-1"]);
        assert_eq!(&host, one);
    }
    let plugin = room.inventory("site.lychgate.yml", &["--list"]);
    assert_eq!(members(&plugin, "place_rome"), ["web-2"]);
    assert_eq!(members(&plugin, "never_configured"), ["web-1", "web-2"]);
    assert_eq!(plugin["_meta"]["hostvars"]["web-2"]["site"], "ROME");
    // By hand, as Ansible would, and with the locked one.
    let listing = room.robot.json(&["inventory", "--list", "--state", "locked"]);
    assert_eq!(members(&listing, "state_locked"), ["web-3"]);
    let host = room.robot.json(&["inventory", "--host", "web-3"]);
    assert_eq!((&host["lychgate_state"], &host["lychgate_convergence"]), (&json!("locked"), &Value::Null));
    crate::assert_says(&room.robot.refused(&["inventory", "--host", "nobody"]), 1, "no such machine");
    // Somebody else sees their own machine and no other.
    let bob = person(&room.gateway, &room.alice, "bob", &[]);
    assert_eq!(members(&bob.json(&["inventory", "--list"]), "state_active"), ["web-1"]);
    // The file is named once it is there.
    ssh_config(&room, &[]);
    let arguments = json!(format!("-F {}", room.robot.file("ssh/config").display()));
    for inventory in INVENTORIES {
        assert_eq!(room.inventory(inventory, &["--host", "web-1"])["ansible_ssh_common_args"], arguments);
    }
}

#[test]
fn what_a_machine_says_of_itself_does_not_run_on_the_controller() {
    let room = Room::new();
    let trap = room.file("sprung");
    let template = format!("note={{{{ lookup('ansible.builtin.pipe', 'touch {}') }}}}", trap.display());
    machine(&room, "evil", &[], &["--attribute", &template, "--attribute", "__ansible_vault=x"]);
    for inventory in INVENTORIES {
        let args = ["evil", "-m", "ansible.builtin.debug", "-a", "msg={{ lychgate_claimed }}"];
        let shown = room.ansible("ansible", inventory, &args, 0);
        assert!(shown.stdout.contains("lookup("), "{}", shown.stdout);
        assert!(!trap.exists(), "{inventory}: a claim was rendered as a template");
    }
}

const PLAYBOOK: &str = r#"
- name: Make the machines what they should be
  hosts: label_role_web
  gather_facts: true
  gather_subset: ["!all", "min"]
  tasks:
    - name: A folder
      ansible.builtin.file:
        path: "{{ sandbox }}/{{ inventory_hostname }}"
        state: directory
        mode: "0755"
    - name: A file that says what the gateway knows
      ansible.builtin.copy:
        dest: "{{ sandbox }}/{{ inventory_hostname }}/about"
        content: "{{ lychgate_identity }} is {{ lychgate_assurance }}\n"
        mode: "0644"
    - name: A line
      ansible.builtin.lineinfile:
        path: "{{ sandbox }}/{{ inventory_hostname }}/hosts"
        line: "{{ ansible_host }}"
        create: true
        mode: "0644"
    - name: Once
      ansible.builtin.command:
        cmd: "touch {{ sandbox }}/{{ inventory_hostname }}/once"
        creates: "{{ sandbox }}/{{ inventory_hostname }}/once"
    - name: Never
      ansible.builtin.command:
        cmd: "false"
      when: false
"#;

const FAILING: &str = r#"
- name: Go wrong on one of them
  hosts: label_role_web
  gather_facts: false
  tasks:
    - name: All is well
      ansible.builtin.ping:
    - name: Not here
      ansible.builtin.fail:
        msg: as intended
      when: inventory_hostname == "web-2"
"#;

/// One that goes on past machines that are not there.
const PATIENT: &str = r#"
- hosts: all
  gather_facts: false
  ignore_unreachable: true
  tasks:
    - ansible.builtin.command: "true"
      changed_when: false
    - ansible.builtin.command: "true"
      changed_when: false
"#;

/// The counts of a convergence: ok, changed, failed, unreachable, skipped.
fn counts(convergence: &Value) -> [u64; 5] {
    ["ok", "changed", "failed", "unreachable", "skipped"].map(|field| convergence[field].as_u64().unwrap())
}

#[test]
fn a_playbook_converges_and_every_machine_shows_it() {
    let room = Room::new();
    for name in ["web-1", "web-2", "web-3"] {
        machine(&room, name, &["--label", "role=web"], &[]);
    }
    ssh_key(&room.file("client_key"));
    let servers = [Sshd::start(&room, "web-1"), Sshd::start(&room, "web-2")];
    let _running = [("web-1", &servers[0]), ("web-2", &servers[1])].map(|(name, server)| {
        let expose = format!("ssh=127.0.0.1:{}", server.port.number());
        Running::start(room.gateway.client(name), &["--expose", &expose])
    });
    let _helper = room.robot.start(&["helper"]);
    // The third machine is off.
    ssh_config(&room, &["web-1", "web-2", "web-3"]);
    let kept = Kept(room.file("cp"));
    let sandbox = room.file("sandbox");
    fs::create_dir(&sandbox).unwrap();
    let sandbox = format!("sandbox={}", sandbox.display());
    let (site, failing) = (room.write("site.yml", PLAYBOOK), room.write("failing.yml", FAILING));
    let up = ["--limit", "web-1,web-2", "-e", &sandbox];

    // A ping is no convergence, and neither is a dry run.
    let ping = room.ansible("ansible", INVENTORIES[0], &["web-1,web-2", "-m", "ansible.builtin.ping"], 0);
    assert_eq!(ping.stdout.matches("\"ping\": \"pong\"").count(), 2, "{}", ping.stdout);
    let dry = room.play(INVENTORIES[0], &failing, &["--limit", "web-1", "--check", "-vv"], 0);
    assert!(dry.stdout.contains("nothing to report: check mode"), "{}", dry.stdout);
    assert_eq!(room.convergence("web-1"), Value::Null);

    let began = unix_now();
    let first = room.play(INVENTORIES[0], &site, &[&up[..], &["-vvvv"]].concat(), 0);
    assert!(first.stdout.contains(KEPT_FOR), "{}", first.stdout);
    let seen = room.convergence("web-1");
    assert_eq!(counts(&seen), [5, 4, 0, 0, 1], "{seen}");
    assert_eq!((&seen["tool"], &seen["play"]), (&json!("ansible"), &json!("site.yml")));
    assert_eq!(seen["by"], format!("spiffe://{TRUST_DOMAIN}/person/robot"));
    assert!(seen["at"].as_u64().unwrap() >= began && seen["started"].as_u64().unwrap() >= began, "{seen}");
    let about = fs::read_to_string(room.file("sandbox/web-2/about")).unwrap();
    assert_eq!(about, format!("spiffe://{TRUST_DOMAIN}/machine/web-2 is software\n"));

    // The same again, by the other inventory: nothing to do.
    let second = room.play(INVENTORIES[1], &site, &up, 0);
    assert!(second.stdout.contains("changed=0") && !second.stdout.contains("changed=4"), "{}", second.stdout);
    assert!(!second.stderr.contains("WARNING"), "{}", second.stderr);
    let again = room.convergence("web-1");
    assert_eq!(counts(&again), [5, 0, 0, 0, 1], "{again}");
    assert_ne!(again["run_id"], seen["run_id"]);
    let told = room.inventory(INVENTORIES[0], &["--host", "web-1"]);
    assert_eq!(told["lychgate_convergence"], again);

    // All of that went over one connection to each machine.
    assert_eq!(kept.sockets().len(), 2, "{:?}", kept.sockets());
    assert_eq!(servers.each_ref().map(Sshd::logins), [1, 1]);

    // What goes wrong on one machine, and what is not there, is said of that machine alone.
    room.play(INVENTORIES[1], &failing, &[], 4);
    assert_eq!(counts(&room.convergence("web-1")), [1, 0, 0, 0, 1]);
    assert_eq!(counts(&room.convergence("web-2")), [1, 0, 1, 0, 0]);
    assert_eq!(counts(&room.convergence("web-3")), [0, 0, 0, 1, 0]);
    let shown = room.alice.ok(&["machines", "show", "web-3"]);
    let line = shown.lines().find(|line| line.starts_with("last convergence")).unwrap_or_else(|| panic!("{shown}"));
    assert!(line.contains("ansible 2.") && line.contains("0 changed, 0 failed, unreachable, by spiffe://"), "{line}");

    // Ansible counts a task that never ran as one that went well, and ends with 0.
    room.play(INVENTORIES[0], &room.write("patient.yml", PATIENT), &["--limit", "web-1,web-3"], 0);
    assert_eq!(counts(&room.convergence("web-1")), [2, 0, 0, 0, 0]);
    assert_eq!(counts(&room.convergence("web-3")), [0, 0, 0, 2, 0]);

    let events = audit(&room.alice, "machine.converged");
    assert_eq!(events.len(), 9);
    assert!(events.iter().all(|event| event["rules"] == json!(["robot"])), "{events:?}");
}

/// Who runs this test may be logged in as by the robots.
fn robots_log_in() -> String {
    format!(
        "@id(\"robot-logs-in\") @principals(\"{}\") permit(principal is Lychgate::Person in Lychgate::Group::\"robots\", \
         action == Lychgate::Action::\"login\", resource);",
        ssh::whoami()
    )
}

/// A machine with an sshd that knows no keys of anybody: it shows the gateway's certificate, and believes the gateway's.
fn certified(room: &Room, name: &str) -> (ssh::Sshd, Running) {
    machine(room, name, &["--label", "role=web"], &[]);
    let machine = room.gateway.client(name);
    let dir = room.file(name);
    fs::create_dir(&dir).unwrap();
    let host_key = dir.join("host_key");
    ssh_key(&host_key);
    machine.ok(&["ssh-cert", "host", "--host-key", host_key.to_str().unwrap()]);
    let user_ca = machine.ok(&["ssh-cert", "trusted-user-ca"]);
    let host_certificate = Some(dir.join("host_key-cert.pub"));
    let sshd = ssh::Sshd::start(&dir, &ssh::SshdSetup { host_key, host_certificate, user_ca: &user_ca, under: vec![] });
    let expose = format!("ssh=127.0.0.1:{}", sshd.port());
    let running = Running::start(machine, &["--expose", &expose]);
    (sshd, running)
}

/// Everything as it is generated: the inventory, the configuration of ssh, the certificates at both ends, the helper that
/// ssh starts by itself. There is no key of the robot's on any machine, and no file written by hand.
#[test]
fn a_playbook_runs_with_nothing_but_what_is_generated() {
    let room = Room::with(&robots_log_in());
    let machines = ["web-1", "web-2"].map(|name| certified(&room, name));
    let _helpers = Helpers::of(room.robot.dir());
    let kept = Kept(room.file("cp"));
    room.robot.ok(&["ssh-config", "--write"]);
    let sandbox = room.file("sandbox");
    fs::create_dir(&sandbox).unwrap();
    let sandbox = format!("sandbox={}", sandbox.display());
    let site = room.write("site.yml", PLAYBOOK);
    let began = unix_now();
    let first = room.play("site.lychgate.yml", &site, &["-e", &sandbox, "-vvvv"], 0);
    assert!(first.stdout.contains(KEPT_FOR), "{}", first.stdout);
    for name in ["web-1", "web-2"] {
        let about = fs::read_to_string(room.file(&format!("sandbox/{name}/about"))).unwrap();
        assert_eq!(about, format!("spiffe://{TRUST_DOMAIN}/machine/{name} is software\n"));
    }
    let again = room.play("site.lychgate.yml", &site, &["-e", &sandbox], 0);
    assert_eq!(again.stdout.matches("changed=0").count(), 2, "{}", again.stdout);

    // One master for each machine carried both runs, and is there for the next: one login, one session.
    assert_eq!(kept.sockets().len(), 2, "{:?}", kept.sockets());
    for (sshd, _) in &machines {
        let log = sshd.log();
        assert_eq!(log.matches("Accepted publickey").count(), 1, "{log}");
        assert!(log.contains(&format!("ID spiffe://{TRUST_DOMAIN}/person/robot#")), "{log}");
    }
    let open = sessions(&room.alice);
    let seen: Vec<(&Value, &Value)> = open.iter().map(|session| (&session["service"], &session["door"])).collect();
    assert_eq!(seen, [(&json!("ssh"), &json!("helper")), (&json!("ssh"), &json!("helper"))]);
    assert_eq!(audit(&room.alice, "session.opened").len(), 2);
    assert_eq!(audit(&room.alice, "ssh.issued").len(), 3, "two hosts and the robot, each once");

    for name in ["web-1", "web-2"] {
        let seen = room.convergence(name);
        assert_eq!(counts(&seen), [5, 0, 0, 0, 1], "{seen}");
        assert!(seen["at"].as_u64().unwrap() >= began, "{seen}");
        let shown = room.alice.ok(&["machines", "show", name]);
        let line = shown.lines().find(|line| line.starts_with("last convergence")).unwrap_or_else(|| panic!("{shown}"));
        let by = format!("by spiffe://{TRUST_DOMAIN}/person/robot");
        assert!(line.contains("ansible 2.") && line.contains(&by), "{line}");
    }
}

const HERE: &str = r#"
- name: Nothing to do
  hosts: all
  gather_facts: false
  tasks:
    - name: Nothing
      ansible.builtin.debug:
        msg: done
"#;

#[test]
fn a_report_that_cannot_be_made_is_a_warning_and_no_more() {
    let mut room = Room::new();
    joined(&room.gateway, &room.alice, "web-1");
    let playbook = room.write("here.yml", HERE);
    let identity = |name: &str| format!("lychgate_identity=spiffe://{TRUST_DOMAIN}/machine/{name}");
    let hosts = format!(
        "localhost ansible_connection=local\nweb-1 ansible_connection=local {}\nweb-9 ansible_connection=local {}\n\
         other ansible_connection=local lychgate_identity=spiffe://other.example/machine/web-1\n",
        identity("web-1"),
        identity("web-9")
    );
    room.write("hosts.ini", &hosts);
    let play = |room: &Room, settings: &[(&str, &str)]| {
        let mut command = room.command("ansible-playbook");
        command.arg("-v").arg("-i").arg(room.file("hosts.ini")).arg(&playbook);
        ended(command.envs(settings.iter().copied()), 0)
    };
    #[track_caller]
    fn warns(ended: &Ended, words: &str) {
        // Long lines are wrapped.
        let said = ended.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(said.contains("WARNING") && said.contains(words), "no `{words}` in\n{}", ended.stderr);
    }

    // One machine is not the gateway's; the other is reported all the same, and hosts of other origin are left alone.
    let played = play(&room, &[]);
    warns(&played, "1 of 2 results were not taken: web-9: not found: no such machine");
    assert!(played.stdout.contains("reported the results of 1 machines"), "{}", played.stdout);
    assert_eq!(counts(&room.convergence("web-1")), [1, 0, 0, 0, 0]);

    // Somebody who may not.
    let carol = person(&room.gateway, &room.alice, "carol", &[]);
    let carol = carol.dir().to_str().unwrap().to_owned();
    warns(&play(&room, &[("LYCHGATE_DIR", &carol)]), "2 of 2 results were not taken");

    // No identity, an address that is none, somebody who poses as the gateway, nobody at all.
    warns(&play(&room, &[("LYCHGATE_DIR", "/nowhere")]), "were not reported");
    warns(&play(&room, &[("LYCHGATE_MANAGE", "gate")]), "`gate` is not HOST:PORT");
    let stranger = Setup::default().start();
    let manage = format!("127.0.0.1:{}", stranger.manage().address.port());
    warns(&play(&room, &[("LYCHGATE_MANAGE", &manage)]), "certificate verify failed");
    room.gateway.stop();
    warns(&play(&room, &[]), "Connection refused");
    // One that takes the connection and says nothing.
    let silent = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let manage = silent.local_addr().unwrap().to_string();
    warns(&play(&room, &[("LYCHGATE_MANAGE", &manage), ("LYCHGATE_REPORT_TIMEOUT", "1")]), "timed out");

    room.gateway.start();
    assert_eq!(audit(&room.alice, "machine.converged").len(), 1);
}
