//! Administration: requests, machines, people, locks, tokens, audit. `--json` prints the gateway's reply unchanged; otherwise
//! [`crate::text`] formats it.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use wire::admin::{
    AuditView, CanIReply, CanIRequest, LockRequest, LockView, Page, RenewalsRequest, SessionEvents, SessionView,
    SubjectView, TokenReply, TokenRequest, TokenView,
};

use crate::cli::{
    AuditArgs, CanIArgs, InventoryArgs, LocksCommand, MachinesCommand, PeopleCommand, SessionsCommand, TokenArgs,
    TokensCommand, pairs, parse_moment,
};
use crate::commands::manage_client::{ManageClient, typed, with_result};
use crate::commands::{inventory, set};
use crate::core::target::{parse_name, parse_pin};
use crate::edge::clock;
use crate::edge::manage::{query, segment};
use crate::edge::net::CallError;
use crate::edge::terminal::{self, Format};
use crate::text::followed::Followed;
use crate::text::report::{Complaint, Exit};
use crate::text::{self, records, sessions, subjects};

/// Interval of queries in `machines wait`.
const LOOK: Duration = Duration::from_secs(1);

/// Interval of queries in `audit --follow`.
const FOLLOW: Duration = Duration::from_secs(2);

/// The configuration for `ssh`, in the folder of the identity.
const SSH_CONFIG: &str = "ssh/config";

/// What `machines unlock` and `people unlock` are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SubjectKind {
    Machine,
    Person,
}

impl SubjectKind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Machine => "machine",
            Self::Person => "person",
        }
    }

    const fn path(self) -> &'static str {
        match self {
            Self::Machine => "/v1/machines",
            Self::Person => "/v1/people",
        }
    }
}

impl ManageClient {
    /// `lychgate machines`.
    pub async fn machines(&mut self, command: &MachinesCommand) -> Result<(), Complaint> {
        let now = self.now;
        match command {
            MachinesCommand::List(args) => {
                self.say_notices().await;
                let online = match (args.online, args.offline) {
                    (false, false) => None,
                    (online, _) => Some(online.to_string()),
                };
                let names = Some(args.names.join(",")).filter(|names| !names.is_empty());
                let parameters = [
                    ("name", names),
                    ("state", args.state.map(|state| state.as_str().to_owned())),
                    ("label", args.label.clone()),
                    ("owner", args.owner.clone()),
                    ("online", online),
                ];
                let listing = self.listing(SubjectKind::Machine.path(), &parameters, usize::MAX).await?;
                self.print_rows(&listing, |rows: &[SubjectView]| subjects::machines(rows, now))
            }
            MachinesCommand::Show { names } => {
                for name in names {
                    let value = self.face.get(&format!("/v1/machines/{}", segment(name))).await?;
                    self.print(&value, |row: &SubjectView| subjects::subject(row, now))?;
                }
                Ok(())
            }
            MachinesCommand::Lock { names, reason } => {
                for name in names {
                    self.lock(SubjectKind::Machine.as_str(), name, reason).await?;
                }
                Ok(())
            }
            MachinesCommand::Unlock { name } => self.unlock_all(SubjectKind::Machine, name).await,
            MachinesCommand::Renew { names, all, reason } => {
                let body = RenewalsRequest { machines: names.clone(), all: *all, reason: reason.clone() };
                let value = self.face.post("/v1/renewals", &body).await?;
                let whom = if *all { "all machines".to_owned() } else { format!("`{}`", names.join("`, `")) };
                self.done(
                    &with_result("asked", value),
                    &format!(
                        "asked {whom} to renew; `lychgate run` there does so at once by its tunnel, or within the hour"
                    ),
                );
                Ok(())
            }
            MachinesCommand::Set(args) => self.set_machine(args).await,
            MachinesCommand::Wait { name, online: _, timeout } => self.wait_for_machine(name, *timeout).await,
            MachinesCommand::Remove { name } => self.remove(SubjectKind::Machine, name).await,
        }
    }

    /// `lychgate people`.
    pub async fn people(&mut self, command: &PeopleCommand) -> Result<(), Complaint> {
        let now = self.now;
        match command {
            PeopleCommand::Invite { name, groups, ttl } => {
                let body = TokenRequest {
                    names: name.iter().cloned().collect(),
                    groups: groups.clone(),
                    ttl: ttl.map(|ttl| ttl.as_secs()),
                    ..TokenRequest::default()
                };
                let value = self.face.post("/v1/people/invite", &body).await?;
                self.print_token(&value)
            }
            PeopleCommand::List => {
                let listing = self.listing(SubjectKind::Person.path(), &[], usize::MAX).await?;
                self.print_rows(&listing, |rows: &[SubjectView]| subjects::people(rows, now))
            }
            PeopleCommand::Show { name } => {
                let value = self.face.get(&format!("/v1/people/{}", segment(name))).await?;
                self.print(&value, |row: &SubjectView| subjects::subject(row, now))
            }
            PeopleCommand::Set(args) => self.set_person(args).await,
            PeopleCommand::Offboard { name, to } => self.offboard(name, to).await,
            PeopleCommand::Lock { name, reason } => self.lock(SubjectKind::Person.as_str(), name, reason).await,
            PeopleCommand::Unlock { name } => self.unlock_all(SubjectKind::Person, name).await,
            PeopleCommand::Remove { name } => self.remove(SubjectKind::Person, name).await,
        }
    }

    /// Waits until a machine has a tunnel. The machine need not exist yet.
    async fn wait_for_machine(&mut self, name: &str, patience: Option<Duration>) -> Result<(), Complaint> {
        let path = format!("/v1/machines/{}", segment(parse_name(name)?.as_str()));
        let until = patience.map(|patience| Instant::now() + patience);
        let mut missed = false;
        loop {
            let why = match self.face.get::<Value>(&path).await {
                Ok(value) => match typed::<SubjectView>(&value)?.tunnel {
                    Some(_) => return self.print(&value, |row: &SubjectView| subjects::subject(row, self.now)),
                    None => format!("the machine `{name}` is offline"),
                },
                Err(CallError::Refused(refusal)) if refusal.status == 404 => {
                    if !std::mem::replace(&mut missed, true) {
                        terminal::say(&format!("no machine `{name}` that you may see, yet"));
                    }
                    format!("no machine `{name}` that you may see")
                }
                Err(error) => return Err(error.into()),
            };
            if until.is_some_and(|until| Instant::now() + LOOK > until) {
                return Err(Complaint::new(Exit::Unreachable, "offline", why)
                    .hint("see that the machine is up and `lychgate run` runs on it"));
            }
            sleep(LOOK).await;
        }
    }

    async fn remove(&mut self, kind: SubjectKind, name: &str) -> Result<(), Complaint> {
        let value = self.face.delete(&format!("{}/{}", kind.path(), segment(name))).await?;
        let lines = set::removed(&format!("removed the {} `{name}`", kind.as_str()), None, &value);
        self.done_lines(&with_result("removed", value), &lines);
        Ok(())
    }

    async fn lock(&mut self, kind: &str, target: &str, reason: &str) -> Result<(), Complaint> {
        let body = LockRequest { kind: kind.to_owned(), target: target.to_owned(), reason: reason.to_owned() };
        let value: Value = self.face.post("/v1/locks", &body).await?;
        let view = typed::<LockView>(&value).ok();
        let ended = view.as_ref().and_then(records::ended).map_or_else(String::new, |ended| format!("; {ended}"));
        let hits = view.as_ref().map(|view| view.hits.join(", ")).filter(|hits| !hits.is_empty());
        let hits = hits.map_or_else(String::new, |hits| format!(", and with it {hits}"));
        let mut lines = vec![format!("locked the {kind} `{target}`{hits}{ended}")];
        if let Some(made) = view.and_then(|view| view.suspended) {
            let until = "worthless until they are unlocked";
            lines.extend(set::made(&made, until, "do not count meanwhile", "whose owner is locked with that"));
        }
        self.done_lines(&value, &lines);
        Ok(())
    }

    async fn unlock(&mut self, kind: &str, target: &str) -> Result<Value, CallError> {
        self.face.delete(&format!("/v1/locks/{}/{}", segment(kind), segment(target))).await
    }

    /// Lifts the locks of a machine or person and of its lineage. A lock of its key is kept, because a stolen key remains stolen.
    async fn unlock_all(&mut self, kind: SubjectKind, name: &str) -> Result<(), Complaint> {
        let view: Result<SubjectView, CallError> = self.face.get(&format!("{}/{}", kind.path(), segment(name))).await;
        let (to_lift, kept): (Vec<LockView>, Vec<LockView>) = match view {
            Ok(view) => view.locks.into_iter().partition(|lock| lock.kind != "key"),
            // A person may have the right to unlock without the right to read.
            Err(CallError::Refused(_)) => (vec![], vec![]),
            Err(error) => return Err(error.into()),
        };
        let mut lifted: Vec<(&str, &str)> = Vec::new();
        if to_lift.is_empty() {
            self.unlock(kind.as_str(), name).await?;
            lifted.push((kind.as_str(), name));
        }
        for lock in &to_lift {
            self.unlock(&lock.kind, &lock.target).await?;
            lifted.push((&lock.kind, &lock.target));
        }
        for lock in &kept {
            terminal::say(&format!("the lock of the key {} stays; `lychgate locks remove key` lifts it", lock.target));
        }
        let value: Vec<Value> = lifted.iter().map(|(kind, target)| json!({ "kind": kind, "target": target })).collect();
        let text: Vec<String> = lifted.iter().map(|(kind, target)| format!("{kind} {target}")).collect();
        self.done(&json!({ "result": "unlocked", "lifted": value }), &format!("lifted: {}", text.join(", ")));
        Ok(())
    }

    /// `lychgate locks`.
    pub async fn locks(&mut self, command: &LocksCommand) -> Result<(), Complaint> {
        match command {
            LocksCommand::List => {
                let listing = self.listing("/v1/locks", &[], usize::MAX).await?;
                self.print_rows(&listing, |rows: &[LockView]| records::locks(rows))
            }
            LocksCommand::Add { kind, target, reason } => self.lock(kind.as_str(), target, reason).await,
            LocksCommand::Remove { kind, target } => {
                let value = self.unlock(kind.as_str(), target).await?;
                let lifted = json!([{ "kind": kind.as_str(), "target": target }]);
                let instance = value.get("instance").cloned().unwrap_or_default();
                let value = json!({ "result": "unlocked", "lifted": lifted, "instance": instance });
                self.done(&value, &format!("lifted: {} {target}", kind.as_str()));
                Ok(())
            }
        }
    }

    /// `lychgate tokens`.
    pub async fn tokens(&mut self, command: &TokensCommand) -> Result<(), Complaint> {
        let now = self.now;
        match command {
            TokensCommand::Create(args) => {
                let value = self.face.post("/v1/tokens", &token_request(args)?).await?;
                self.print_token(&value)
            }
            TokensCommand::List => {
                let listing = self.listing("/v1/tokens", &[], usize::MAX).await?;
                self.print_rows(&listing, |rows: &[TokenView]| records::tokens(rows, now))
            }
            TokensCommand::Revoke { id } => {
                let value = self.face.delete(&format!("/v1/tokens/{}", segment(id))).await?;
                self.done(&with_result("revoked", value), &format!("revoked the token {id}"));
                Ok(())
            }
        }
    }

    /// Prints a new token: only the token itself on standard output, the rest on standard error.
    fn print_token(&self, value: &Value) -> Result<(), Complaint> {
        if self.format == Format::Text {
            let reply: TokenReply = typed(value)?;
            let expires = pki::UnixTime::new(reply.expires);
            terminal::say(&format!("token {}, good until {expires}; it is shown this once", reply.id));
            for warning in &reply.warnings {
                terminal::say(warning);
            }
            terminal::say(&format!(
                "whoever has it can join; send them this line: lychgate join {}",
                text::safe(&reply.token)
            ));
        }
        self.print(value, |reply: &TokenReply| text::safe(&reply.token))
    }

    /// `sessions`.
    pub async fn sessions(&mut self, command: &SessionsCommand) -> Result<(), Complaint> {
        match command {
            SessionsCommand::List { machine, person, service, rule } => {
                let parameters = [
                    ("machine", machine.clone()),
                    ("person", person.clone()),
                    ("service", service.clone()),
                    ("rule", rule.clone()),
                ];
                let now = self.now;
                let listing = self.listing("/v1/sessions", &parameters, usize::MAX).await?;
                self.print_rows(&listing, |rows: &[SessionView]| sessions::sessions(rows, now))
            }
            SessionsCommand::Show { id } => {
                let value: Value = self.face.get(&format!("/v1/sessions/{}", segment(id))).await?;
                self.print(&value, sessions::session)
            }
            SessionsCommand::Kill { id } => {
                let value: Value = self.face.delete(&format!("/v1/sessions/{}", segment(id))).await?;
                self.print(&value, |view: &SessionView| format!("ended the session {} to `{}`", view.id, view.machine))
            }
            SessionsCommand::Watch => self.watch().await,
        }
    }

    /// Prints sessions as they open and end, until a signal comes.
    async fn watch(&mut self) -> Result<(), Complaint> {
        let mut after: Option<String> = None;
        if self.format == Format::Text {
            terminal::say("openings and ends are printed as they happen; Ctrl-C stops");
        }
        loop {
            let wait = if after.is_some() { wire::limits::WAIT_MAX_SECS } else { 0 };
            let parameters = [("after", after), ("wait", Some(wait.to_string()))];
            let value: Value = self.face.get(&format!("/v1/session-events{}", query(&parameters))).await?;
            let page: SessionEvents = typed(&value)?;
            if page.gap && self.format == Format::Text {
                terminal::say("some openings and ends before this are missing; `lychgate audit` has all of them");
            }
            if let Some(Value::Array(items)) = value.get("items") {
                for (item, event) in items.iter().zip(&page.items) {
                    terminal::result(self.format, item, &sessions::session_event(event));
                }
            }
            after = Some(page.cursor.unwrap_or_else(|| page.next.to_string()));
        }
    }

    /// `lychgate audit`.
    ///
    /// # Errors
    /// When the gateway does not answer or refuses, or the time is invalid.
    pub async fn audit(&mut self, args: &AuditArgs) -> Result<(), Complaint> {
        let since = match &args.since {
            Some(text) => {
                let at = parse_moment(text, clock::now()).map_err(|what| Complaint::new(Exit::Usage, "usage", what))?;
                Some(at.secs().to_string())
            }
            None => None,
        };
        let parameters = [
            ("event", args.event.clone()),
            ("subject", args.subject.clone()),
            ("actor", args.actor.clone()),
            ("since", since),
        ];
        if args.follow {
            return self.follow(&parameters).await;
        }
        let listing = self.listing("/v1/audit", &parameters, args.limit).await?;
        if self.format == Format::Text {
            let count = listing.get("items").and_then(Value::as_array).map_or(0, Vec::len);
            if listing.get("next").is_some() {
                terminal::say(&format!("these are the last {count}; there are more, --limit shows them"));
            } else if count == 0 {
                terminal::say(
                    "no event that you may see fits; --subject and --actor are part of a name, an id or an identity",
                );
            }
        }
        self.print(&listing, |page: &Page<AuditView>| records::audit(&page.items, terminal::width()))
    }

    /// Prints new events until a signal comes, starting now or at the given time.
    async fn follow(&mut self, parameters: &[(&str, Option<String>)]) -> Result<(), Complaint> {
        let given = parameters.iter().find_map(|(name, value)| value.clone().filter(|_| *name == "since"));
        let given = given.and_then(|given| given.parse().ok());
        let mut followed = Followed::since(given.unwrap_or_else(|| self.now.secs().saturating_sub(1)));
        if given.is_none() {
            self.happened(&mut followed, parameters).await?;
        }
        if self.format == Format::Text {
            terminal::say("events are printed as they happen; Ctrl-C stops");
        }
        loop {
            for (value, event) in self.happened(&mut followed, parameters).await? {
                terminal::result(self.format, &value, &records::audit(&[event], terminal::width()));
            }
            sleep(FOLLOW).await;
        }
    }

    /// The new events, oldest first.
    async fn happened(
        &mut self,
        followed: &mut Followed,
        parameters: &[(&str, Option<String>)],
    ) -> Result<Vec<(Value, AuditView)>, Complaint> {
        let mut parameters: Vec<(&str, Option<String>)> =
            parameters.iter().filter(|(name, _)| *name != "since").cloned().collect();
        parameters.push(("since", Some(followed.from().to_string())));
        let listing = self.listing("/v1/audit", &parameters, usize::MAX).await?;
        let mut new = Vec::new();
        for value in listing.get("items").and_then(Value::as_array).into_iter().flatten().rev() {
            let event: AuditView = typed(value)?;
            if followed.note(event.at_ms, &event.id) {
                new.push((value.clone(), event));
            }
        }
        followed.move_on();
        Ok(new)
    }

    /// `lychgate inventory`.
    pub async fn inventory(&mut self, dir: &Path, args: &InventoryArgs) -> Result<(), Complaint> {
        let ssh = inventory::ssh_arguments(&dir.join(SSH_CONFIG))?;
        let value = match &args.host {
            Some(name) => {
                let row = self.face.get(&format!("/v1/machines/{}", segment(name))).await?;
                inventory::host(&row, ssh.as_deref())?
            }
            None => {
                let listing = self.listing(SubjectKind::Machine.path(), &[], usize::MAX).await?;
                let rows: Vec<SubjectView> = typed(listing.get("items").unwrap_or(&Value::Null))?;
                for (name, why) in rows.iter().filter_map(|row| Some((&row.name, pki::misread(&row.name)?))) {
                    terminal::say(&format!("the machine `{name}` is left out: {why}"));
                }
                inventory::list(&rows, &args.states, ssh.as_deref())?
            }
        };
        terminal::result(Format::Json, &value, "");
        Ok(())
    }

    /// `lychgate can-i`. A "no" is not a failure.
    pub async fn can_i(&mut self, args: &CanIArgs) -> Result<(), Complaint> {
        let body = CanIRequest { action: args.action.clone(), resource: args.resource.clone() };
        let value = self.face.post("/v1/can-i", &body).await?;
        let lay_out = if args.explain { records::can_i_explained } else { records::can_i };
        self.print(&value, |reply: &CanIReply| lay_out(reply))
    }
}

/// The request of `tokens create`.
fn token_request(args: &TokenArgs) -> Result<TokenRequest, Complaint> {
    let key = match &args.key {
        Some(text) => {
            let bad = |_| Complaint::new(Exit::Usage, "usage", format!("`{text}` is not a key's SHA-256 in hex"));
            Some(parse_pin(text).map_err(bad)?.hex())
        }
        None => None,
    };
    Ok(TokenRequest {
        role: None,
        uses: args.uses,
        ttl: args.ttl.map(|ttl| ttl.as_secs()),
        names: args.names.clone(),
        labels: pairs(&args.labels),
        groups: vec![],
        owner: args.owner.clone(),
        key,
    })
}
