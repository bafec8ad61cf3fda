//! Reports of runs of configuration tools. The store has the last report of each machine; the audit has all.

use super::{
    audit::Event,
    change::{Changes, Expectation},
    keys,
    records::{Convergence, Seen, Subject},
};

/// The changes for a report; none if the stored one is identical, so that a repetition after a lost reply does not count as another run.
/// Times and counts in a report are claims of the reporter; who reported it and when are verified.
#[must_use]
pub fn remember(
    machine: &Seen<Subject>,
    before: Option<&Seen<Convergence>>,
    convergence: &Convergence,
    identity: String,
    rules: &[String],
) -> Option<Changes> {
    let again = |seen: &Seen<Convergence>| {
        convergence.run.run_id.is_some() && seen.record.run == convergence.run && seen.record.by == convergence.by
    };
    if before.is_some_and(again) {
        return None;
    }
    let mut changes = Changes::new();
    let name = &machine.record.name;
    // if the machine is removed concurrently, no record must remain for a later machine of that name
    changes.expect.push(Expectation::At(keys::subject(machine.record.role, name), machine.version));
    changes.upsert(keys::convergence(name), before, convergence);
    changes.event(Event::MachineConverged { identity, run: convergence.run.clone(), rules: rules.to_vec() });
    Some(changes)
}

#[cfg(test)]
mod tests {
    use pki::Role;

    use super::*;
    use crate::core::{
        records::{Run, UnixSecs},
        subjects::sample,
    };

    fn machine() -> Seen<Subject> {
        let record = sample(Role::Machine, "edge-7", "l", None);
        Seen { record, version: 7 }
    }

    fn report(run_id: Option<&str>, failed: u32, by: &str, at: u64) -> Convergence {
        let run = Run {
            tool: "ansible".to_owned(),
            version: None,
            run_id: run_id.map(str::to_owned),
            play: None,
            started: UnixSecs(1),
            finished: UnixSecs(2),
            ok: 3,
            changed: 0,
            failed,
            unreachable: 0,
            skipped: 0,
        };
        Convergence { run, by: by.to_owned(), at: UnixSecs(at) }
    }

    #[track_caller]
    fn check(before: Option<Convergence>, now: &Convergence, changes_something: bool) {
        let before = before.map(|record| Seen { record, version: 9 });
        let got = remember(&machine(), before.as_ref(), now, "spiffe://td/machine/edge-7".to_owned(), &[]);
        assert_eq!(got.is_some(), changes_something);
        if let Some(changes) = got {
            assert_eq!((changes.writes.len(), changes.events.len()), (1, 1));
            let expects = [
                Expectation::At("subject/machine/edge-7".to_owned(), 7),
                match before {
                    Some(_) => Expectation::At("convergence/edge-7".to_owned(), 9),
                    None => Expectation::Absent("convergence/edge-7".to_owned()),
                },
            ];
            assert_eq!(changes.expect, expects);
        }
    }

    #[test]
    fn the_same_report_again_changes_nothing_and_every_other_takes_its_place() {
        let first = report(Some("run-1"), 0, "ann", 10);
        check(None, &first, true);
        check(Some(first.clone()), &first, false);
        check(Some(first.clone()), &report(Some("run-1"), 0, "ann", 99), false);
        check(Some(first.clone()), &report(Some("run-1"), 1, "ann", 11), true);
        check(Some(first.clone()), &report(Some("run-1"), 0, "bob", 11), true);
        check(Some(first), &report(Some("run-2"), 0, "ann", 11), true);
        // two runs without an id can have equal values
        check(Some(report(None, 0, "ann", 10)), &report(None, 0, "ann", 11), true);
    }
}
