//! Join tokens: creating, listing and revoking them, and whether their creators still have the rights for them.

use std::time::Duration;

use pki::{KeyDigest, Role, UnixTime};

use super::{
    asked::TokenWish,
    owners, page,
    shell::{Actor, Shell, retrying},
    subjects::{self, SubjectRecords, find_subject},
    views::{MadeToken, Page, TokenDetails},
};
use crate::core::{
    admission::Caller,
    audit::Event,
    change::Changes,
    facts::permit,
    given::{Groups, Labels, known_owner},
    keys, lock,
    look::Look,
    name,
    records::{Owner, Seen, Token},
    refusal::{Fault, Malformed, Missing, Refusal},
    token::{self, Maker},
};

/// The creator of a token.
#[derive(Clone, Copy, Debug)]
pub enum By<'a> {
    /// The gateway itself, by its offline command.
    Gateway,
    /// A person with permission by the policy.
    Person(&'a Caller),
}

/// Creates a join token, if the policy permits the caller to assign what the token assigns.
///
/// # Errors
/// Why not.
pub async fn create(shell: &Shell, caller: &Caller, asked: &TokenWish, instance: &str) -> Result<MadeToken, Refusal> {
    let who = caller.identity.to_string();
    make(shell, asked, By::Person(caller), &Actor { who: &who, instance }).await
}

/// Makes a join token.
///
/// # Errors
/// [`Refusal::Malformed`] for an invalid request, [`Refusal::Denied`] if the person may not assign this.
pub async fn make(shell: &Shell, asked: &TokenWish, by: By<'_>, actor: &Actor<'_>) -> Result<MadeToken, Refusal> {
    let owner = shell.look(|look| owners::named(look, asked.owner.as_deref())).await?;
    let record = record(shell, asked, owner, by)?;
    let rules = match by {
        By::Gateway => vec![],
        By::Person(caller) => {
            let resource = policy::Resource::Token(token::facts(&record));
            let action = policy::Action::Administer;
            permit(&shell.rules.load(), caller, action, resource, shell.now())?.rules().to_vec()
        }
    };
    known_owner(record.owner.as_ref())?;
    let settings = shell.settings.load();
    let claims = token::claims(&record, shell.domain.as_str(), &settings.public_enroll, &shell.ca().pin());
    let text = token::to_be_signed(&claims).map_err(|error| Fault::Issue(error.to_string()))?;
    let string = token::signed(&text, &shell.signer.token(text.clone()).await?);
    let mut changes = Changes::new();
    changes.create(keys::token(&record.id), &record);
    changes.event(Event::TokenCreated {
        token: record.id.clone(),
        role: record.role.as_str(),
        uses: record.uses,
        rules,
    });
    let mut warnings = unruled(shell, &record.groups);
    warnings.extend(taken(shell, &record, by).await?);
    shell.commit(changes, actor).await.map_err(Refusal::from)?;
    Ok(MadeToken { id: record.id, token: string, expires: record.expires.0, warnings })
}

/// A warning for each name that is taken: the token admits nobody under it until its holder is removed. Only for holders that the
/// caller may see.
async fn taken(shell: &Shell, record: &Token, by: By<'_>) -> Result<Vec<String>, Fault> {
    let By::Person(caller) = by else { return Ok(vec![]) };
    let names = || record.names.iter().filter(|name| !name.contains('*'));
    let found = |look: &Look| names().map(|name| find_subject(look, record.role, name)).collect();
    let found: Vec<Option<SubjectRecords>> = shell.look::<_, Fault>(found).await?;
    let seen = found.into_iter().flatten().filter(|records| subjects::may_see(shell, caller, records));
    let warning = |records: SubjectRecords| {
        let (role, name) = (record.role.as_str(), &records.subject.record.name);
        format!("a {role} `{name}` is there already: nobody else joins by that name before that one is removed")
    };
    Ok(seen.map(warning).collect())
}

/// A warning for each group that no rule of the policy names: it may be a typing error, and has no effect.
pub(super) fn unruled(shell: &Shell, groups: &[String]) -> Vec<String> {
    let rules = shell.rules.load();
    let named: Vec<&str> = rules.groups().collect();
    let unruled = groups.iter().filter(|group| !named.contains(&group.as_str()));
    unruled
        .map(|group| {
            let known = named.join(", ");
            format!("no rule of the policy names the group `{group}`; those that are named: {known}")
        })
        .collect()
}

fn record(shell: &Shell, asked: &TokenWish, owner: Option<Owner>, by: By<'_>) -> Result<Token, Refusal> {
    let malformed = |why| Err(Refusal::Malformed(why));
    let role = match asked.role.as_deref() {
        None => Role::Machine,
        Some(text) => match Role::parse(text) {
            Ok(role) if token::admits(role) => role,
            _ => return malformed(Malformed::TokenRole(text.to_owned())),
        },
    };
    let uses = asked.uses.unwrap_or(1);
    if uses == 0 || uses > crate::limits::TOKEN_USES_MAX {
        return malformed(Malformed::TokenUses);
    }
    let ttl = asked.ttl.map_or(token::TOKEN_TTL, Duration::from_secs);
    if ttl.is_zero() || ttl > crate::limits::TOKEN_TTL_MAX {
        return malformed(Malformed::TokenLife);
    }
    if asked.names.len() > wire::limits::TOKEN_NAMES_MAX {
        return malformed(Malformed::TokenNames);
    }
    for pattern in &asked.names {
        name::pattern(pattern)?;
    }
    let key = match asked.key.as_deref().map(KeyDigest::parse_hex).transpose() {
        Ok(key) => key.map(|key| key.hex()),
        Err(_) => return malformed(Malformed::TokenKey),
    };
    let (maker, by) = match by {
        By::Gateway => (None, token::GATEWAY.to_owned()),
        By::Person(caller) => (Some(caller.lineage.record.id.clone()), caller.identity.name.to_string()),
    };
    let now = shell.now();
    let id: [u8; 8] = shell.entropy.bytes();
    Ok(Token {
        id: hex::encode(id),
        role,
        uses,
        redeemed: vec![],
        names: asked.names.clone(),
        labels: Labels::parse(&asked.labels)?.into_map(),
        groups: Groups::parse(&asked.groups)?.into_vec(),
        owner,
        key,
        by,
        maker,
        created: now.into(),
        expires: now.plus(ttl).into(),
        revoked: false,
    })
}

/// The current state of a token's creator: the token assigns only what they could still assign.
///
/// # Errors
/// [`Fault::Record`] when a record of theirs makes no sense.
pub(super) fn maker(shell: &Shell, look: &Look, token: &Token) -> Result<Maker, Fault> {
    let records = match &token.maker {
        Some(_) => find_subject(look, Role::Person, &token.by)?,
        None => None,
    };
    let person = records.as_ref().map(|records| &records.subject.record);
    let locked = records.as_ref().is_some_and(subjects::SubjectRecords::is_locked);
    Ok(match token::maker(token, person, &shell.rules.load(), shell.now()) {
        Maker::Stands if locked => Maker::Suspended,
        stands @ (Maker::Stands | Maker::Suspended | Maker::Gone) => stands,
    })
}

/// Whether the caller may know of a token: those who may read it, and those who may change it.
fn may_see(shell: &Shell, caller: &Caller, token: &Token) -> bool {
    let resource = || policy::Resource::Token(token::facts(token));
    [policy::Action::Read, policy::Action::Administer]
        .into_iter()
        .any(|action| permit(&shell.rules.load(), caller, action, resource(), shell.now()).is_ok())
}

/// Lists the tokens that the caller may know of.
///
/// # Errors
/// When the store fails, or `after` is from elsewhere.
pub async fn list(
    shell: &Shell,
    caller: &Caller,
    after: Option<&str>,
    limit: usize,
) -> Result<Page<TokenDetails>, Refusal> {
    let show = |look: &Look, _: &str, seen: &Seen<Token>| {
        if !may_see(shell, caller, &seen.record) {
            return Ok(None);
        }
        let maker = maker(shell, look, &seen.record)?;
        Ok(Some(view(seen.record.clone(), maker, shell.now())))
    };
    page::page(shell, keys::TOKENS, after, limit, show).await
}

fn view(record: Token, maker: Maker, now: UnixTime) -> TokenDetails {
    TokenDetails {
        state: token::state(&record, maker, now),
        id: record.id,
        role: record.role,
        uses: record.uses,
        redeemed: record.redeemed,
        names: record.names,
        labels: record.labels,
        groups: record.groups,
        owner: record.owner.map(|owner| owner.name),
        key: record.key,
        by: record.by,
        created: record.created.0,
        expires: record.expires.0,
    }
}

/// Revokes a token.
///
/// # Errors
/// Why not; [`Refusal::NotFound`] also when the caller may not know of it.
pub async fn revoke(shell: &Shell, caller: &Caller, id: &str, instance: &str) -> Result<(), Refusal> {
    let who = caller.identity.to_string();
    retrying(|| async {
        let looked = |look: &Look| -> Result<_, Refusal> { Ok((look.get(&keys::token(id))?, look.get(keys::EPOCH)?)) };
        let (seen, epoch): (Option<Seen<Token>>, lock::Epoch) = shell.look(looked).await?;
        let seen = seen.filter(|seen| may_see(shell, caller, &seen.record)).ok_or(Refusal::NotFound(Missing::Token))?;
        let resource = policy::Resource::Token(token::facts(&seen.record));
        let grant = permit(&shell.rules.load(), caller, policy::Action::Administer, resource, shell.now())?;
        if seen.record.revoked {
            return Ok(());
        }
        let mut record = seen.record.clone();
        record.revoked = true;
        let mut changes = Changes::new();
        lock::bump(&mut changes, &epoch);
        changes.update(keys::token(id), &seen, &record);
        changes.event(Event::TokenRevoked { token: id.to_owned(), rules: grant.rules().to_vec() });
        shell.commit(changes, &Actor { who: &who, instance }).await?;
        Ok(())
    })
    .await
}
