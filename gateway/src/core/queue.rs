//! Who waits for a person, as it stands in the store: an entry for each, and the numbers that they hold. There are as many numbers as
//! may wait, for all and for each network, and a number has one holder: so no more than that wait, however many gateways let them.

use super::{
    audit::Event,
    change::Changes,
    keys,
    look::Look,
    records::{Enrollment, EnrollmentState, NumberHolder, Seen, Waiting},
    refusal::Fault,
};

/// Puts a request into the queue, with numbers that nobody else must hold.
pub fn enter(changes: &mut Changes, enrollment: &Enrollment) {
    for number in &enrollment.numbers {
        changes.create(keys::queue_number(number), &NumberHolder(enrollment.id.clone()));
    }
    changes.create(keys::waiting(&enrollment.id), &Waiting::from(enrollment));
}

/// Writes the entry of a request that goes on waiting, or that counts though it was taken back.
pub fn rewrite(changes: &mut Changes, enrollment: &Enrollment) {
    changes.put(keys::waiting(&enrollment.id), &Waiting::from(enrollment));
}

/// Takes a request out of the queue.
pub fn leave(changes: &mut Changes, enrollment: &Enrollment) {
    changes.delete(keys::waiting(&enrollment.id));
    free(changes, &enrollment.numbers);
}

fn free(changes: &mut Changes, numbers: &[String]) {
    numbers.iter().for_each(|number| changes.delete(keys::queue_number(number)));
}

/// Ends the waiting of a request that nobody decided, or that others crowd out.
///
/// # Errors
/// [`Fault::Record`] when the request makes no sense.
pub fn lapse(look: &Look, id: &str, entry: &Seen<Waiting>) -> Result<Changes, Fault> {
    let mut changes = Changes::new();
    changes.remove(keys::waiting(id), entry);
    free(&mut changes, &entry.record.numbers);
    if entry.record.withdrawn {
        return Ok(changes);
    }
    if let Some(seen) = look.get::<Enrollment>(&keys::enrollment(id))? {
        let expired = Enrollment { state: EnrollmentState::Expired, numbers: vec![], ..seen.record.clone() };
        changes.update(keys::enrollment(id), &seen, &expired);
    }
    changes.event(Event::EnrollmentExpired { enrollment: id.to_owned(), state: "waiting" });
    Ok(changes)
}
