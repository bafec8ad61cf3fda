//! `lychgate requests`: who waits, and what becomes of them.

use serde_json::Value;
use wire::admin::{ApprovalView, ApproveRequest, ReasonRequest, RequestView};

use crate::cli::{ApproveArgs, RequestsCommand, pairs};
use crate::edge::manage::segment;
use crate::edge::terminal;
use crate::people::{Desk, typed};
use crate::people_text as show;
use crate::report::{Complaint, Exit};
use crate::text;

impl Desk {
    /// `lychgate requests`.
    ///
    /// # Errors
    /// When the gateway does not answer or refuses.
    pub async fn requests(&mut self, command: &RequestsCommand) -> Result<(), Complaint> {
        let now = self.now;
        match command {
            RequestsCommand::List { all } => {
                self.say_notices().await;
                let all = all.then(|| "true".to_owned());
                let listing = self.listing("/v1/requests", &[("all", all)], usize::MAX).await?;
                self.print_rows(&listing, |rows: &[RequestView]| show::requests(rows, now))
            }
            RequestsCommand::Show { id } => {
                let value = self.request(id).await?;
                self.print(&value, |row: &RequestView| show::request(row, now))
            }
            RequestsCommand::Approve(args) => self.approve(args).await,
            RequestsCommand::Deny { id, reason } => {
                let path = format!("/v1/requests/{}/deny", segment(id));
                let value = self.face.post(&path, &ReasonRequest { reason: reason.clone() }).await?;
                self.done(&value, &format!("denied {id}"));
                Ok(())
            }
        }
    }

    async fn request(&mut self, id: &str) -> Result<Value, Complaint> {
        Ok(self.face.get(&format!("/v1/requests/{}", segment(id))).await?)
    }

    async fn approve(&mut self, args: &ApproveArgs) -> Result<(), Complaint> {
        let same_as = match &args.same_as {
            Some(person) => Some(self.given_by(&args.id, person).await?),
            None => None,
        };
        let code = match (&args.code, args.unchecked) {
            (Some(code), _) => Some(code.clone()),
            (None, true) => None,
            (None, false) => Some(self.ask_for_code(&args.id).await?),
        };
        let body = ApproveRequest {
            unchecked: code.is_none(),
            code,
            name: args.name.clone(),
            labels: pairs(&args.labels),
            owner: args.owner.clone(),
            same_as,
        };
        let value: Value = self.face.post(&format!("/v1/requests/{}/approve", segment(&args.id)), &body).await?;
        let text =
            typed::<RequestView>(&value).map_or_else(|_| format!("approved {}", args.id), |view| approved(&view));
        self.done(&value, &text);
        Ok(())
    }

    /// The digest of what a person gave by approving, which is said to whoever is about to give the same.
    async fn given_by(&mut self, id: &str, person: &str) -> Result<String, Complaint> {
        let view: RequestView = typed(&self.request(id).await?)?;
        let found = view.approvals.iter().find(|approval| approval.by == person);
        let Some(ApprovalView { content: Some(content), name, labels, owner, .. }) = found else {
            let what = format!("`{person}` has not approved the request {id}");
            return Err(Complaint::new(Exit::Failure, "not-found", what)
                .hint(format!("`lychgate requests show {id}` shows who did, and what they gave it")));
        };
        let labels: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let (none, name) = ("nobody", name.as_deref().unwrap_or("-"));
        let owner = owner.as_deref().unwrap_or(none);
        let labels = if labels.is_empty() { "no labels".to_owned() } else { format!("labels {}", labels.join(" ")) };
        terminal::say(&format!("as {person} did: name {name}, owner {owner}, {labels}"));
        Ok(content.clone())
    }

    /// The code, typed at the terminal by somebody who has the request before their eyes.
    async fn ask_for_code(&mut self, id: &str) -> Result<String, Complaint> {
        if terminal::can_ask() {
            let view: RequestView = typed(&self.request(id).await?)?;
            terminal::show(&show::request(&view, self.now));
        }
        let question = format!("The code on the screen of the machine that asks ({}): ", text::safe(id));
        terminal::ask(&question).filter(|code| !code.is_empty()).ok_or_else(|| {
            Complaint::new(Exit::Usage, "usage", "no code is given").hint(
                "pass --code with the code as the machine's owner reads it to you, or --unchecked to say that you did not \
                 check",
            )
        })
    }
}

/// What an approval came to.
fn approved(view: &RequestView) -> String {
    let id = &view.id;
    if view.state != "waiting" {
        return view
            .name
            .as_ref()
            .map_or_else(|| format!("approved {id}"), |name| format!("approved {id} as `{name}`"));
    }
    // One's own is the last.
    let own = view.approvals.last().and_then(|approval| approval.content.as_ref());
    let (same, others): (Vec<&ApprovalView>, Vec<&ApprovalView>) =
        view.approvals.iter().partition(|approval| approval.content.as_ref() == own);
    let missing = usize::try_from(view.approvals_wanted).unwrap_or(0).saturating_sub(same.len());
    let others: Vec<&str> = others.iter().map(|approval| approval.by.as_str()).collect();
    if others.is_empty() {
        return format!("approved {id}; {missing} more wanted");
    }
    let others = others.join(", ");
    format!(
        "approved {id}; {missing} more wanted, for what you give it is not what {others} gave it (`lychgate requests show \
         {id}`; --same-as PERSON approves the same)"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(state: &str, approvals: &[(&str, &str)], want: &str) {
        let approvals: Vec<Value> = approvals
            .iter()
            .map(|(by, content)| serde_json::json!({"by": by, "at": 1, "code_checked": true, "content": content}))
            .collect();
        let view = serde_json::json!({
            "id": "e1", "state": state, "role": "machine", "name": (state != "waiting").then_some("edge-07"), "key": "",
            "algorithm": "", "verified": {}, "claimed": {}, "assurance": "", "source": "", "created": 0, "expires": 0,
            "approvals": approvals, "approvals_wanted": 2,
        });
        let said = approved(&serde_json::from_value(view).unwrap());
        assert!(said.starts_with(want), "{said}");
    }

    #[test]
    fn an_approval_says_what_it_came_to() {
        check("approved", &[("ann", "c1"), ("bob", "c1")], "approved e1 as `edge-07`");
        check("waiting", &[("bob", "c1")], "approved e1; 1 more wanted");
        let other = "approved e1; 1 more wanted, for what you give it is not what ann gave it";
        check("waiting", &[("ann", "c1"), ("bob", "c2")], other);
    }
}
