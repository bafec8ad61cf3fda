//! `lychgate requests`.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use wire::admin::{ApprovalView, ApproveRequest, ReasonRequest, RequestEvents, RequestView};

use crate::cli::{ApproveArgs, RequestsCommand, pairs};
use crate::commands::manage_client::{ManageClient, typed};
use crate::edge::manage::{query, segment};
use crate::edge::terminal;
use crate::text;
use crate::text::report::{Complaint, Exit};
use crate::text::requests as show;

/// Characters of a request's id.
const ID_CHARS: usize = 12;

/// Interval of queries in `requests wait`.
const LOOK: Duration = Duration::from_secs(1);

impl ManageClient {
    /// `lychgate requests`.
    pub async fn requests(&mut self, command: &RequestsCommand) -> Result<(), Complaint> {
        let now = self.now;
        match command {
            RequestsCommand::List { all } => {
                self.say_notices().await;
                let all = all.then(|| "true".to_owned());
                let listing = self.listing("/v1/requests", &[("all", all)], usize::MAX).await?;
                self.print_rows(&listing, |rows: &[RequestView]| show::requests(rows, now))
            }
            RequestsCommand::Watch => self.watch_requests().await,
            RequestsCommand::Show { id } => {
                let id = self.full_id(id).await?;
                let value = self.request(&id).await?;
                self.print(&value, |row: &RequestView| show::request(row, now))
            }
            RequestsCommand::Approve(args) => self.approve(args).await,
            RequestsCommand::Wait { id, timeout } => {
                let id = self.full_id(id).await?;
                self.wait_for_request(&id, *timeout).await
            }
            RequestsCommand::Deny { ids, from, reason } => self.deny(ids, from.as_deref(), reason).await,
            RequestsCommand::Reopen { id } => {
                let path = format!("/v1/requests/{}/reopen", segment(id));
                let value: Value = self.face.post(&path, &json!({})).await?;
                let until = typed::<RequestView>(&value).map_or(0, |view| view.expires);
                let next = "`lychgate join` on its machine goes on with it";
                self.done(
                    &value,
                    &format!("the denial of {id} is taken back: it waits until {}; {next}", pki::UnixTime::new(until)),
                );
                Ok(())
            }
        }
    }

    async fn deny(&mut self, ids: &[String], from: Option<&str>, reason: &str) -> Result<(), Complaint> {
        let mut full_ids = Vec::new();
        for id in ids {
            full_ids.push(self.full_id(id).await?);
        }
        if let Some(prefix) = from {
            full_ids.extend(self.waiting().await?.into_iter().filter(|row| row.source == prefix).map(|row| row.id));
        }
        if full_ids.is_empty() {
            let what = format!("no request from {} is waiting", from.unwrap_or_default());
            return Err(Complaint::new(Exit::Failure, "not-found", what)
                .hint("`lychgate requests list` shows the networks, such as 192.0.2.0/24"));
        }
        let body = ReasonRequest { reason: reason.to_owned() };
        let mut last = Value::Null;
        for id in &full_ids {
            last = self.face.post(&format!("/v1/requests/{}/deny", segment(id)), &body).await?;
        }
        let instance = last.get("instance").cloned().unwrap_or_default();
        let value = json!({ "result": "denied", "requests": full_ids, "instance": instance });
        self.done(&value, &format!("denied {}", full_ids.join(", ")));
        Ok(())
    }

    /// The waiting requests that the person may read.
    async fn waiting(&mut self) -> Result<Vec<RequestView>, Complaint> {
        let listing = self.listing("/v1/requests", &[], usize::MAX).await?;
        typed(listing.get("items").unwrap_or(&Value::Null))
    }

    /// The waiting request whose id begins with `id`, if it is the only one; else `id` itself.
    async fn full_id(&mut self, id: &str) -> Result<String, Complaint> {
        if id.is_empty() || id.len() >= ID_CHARS || !id.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Ok(id.to_owned());
        }
        let found: Vec<String> =
            self.waiting().await?.into_iter().map(|row| row.id).filter(|full| full.starts_with(id)).collect();
        match found.as_slice() {
            [one] => Ok(one.clone()),
            [] => Ok(id.to_owned()),
            several => Err(Complaint::new(Exit::Usage, "usage", format!("several requests begin with `{id}`"))
                .hint(format!("give more of it: {}", several.join(", ")))),
        }
    }

    /// Prints new and decided requests, until a signal comes.
    async fn watch_requests(&mut self) -> Result<(), Complaint> {
        let (mut known, mut seen): (BTreeMap<String, RequestView>, Option<String>) = (BTreeMap::new(), None);
        let began = tokio::time::Instant::now();
        loop {
            let wait = if seen.is_some() { wire::limits::WAIT_MAX_SECS } else { 0 };
            let parameters = [("seen", seen.take()), ("wait", Some(wait.to_string()))];
            let page: RequestEvents = self.face.get(&format!("/v1/request-events{}", query(&parameters))).await?;
            // A gateway that is stopping sends an empty page with an empty `seen`.
            if !page.seen.is_empty() {
                let rows: BTreeMap<String, RequestView> =
                    page.items.into_iter().map(|row| (row.id.clone(), row)).collect();
                let now = self.now.plus(began.elapsed());
                for (event, row) in changes(&known, &rows) {
                    let value = json!({ "event": event, "request": row });
                    terminal::result(self.format, &value, &show::request_event(event, row, now));
                }
                known = rows;
                seen = Some(page.seen);
            }
        }
    }

    /// Waits until a request is decided.
    async fn wait_for_request(&mut self, id: &str, patience: Option<Duration>) -> Result<(), Complaint> {
        let until = patience.map(|patience| Instant::now() + patience);
        loop {
            let value = self.request(id).await?;
            let view: RequestView = typed(&value)?;
            let what = match view.state.as_str() {
                "approved" | "issued" => return self.print(&value, |row: &RequestView| show::request(row, self.now)),
                "waiting" => None,
                "denied" => Some(format!("the request {id} was denied: {}", view.reason.unwrap_or_default())),
                other => Some(format!("the request {id} is `{other}`")),
            };
            if let Some(what) = what {
                return Err(Complaint::new(Exit::Refused, "not-approved", what));
            }
            if until.is_some_and(|until| Instant::now() + LOOK > until) {
                return Err(Complaint::new(Exit::Waiting, "waiting", format!("the request {id} still waits"))
                    .hint("`lychgate requests show` shows what is missing"));
            }
            sleep(LOOK).await;
        }
    }

    async fn request(&mut self, id: &str) -> Result<Value, Complaint> {
        Ok(self.face.get(&format!("/v1/requests/{}", segment(id))).await?)
    }

    async fn approve(&mut self, args: &ApproveArgs) -> Result<(), Complaint> {
        let id = match &args.id {
            Some(id) => self.full_id(id).await?,
            None => self.pick().await?,
        };
        let same_as = match &args.same_as {
            Some(person) => Some(self.given_by(&id, person).await?),
            None => None,
        };
        let mut name = args.name.clone();
        let code = match (&args.code, args.unchecked) {
            (Some(code), _) => Some(code.clone()),
            (None, true) => None,
            (None, false) => {
                let given_already = name.is_some() || args.same_as.is_some();
                if let Some(view) = self.show_to_approver(&id).await?
                    && view.taken.is_some()
                    && !given_already
                {
                    name = Some(ask_for_name(&view)?);
                }
                Some(ask_for_code(&id)?)
            }
        };
        let body = ApproveRequest {
            unchecked: code.is_none(),
            code,
            name,
            labels: pairs(&args.labels),
            owner: args.owner.clone(),
            same_as,
        };
        let value: Value = self.face.post(&format!("/v1/requests/{}/approve", segment(&id)), &body).await?;
        let text = typed::<RequestView>(&value).map_or_else(|_| format!("approved {id}"), |view| approved(&view));
        self.done(&value, &text);
        Ok(())
    }

    /// The digest of a person's approval, whose contents are shown before they are repeated.
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

    /// The request when none is named: the only waiting one, or the one chosen at the terminal.
    async fn pick(&mut self) -> Result<String, Complaint> {
        let list = "`lychgate requests list` shows those that wait";
        let none = || Complaint::new(Exit::Usage, "usage", "no request is named").hint(list);
        if !terminal::can_ask() {
            return Err(none());
        }
        let rows = self.waiting().await?;
        match rows.as_slice() {
            [] => Err(Complaint::new(Exit::Failure, "not-found", "no request is waiting that you may see")),
            [one] => Ok(one.id.clone()),
            several => {
                terminal::show(&show::requests(several, self.now).render(terminal::width()));
                let picked = terminal::ask("Which request (the beginning of it does): ").unwrap_or_default();
                if picked.is_empty() { Err(none()) } else { self.full_id(&picked).await }
            }
        }
    }

    /// Shows the request to a person who is about to decide at a terminal.
    async fn show_to_approver(&mut self, id: &str) -> Result<Option<RequestView>, Complaint> {
        if !terminal::can_ask() {
            return Ok(None);
        }
        let view: RequestView = typed(&self.request(id).await?)?;
        terminal::show(&show::request(&view, self.now));
        Ok(Some(view))
    }
}

/// Prompts for another name, when the requested one is in use.
fn ask_for_name(view: &RequestView) -> Result<String, Complaint> {
    let wanted = view.wanted_name.as_deref().unwrap_or_default();
    let question = format!("The name `{}` is taken. The name to give instead: ", text::safe(wanted));
    terminal::ask(&question).filter(|name| !name.is_empty()).ok_or_else(|| {
        Complaint::new(Exit::Refused, "name-taken", format!("the name `{wanted}` is taken"))
            .hint("--name gives another name; or have whoever holds it removed first")
    })
}

/// Prompts for the waiting code.
fn ask_for_code(id: &str) -> Result<String, Complaint> {
    let question = format!("The code on the screen of the machine that asks ({}): ", text::safe(id));
    terminal::ask(&question).filter(|code| !code.is_empty()).ok_or_else(|| {
        Complaint::new(Exit::Usage, "usage", "no code is given").hint(
            "pass --code with the code as the machine's owner reads it to you, or --unchecked to say that you did not check",
        )
    })
}

/// The requests that are new, have another approval, or no longer wait.
fn changes<'a>(
    before: &'a BTreeMap<String, RequestView>,
    now: &'a BTreeMap<String, RequestView>,
) -> Vec<(&'static str, &'a RequestView)> {
    let came = now.values().filter_map(|row| match before.get(&row.id) {
        None => Some(("waits", row)),
        Some(old) if old.approvals.len() != row.approvals.len() => Some(("approval", row)),
        Some(_) => None,
    });
    let gone = before.values().filter(|row| !now.contains_key(&row.id)).map(|row| ("decided", row));
    came.chain(gone).collect()
}

/// The message after an approval.
fn approved(view: &RequestView) -> String {
    let id = &view.id;
    if view.state != "waiting" {
        return view
            .name
            .as_ref()
            .map_or_else(|| format!("approved {id}"), |name| format!("approved {id} as `{name}`"));
    }
    // The approval just made is the last one.
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

    fn row(id: &str, approvals: usize) -> (String, RequestView) {
        let approval = serde_json::json!({ "by": "ann", "at": 1, "code_checked": true });
        let view = serde_json::json!({
            "id": id, "state": "waiting", "role": "machine", "key": "", "algorithm": "", "verified": {}, "claimed": {},
            "assurance": "", "source": "", "created": 0, "expires": 0, "approvals": vec![approval; approvals],
            "approvals_wanted": 2,
        });
        (id.to_owned(), serde_json::from_value(view).unwrap())
    }

    #[test]
    fn what_happened_is_what_differs() {
        let before = BTreeMap::from([row("a", 0), row("b", 0), row("c", 0)]);
        let now = BTreeMap::from([row("b", 1), row("c", 0), row("d", 0)]);
        let told: Vec<(&str, &str)> =
            changes(&before, &now).into_iter().map(|(event, row)| (event, row.id.as_str())).collect();
        assert_eq!(told, [("approval", "b"), ("waits", "d"), ("decided", "a")]);
        assert!(changes(&now, &now).is_empty());
    }

    #[test]
    fn an_approval_says_what_it_came_to() {
        check("approved", &[("ann", "c1"), ("bob", "c1")], "approved e1 as `edge-07`");
        check("waiting", &[("bob", "c1")], "approved e1; 1 more wanted");
        let other = "approved e1; 1 more wanted, for what you give it is not what ann gave it";
        check("waiting", &[("ann", "c1"), ("bob", "c2")], other);
    }
}
