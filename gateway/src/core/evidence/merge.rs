//! Merges all evidence of a request. Evidence never adds up: at most one piece grants (names, labels, groups,
//! owner, role), the others only claim, and contradictions are refused.

use super::{Claims, Reject};
use crate::core::name;

/// Merges claims. The result grants what one of the pieces grants, or less.
///
/// # Errors
/// [`super::CONFLICT`] if two pieces grant, or if they admit different roles or names.
pub fn merge(all: impl IntoIterator<Item = Claims>) -> Result<Claims, Reject> {
    all.into_iter().try_fold(Claims::of_a_key(), |mut sum, piece| {
        if sum.grants.is_some() && piece.grants.is_some() {
            return Err(Reject::together("each of them admits by itself"));
        }
        if let (Some(one), Some(other)) = (sum.role, piece.role)
            && one != other
        {
            return Err(Reject::together("they are for different roles"));
        }
        sum.names = match (sum.names.is_empty(), piece.names.is_empty()) {
            (true, _) => piece.names,
            (false, true) => sum.names,
            (false, false) => {
                let common = name::common(&sum.names, &piece.names);
                if common.is_empty() {
                    return Err(Reject::together("they have no name in common"));
                }
                common
            }
        };
        for (claim, value) in piece.values {
            if sum.values.get(&claim).is_some_and(|known| *known != value) {
                return Err(Reject::together("they contradict each other"));
            }
            sum.values.insert(claim, value);
        }
        sum.role = sum.role.or(piece.role);
        sum.assurance = sum.assurance.max(piece.assurance);
        sum.grants = sum.grants.or(piece.grants);
        Ok(sum)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use pki::{Assurance, Role};

    use super::*;
    use crate::core::{evidence::Grants, records::Claim};

    /// All combinations of a few values for each field.
    fn pieces() -> Vec<Claims> {
        let mut all = Vec::new();
        for names in [&[][..], &["a"], &["a*"], &["ab", "b"]] {
            for role in [None, Some(Role::Machine), Some(Role::Person)] {
                for group in [None, Some("admins")] {
                    let id = all.len();
                    let grants = group.map(|group| Grants {
                        groups: vec![format!("{group}-{id}")],
                        labels: [("of".to_owned(), id.to_string())].into(),
                        owner: None,
                        continues: None,
                    });
                    all.push(Claims {
                        values: BTreeMap::from([(format!("claim_{id}"), Claim::Bool(true))]),
                        assurance: Assurance::SOFTWARE,
                        role,
                        names: names.iter().map(|&name| name.to_owned()).collect(),
                        grants,
                    });
                }
            }
        }
        all
    }

    fn fits(names: &[String], name: &str) -> bool {
        names.is_empty() || names.iter().any(|pattern| name::matches(pattern, name))
    }

    /// `sum` grants no more than `piece`.
    fn no_more_than(sum: &Claims, piece: &Claims) -> bool {
        let given =
            |claims: &Claims| claims.grants.as_ref().map(|grants| (grants.groups.clone(), grants.labels.clone()));
        given(sum) == given(piece)
            && piece.role.is_none_or(|role| sum.role == Some(role))
            && ["a", "ab", "b", "c"].iter().all(|name| !fits(&sum.names, name) || fits(&piece.names, name))
    }

    #[test]
    fn what_is_granted_is_no_more_than_one_piece_grants() {
        let all = pieces();
        let (mut taken, mut refused) = (0, 0);
        for one in &all {
            for two in &all {
                for three in &all {
                    let set = [one, two, three];
                    let Ok(sum) = merge(set.map(Clone::clone)) else {
                        refused += 1;
                        continue;
                    };
                    taken += 1;
                    assert!(set.iter().all(|piece| sum.role.is_none() == set.iter().all(|p| p.role.is_none())
                        && piece.role.is_none_or(|role| sum.role == Some(role))));
                    match set.iter().find(|piece| piece.grants.is_some()) {
                        None => assert!(sum.grants.is_none()),
                        Some(piece) => assert!(no_more_than(&sum, piece), "{sum:?} from {set:?}"),
                    }
                }
            }
        }
        assert!(taken > 1000 && refused > 1000, "{taken} {refused}");
    }

    #[track_caller]
    fn refused(change: impl Fn(&mut Claims, &mut Claims), want: &'static str) {
        let (mut one, mut two) = (Claims::of_a_key(), Claims::of_a_key());
        change(&mut one, &mut two);
        assert_eq!(merge([one, two]).err(), Some(Reject::together(want)));
    }

    #[test]
    fn what_does_not_agree_is_refused_by_name() {
        let grants = Some(Grants::default());
        refused(|a, b| (a.grants, b.grants) = (grants.clone(), grants.clone()), "each of them admits by itself");
        refused(|a, b| (a.role, b.role) = (Some(Role::Machine), Some(Role::Person)), "they are for different roles");
        refused(|a, b| (a.names, b.names) = (vec!["a".into()], vec!["b*".into()]), "they have no name in common");
        refused(
            |a, b| {
                a.values.insert("prior_name".into(), Claim::Text("a".into()));
                b.values.insert("prior_name".into(), Claim::Text("b".into()));
            },
            "they contradict each other",
        );
    }
}
