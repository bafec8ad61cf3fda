//! `machines set`, `people set`, `people remove` and `people offboard`.

use serde_json::Value;
use wire::admin::{MachineChange, MadeView, OffboardRequest, PersonChange, RemovedView, SetReply};

use crate::cli::{MachineSetArgs, PersonSetArgs, pairs};
use crate::commands::manage_client::{ManageClient, typed, with_result};
use crate::edge::manage::segment;
use crate::edge::terminal::{self, Format};
use crate::text::report::{Complaint, Exit};

impl ManageClient {
    /// `lychgate machines set`.
    ///
    /// # Errors
    /// When there is nothing to change, or the gateway does not answer or refuses.
    pub(crate) async fn set_machine(&mut self, args: &MachineSetArgs) -> Result<(), Complaint> {
        let body = MachineChange {
            labels: pairs(&args.labels),
            no_labels: args.no_labels.clone(),
            owner: args.owner.clone(),
            no_owner: args.no_owner,
            name: args.name.clone(),
        };
        let nothing_new = body.labels.is_empty() && body.no_labels.is_empty() && body.owner.is_none() && !body.no_owner;
        if nothing_new && body.name.is_none() {
            return Err(nothing("--label, --no-label, --owner, --no-owner or --name"));
        }
        let value = self.face.patch(&format!("/v1/machines/{}", segment(&args.machine)), &body).await?;
        self.print_set(&value, "machine")
    }

    /// `lychgate people set`.
    ///
    /// # Errors
    /// When there is nothing to change, or the gateway does not answer or refuses.
    pub(crate) async fn set_person(&mut self, args: &PersonSetArgs) -> Result<(), Complaint> {
        let body = PersonChange { groups: args.groups.clone(), no_groups: args.no_groups.clone() };
        if body.groups.is_empty() && body.no_groups.is_empty() {
            return Err(nothing("--group or --no-group"));
        }
        let value = self.face.patch(&format!("/v1/people/{}", segment(&args.person)), &body).await?;
        self.print_set(&value, "person")
    }

    fn print_set(&self, value: &Value, kind: &str) -> Result<(), Complaint> {
        if self.format == Format::Text {
            let reply: SetReply = typed(value)?;
            for warning in &reply.warnings {
                terminal::say(warning);
            }
            let row = reply.subject;
            let labels: Vec<String> = row.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
            let has = match kind {
                "person" => format!("groups {}", or_none(&row.groups)),
                _ => format!("owner {}, labels {}", row.owner.as_deref().unwrap_or("nobody"), or_none(&labels)),
            };
            let becomes = row
                .renaming
                .as_ref()
                .map_or_else(String::new, |name| format!("; it is asked to renew, and with that it becomes `{name}`"));
            self.done(value, &format!("the {kind} `{}` has now: {has}{becomes}", row.name));
            return Ok(());
        }
        self.done(value, "");
        Ok(())
    }

    /// `lychgate people offboard`.
    pub(crate) async fn offboard(&mut self, person: &str, to: &str) -> Result<(), Complaint> {
        let path = format!("/v1/people/{}/offboard", segment(person));
        let value: Value = self.face.post(&path, &OffboardRequest { to: to.to_owned() }).await?;
        let lines = removed(&format!("removed the person `{person}`"), Some(to), &value);
        self.done_lines(&with_result("removed", value), &lines);
        Ok(())
    }
}

fn nothing(options: &str) -> Complaint {
    Complaint::new(Exit::Usage, "usage", "nothing is to be changed").hint(format!("say what: {options}"))
}

fn or_none(items: &[String]) -> String {
    if items.is_empty() { "none".to_owned() } else { items.join(" ") }
}

/// What has no effect any longer after a removal, one line for each kind.
#[must_use]
pub fn removed(what: &str, to: Option<&str>, value: &Value) -> Vec<String> {
    let view: RemovedView = typed(value).unwrap_or_default();
    let mut lines = vec![what.to_owned()];
    if let (Some(to), false) = (to, view.handed_over.is_empty()) {
        lines.push(format!("machines that `{to}` owns now: {}", view.handed_over.join(", ")));
    }
    if let Some(ended) = &view.ended {
        lines.extend(made(ended, "worthless now", "count no more", "that nobody owns now"));
    }
    lines
}

/// What a person made and owns, one line for each kind that is not empty.
#[must_use]
pub fn made(made: &MadeView, tokens: &str, approvals: &str, machines: &str) -> Vec<String> {
    let kinds = [
        (&made.tokens, format!("tokens and invitations of theirs, {tokens}")),
        (&made.approvals, format!("requests they approved, whose approvals {approvals}")),
        (&made.machines, format!("machines {machines}")),
    ];
    let mut lines: Vec<String> = kinds
        .into_iter()
        .filter(|(names, _)| !names.is_empty())
        .map(|(names, what)| format!("{what}: {}", names.join(", ")))
        .collect();
    if made.more > 0 {
        lines.push(format!("and {} more", made.more));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_with_somebody_is_said() {
        let value = serde_json::json!({
            "instance": "i", "handed_over": ["edge-1"],
            "ended": {"tokens": ["t1", "t2"], "approvals": [], "machines": ["edge-2"], "more": 3},
        });
        let want = "removed the person `bob`\nmachines that `carol` owns now: edge-1\n\
                    tokens and invitations of theirs, worthless now: t1, t2\nmachines that nobody owns now: edge-2\nand 3 more";
        assert_eq!(removed("removed the person `bob`", Some("carol"), &value).join("\n"), want);
        // An older gateway, without this field.
        assert_eq!(
            removed("removed the machine `m`", None, &serde_json::json!({"instance": "i"})),
            ["removed the machine `m`"]
        );
    }
}
