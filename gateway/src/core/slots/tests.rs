//! Allowed steps as a table, and inconsistent files.

use super::*;

fn key(number: u8) -> KeyDigest {
    KeyDigest::from_spki_der(&[number])
}

fn first() -> Slots {
    Slots::first(key(0), [(Role::Machine, key(1)), (Role::Person, key(2)), (Role::Gateway, key(3))])
}

/// A second root with its CAs, and a second CA for machines below the first.
fn begun() -> Slots {
    let below = [("machine-2", Role::Machine, 11), ("person-2", Role::Person, 12), ("gateway-2", Role::Gateway, 13)];
    let below = below.map(|(name, role, number)| (name.to_owned(), role, key(number))).to_vec();
    first()
        .with_root("root-2", key(10), below)
        .unwrap()
        .with_issuing("machine-3".into(), Role::Machine, key(21))
        .unwrap()
}

/// One letter for each: prepared, published, active, retired.
fn states(slots: &Slots) -> String {
    let roots = slots.roots.iter().map(|slot| (&slot.name, slot.state));
    let all = roots.chain(slots.issuing.iter().map(|slot| (&slot.name, slot.state)));
    let short = |state| match state {
        SlotState::Prepared => "prepared",
        SlotState::Published => "PUBLISHED",
        SlotState::Active => "ACTIVE",
        SlotState::Retired => "retired",
    };
    all.map(|(name, state)| format!("{name}:{}", short(state))).collect::<Vec<_>>().join(" ")
}

/// Takes steps and compares the states after them, or the error of the last step.
#[track_caller]
fn check(steps: &[(SlotStep, &str)], want: &str) {
    let mut slots = begun();
    let (last, before) = steps.split_last().unwrap();
    for (step, name) in before {
        slots = slots.step(name, *step).unwrap();
    }
    let generation = slots.generation;
    match slots.step(last.1, last.0) {
        Ok(after) => {
            assert_eq!(states(&after), want);
            assert_eq!(after.generation, generation + 1);
            assert_eq!(Slots::parse(&after.text()).unwrap(), after, "it reads as it was written");
        }
        Err(error) => assert_eq!(error.to_string(), want),
    }
}

#[test]
fn another_issuing_ca() {
    use SlotStep::{Activate, Publish, Retire};
    let rest = "root-2:prepared";
    let all = |machine, third| {
        format!(
            "root:ACTIVE {rest} machine:{machine} person:ACTIVE gateway:ACTIVE machine-2:prepared person-2:prepared \
             gateway-2:prepared machine-3:{third}"
        )
    };
    let (publish, activate) = ((Publish, "machine-3"), (Activate, "machine-3"));
    check(&[publish], &all("ACTIVE", "PUBLISHED"));
    check(&[publish, activate], &all("PUBLISHED", "ACTIVE"));
    check(&[publish, activate, (Activate, "machine")], &all("ACTIVE", "PUBLISHED"));
    check(&[publish, activate, (Retire, "machine")], &all("retired", "ACTIVE"));
    check(&[(Retire, "machine-3")], &all("ACTIVE", "retired"));
    check(&[activate], "`machine-3` is prepared, and only what is published can be activated");
    check(&[publish, publish], "`machine-3` is published, and only what is prepared can be published");
    check(&[(Retire, "machine")], "`machine` is active, and only what is prepared or published can be retired");
    check(
        &[publish, activate, (Retire, "machine"), (Activate, "machine")],
        "`machine` is retired, and only what is published can be activated",
    );
    check(&[(Publish, "machine-2")], "`machine-2` is below `root-2`, and goes with it: publish that one");
    check(&[(Publish, "machine-9")], "there is no slot `machine-9`; `lychgate-gateway ca list` shows them");
}

#[test]
fn another_root() {
    use SlotStep::{Activate, Publish, Retire};
    let all = |roots: [&str; 2], old, new| {
        let [one, two] = roots;
        format!(
            "root:{one} root-2:{two} machine:{old} person:{old} gateway:{old} machine-2:{new} person-2:{new} \
             gateway-2:{new} machine-3:"
        )
    };
    let (publish, activate) = ((Publish, "root-2"), (Activate, "root-2"));
    check(&[publish], &(all(["ACTIVE", "PUBLISHED"], "ACTIVE", "PUBLISHED") + "prepared"));
    check(&[publish, activate], &(all(["PUBLISHED", "ACTIVE"], "PUBLISHED", "ACTIVE") + "prepared"));
    let back = all(["ACTIVE", "PUBLISHED"], "ACTIVE", "PUBLISHED") + "prepared";
    check(&[publish, activate, (Activate, "root")], &back);
    check(&[publish, activate, (Retire, "root")], &(all(["retired", "ACTIVE"], "retired", "ACTIVE") + "retired"));
    check(&[activate], "`root-2` is prepared, and only what is published can be activated");
    check(&[(Retire, "root")], "`root` is active, and only what is prepared or published can be retired");
    check(
        &[publish, activate, (Activate, "machine")],
        "`machine` is below `root`, and goes with it: activate that one",
    );
    check(
        &[publish, (Retire, "person-2"), activate],
        "`root-2` has no published CA for person certificates, so it cannot become active",
    );
    let published = begun().step("root-2", Publish).unwrap();
    assert_eq!(published.root("root-2").unwrap().published, Some(published.generation));
}

#[test]
fn files_that_say_what_cannot_be() {
    let good = begun().text();
    assert_eq!(Slots::parse(&good).unwrap(), begun());
    let check = |from: &str, to: &str, want: &str| {
        assert!(good.contains(from), "{good}");
        assert_eq!(Slots::parse(&good.replacen(from, to, 1)).unwrap_err().to_string(), want, "{from} -> {to}");
    };
    check("state = \"active\"", "state = \"published\"", "0 of `root` are active instead of one");
    check("state = \"prepared\"", "state = \"active\"\npublished = 1", "2 of `root` are active instead of one");
    check(
        "state = \"prepared\"",
        "state = \"published\"",
        "`root-2` does not say in which generation it was published, or says so although it never was",
    );
    check(
        "published = 1",
        "published = 9",
        "`root` does not say in which generation it was published, or says so although it never was",
    );
    check("root = \"root\"", "root = \"roof\"", "`machine` is below the root `roof`, which does not exist");
    check("root = \"root\"", "root = \"root-2\"", "`machine` is active, and its root `root-2` is not");
    check("name = \"person\"", "name = \"machine\"", "two slots have the name or the key of `machine`");
    check(&key(1).hex(), &key(2).hex(), "two slots have the name or the key of `person`");
    check(
        "name = \"root\"",
        "name = \"../root\"",
        "`../root` is no name of a slot: letters, digits and hyphens, at most 32",
    );
    check("role = \"person\"", "role = \"machine\"", "2 of `machine` are active instead of one");
    for (from, to) in [("generation", "age"), ("role = \"person\"", "role = \"cat\""), ("key = \"", "key = \"x")] {
        let error = Slots::parse(&good.replacen(from, to, 1)).unwrap_err();
        assert!(matches!(error, SlotError::Syntax(_)), "{error}");
    }
}

#[test]
fn names_that_are_free() {
    let free = |stem| begun().free_name(stem);
    assert_eq!([free("root"), free("machine"), free("person")], ["root-3", "machine-4", "person-3"]);
}
