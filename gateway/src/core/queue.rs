//! The queue in the store. Each waiting request holds one numbered slot of the whole queue and one of its network; the number of slots
//! is the limit, on all gateways together.

use super::{
    audit::Event,
    change::Changes,
    keys,
    look::Look,
    records::{Enrollment, EnrollmentState, NumberHolder, Seen, Waiting},
    refusal::Fault,
};

/// Puts a request into the queue, on condition that nobody else holds its numbers.
pub fn enter(changes: &mut Changes, enrollment: &Enrollment) {
    for number in &enrollment.numbers {
        changes.create(keys::queue_number(number), &NumberHolder(enrollment.id.clone()));
    }
    changes.create(keys::waiting(&enrollment.id), &Waiting::from(enrollment));
}

/// Writes the entry of a request that continues to wait, or that was withdrawn and still counts.
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

/// Ends a request that lapsed undecided or is evicted.
///
/// # Errors
/// [`Fault::Record`] if the request is damaged.
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
