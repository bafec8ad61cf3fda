//! What is not converted for Cedar, and the rules that are left out, change no decision.

use super::*;

/// Rules of other types and attributes that no rule reads are left out. Cedar decides the same with them.
#[test]
fn what_is_left_out_changes_nothing() {
    let examples = [
        DEFAULT_POLICY,
        include_str!("../../../examples/two-approvers.cedar"),
        include_str!("../../../examples/no-nights.cedar"),
        include_str!("../../../examples/owners-log-in.cedar"),
        include_str!("../../../examples/label-for-group.cedar"),
        include_str!("../../../examples/helpdesk.cedar"),
    ]
    .concat();
    let rules = load(&examples).unwrap();
    let all: cedar_policy::PolicySet = examples.parse().unwrap();
    let id = |policy: &cedar_policy::Policy| cedar_policy::PolicyId::new(policy.annotation("id").unwrap());
    let all = cedar_policy::PolicySet::from_policies(all.policies().map(|policy| policy.new_id(id(policy)))).unwrap();
    let mut compared = 0;
    for action in Action::ALL {
        for (principal, resource) in principals().into_iter().flat_map(|p| resources().map(|r| (p.clone(), r))) {
            let ask = Ask { action, principal, resource, now: NOW };
            let Ok(response) = evaluate(&rules, &ask) else { continue };
            let Built { principal, resource, entities, context } = build(&rules, &ask);
            let known = rules.for_action(action).unwrap();
            let request = cedar_policy::Request::new(principal, known.uid.clone(), resource, context, None).unwrap();
            let entities = Entities::from_entities(entities, None).unwrap();
            let full = rules.authorizer().is_authorized(&request, &all, &entities);
            let reasons = |response: &Response| sorted(response.diagnostics().reason().map(ToString::to_string));
            assert_eq!((full.decision(), reasons(&full)), (response.decision(), reasons(&response)), "{ask:?}");
            compared += 1;
        }
    }
    assert_eq!(compared, 28);
}
