//! One damaged record of each kind, against everything that reads it: nothing else is kept from going on, nobody gets a right by
//! it, and each is named.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[allow(dead_code, reason = "the cast of the stories; not all of it appears here")]
mod story;

use gateway::{
    core::{kinds, records::Subject, refusal::Refusal},
    flow::{self, clock, damaged, order, sweep::sweep},
    store::{Batch, Engine, Key},
};
use pki::Role;
use story::{Member, Story, minutes};

/// What becomes of the one whom the record is about.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Use {
    /// They go on.
    GoesOn,
    /// They are refused, as nobody knows how they stand.
    Refused,
    /// They are refused as locked.
    Locked,
}
use Use::{GoesOn, Locked, Refused};

/// What the revocation list says of their certificate.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum List {
    Without,
    With,
    /// There is none.
    Fails,
}
use List::{Fails, With, Without};

/// One row: whose record, what they may then, what the list says, and whether the gateway starts.
struct Row {
    key: &'static str,
    using: Use,
    list: List,
    starts: bool,
}

const fn row(key: &'static str, using: Use, list: List) -> Row {
    Row { key, using, list, starts: true }
}

/// `$...` is what belongs to the machine at that place.
const ROWS: &[Row] = &[
    row("subject/machine/m-1", Refused, Without),
    row("lineage/$lineage", Refused, With),
    row("cert/$serial", Refused, Without),
    // Its own record says what the index does not.
    row("certend/$issuer/$end/$serial", GoesOn, Without),
    row("certend/$issuer/$end/$serial cert/$serial", Refused, With),
    row("lock/machine/m-1", Locked, With),
    row("lock/lineage/$lineage", Locked, With),
    row("lock/key/$key", Locked, With),
    // A lock on somebody else.
    row("lock/person/m-1", GoesOn, Without),
    // It may have been one on this machine.
    Row { key: "lock/mackine/m-1", using: GoesOn, list: Without, starts: false },
    Row { key: "lock/machine/", using: GoesOn, list: Without, starts: false },
    row("enr/$enrollment", GoesOn, Without),
    row("enrkey/$key", GoesOn, Without),
    row("waiting/$waiting", GoesOn, Without),
    row("queue/all/99999", GoesOn, Without),
    row("token/$token", GoesOn, Without),
    row("audit/0000000000000", GoesOn, Without),
    row("stale/$lineage", GoesOn, Without),
    row("device/tpm_ek/00", GoesOn, Without),
    row("counted-back/$lineage", GoesOn, Without),
    row("ticket/00000000000000000000000000000000", GoesOn, Without),
    row("jwt/0000000000000000000000000000000000000000000000000000000000000000", GoesOn, Without),
    row("instance/0000000000000000000000000000000000000000000000000000000000000000", GoesOn, Without),
    row("owned/alice/m-1", GoesOn, Without),
    row("name/machine/m-9", GoesOn, Without),
    row("convergence/m-1", GoesOn, Without),
    row("tunnel/m-1", GoesOn, Without),
    // Without it nobody can tell whether a store was restored, so nobody is let in.
    row("meta/epoch", Refused, Fails),
    row("meta/policy", GoesOn, Without),
    row("meta/order", GoesOn, Without),
    row("meta/crl/$issuer", GoesOn, Without),
    row("meta/renew-machines", GoesOn, Without),
    row("meta/clock", GoesOn, Without),
    row("meta/lead", GoesOn, Without),
    row("quarantine/x", GoesOn, Without),
];

/// The keys of a row, with what stands for the machine.
async fn keys(story: &Story, row: &Row, machine: &Member, waiting: &str, token: &str) -> Vec<String> {
    let subject = story.shell.get::<Subject>("subject/machine/m-1".into()).await.unwrap().unwrap().record;
    let peer = story.peer(&machine.issued);
    let end = format!("{:016x}", machine.issued.not_after);
    let serial = machine.issued.serial.clone();
    let parts = [
        ("$lineage", subject.lineage.as_str()),
        ("$serial", &serial),
        ("$end", &end),
        ("$issuer", &story.shell.ca().signing().machine.hex()),
        ("$key", &peer.key.hex()),
        ("$enrollment", &subject.enrollment),
        ("$waiting", waiting),
        ("$token", token),
    ];
    let fill = |key: &str| parts.iter().fold(key.to_owned(), |key, (name, value)| key.replace(name, value));
    row.key.split(' ').map(fill).collect()
}

async fn using(story: &Story, machine: &Member) -> Use {
    match story.admit(&story.peer(&machine.issued)).await {
        Ok(caller) => {
            flow::renew_now::is_wanted(&story.shell, &caller, story.shell.now()).await.unwrap();
            GoesOn
        }
        Err(Refusal::Locked { .. }) => Locked,
        Err(Refusal::Ours(_)) => Refused,
        Err(other) => panic!("{other:?}"),
    }
}

async fn list(story: &Story, machine: &Member) -> List {
    story.clock.advance(flow::crl::KEPT);
    let Ok(list) = flow::crl::list(&story.shell, &story.shell.ca().signing().machine).await else { return Fails };
    let (_, parsed) = x509_parser::parse_x509_crl(&list.der).unwrap();
    let mut serials = parsed.iter_revoked_certificates().map(|entry| format!("{:032x}", entry.serial()));
    if serials.any(|serial| serial == machine.issued.serial) { With } else { Without }
}

/// Every list there is, by somebody whose own records are whole. Gives the names of the machines.
async fn lists(story: &Story, caller: &gateway::core::admission::Caller) -> Vec<String> {
    let shell = &story.shell;
    let page = flow::admin::subjects(shell, caller, Role::Machine, None, 100).await.unwrap();
    flow::people::list(shell, caller, true, None, 100).await.unwrap();
    flow::admin::list_locks(shell, caller, None, 100).await.unwrap();
    flow::tokens::list(shell, caller, None, 100).await.unwrap();
    let filter = flow::audit::AuditFilter::default();
    assert!(flow::audit::audit(shell, caller, &filter, 1000).await.unwrap().items.len() > 3);
    page.items.into_iter().map(|machine| machine.name).collect()
}

/// A machine, and whose records else there are.
struct Stage {
    story: Story,
    alice: Member,
    machine: Member,
    waiting: String,
    token: String,
}

impl Stage {
    async fn set(engine: Engine) -> Self {
        let story = Story::on(engine, str::to_owned).await;
        let alice = story.first_person().await;
        let machine = story.machine("m-1").await;
        story.machine("m-2").await;
        let waiting = story.stranger().ask("m-3").await.waiting().id;
        let token = story.token_reply(Default::default()).await.id;
        machine.caller(&story).await;
        order::advance(&story.shell).await.unwrap();
        story.clock.advance(minutes(1));
        sweep(&story.shell).await.unwrap();
        Self { story, alice, machine, waiting, token }
    }

    async fn put(&self, records: impl Iterator<Item = (&Key, Option<Vec<u8>>)>) {
        let batch = records.fold(Batch::default(), |batch, (key, value)| match value {
            Some(value) => batch.put(key.clone(), value),
            None => batch.delete(key.clone()),
        });
        self.story.shell.store.commit(batch).await.unwrap();
    }

    /// Damages what a row says, looks what becomes of everything, and mends it.
    async fn check(&self, row: &Row, what: &str) {
        let Self { story, machine, .. } = self;
        let caller = self.alice.caller(story).await;
        let keys = keys(story, row, machine, &self.waiting, &self.token).await;
        let keys: Vec<Key> = keys.into_iter().map(Key::from).collect();
        let whole = story.shell.store.read(&keys).await.unwrap().entries;
        self.put(keys.iter().map(|key| (key, Some(b"{\"half\":".to_vec())))).await;

        assert_eq!(using(story, machine).await, row.using, "{what}: use");
        let names = lists(story, &caller).await;
        assert!(names.contains(&"m-2".to_owned()), "{what}: {names:?}");
        for _ in 0..2 {
            story.clock.advance(minutes(1));
            sweep(&story.shell).await.unwrap();
        }
        assert_eq!(list(story, machine).await, row.list, "{what}: revocation list");
        *story.shell.counted.lock().unwrap() = None;
        clock::look(&story.shell).await.unwrap();
        order::advance(&story.shell).await.unwrap();
        assert_eq!(damaged::at_start(&story.shell).await.is_ok(), row.starts, "{what}: start");
        // Nothing takes it away but an operator.
        let found = story.shell.store.read(&keys).await.unwrap().entries;
        assert!(found.iter().all(Option::is_some), "{what}: it is gone");
        self.put(keys.iter().zip(whole.into_iter().map(|entry| entry.map(|entry| entry.value)))).await;
    }
}

#[tokio::test]
async fn a_damaged_record_takes_no_right_and_gives_none() {
    for kind in kinds::KINDS {
        assert!(ROWS.iter().any(|row| row.key.starts_with(kind.prefix)), "no row for a damaged {}", kind.what);
    }
    for engine in Engine::ALL {
        let stage = Stage::set(engine).await;
        for row in ROWS {
            stage.check(row, &format!("{engine} {}", row.key)).await;
        }
        stage.story.shell.store.close().await;
    }
}
