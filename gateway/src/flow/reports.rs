//! Reports of runs of configuration tools: who may make one, and about what.

use pki::Role;
use wire::limits::{REPORT_PLAY_MAX, REPORT_TOOL_MAX, REPORT_WORD_MAX};

use super::{
    asked::RunReport,
    shell::{Actor, Shell, retrying},
    subjects::{find_subject, identity, resource},
};
use crate::core::{
    admission::Caller,
    facts::permit,
    keys,
    look::Look,
    records::{Convergence, Run, Seen},
    refusal::{Fault, Malformed, Missing, Refusal},
    report::remember,
};

/// Takes a report about a machine.
///
/// # Errors
/// [`Refusal::Malformed`] for a report that makes no sense, [`Refusal::NotFound`] also when the caller may neither report
/// about the machine nor know of it.
pub async fn report(
    shell: &Shell,
    caller: &Caller,
    name: &str,
    asked: &RunReport,
    instance: &str,
) -> Result<(), Refusal> {
    let run = run(asked)?;
    let who = caller.identity.to_string();
    retrying(|| async {
        let looked = |look: &Look| -> Result<_, Fault> {
            Ok((look.get(&keys::convergence(name))?, find_subject(look, Role::Machine, name)?))
        };
        let (before, records): (Option<Seen<Convergence>>, _) = shell.look(looked).await?;
        let records = records.ok_or(Refusal::NotFound(Missing::Machine))?;
        let (rules, now) = (shell.rules.load(), shell.now());
        let resource = resource(shell, &records);
        let grant = match permit(&rules, caller, policy::Action::Report, resource.clone(), now) {
            Ok(grant) => grant,
            Err(denied) => {
                // A report requires no right to read; but a caller with neither right learns nothing.
                let seen = permit(&rules, caller, policy::Action::Read, resource, now).is_ok();
                return Err(if seen { denied } else { Refusal::NotFound(Missing::Machine) }.into());
            }
        };
        let convergence = Convergence { run: run.clone(), by: who.clone(), at: now.into() };
        let subject = identity(shell, &records.subject.record)?.to_string();
        if let Some(changes) = remember(&records.subject, before.as_ref(), &convergence, subject, grant.rules()) {
            shell.commit(changes, &Actor { who: &who, instance }).await?;
        }
        Ok(())
    })
    .await
}

/// The reported run.
fn run(asked: &RunReport) -> Result<Run, Refusal> {
    let word = |b: u8| b.is_ascii_alphanumeric() || b"._+:-".contains(&b);
    if asked.tool.is_empty() || asked.tool.len() > REPORT_TOOL_MAX || !asked.tool.bytes().all(word) {
        return Err(Refusal::Malformed(Malformed::ReportTool));
    }
    for (field, text) in [("version", &asked.version), ("run_id", &asked.run_id)] {
        let bad = |text: &String| text.is_empty() || text.len() > REPORT_WORD_MAX || !text.bytes().all(word);
        if text.as_ref().is_some_and(bad) {
            return Err(Refusal::Malformed(Malformed::ReportWord(field)));
        }
    }
    let bad = |text: &String| text.len() > REPORT_PLAY_MAX || text.chars().any(char::is_control);
    if asked.play.as_ref().is_some_and(bad) {
        return Err(Refusal::Malformed(Malformed::ReportPlay));
    }
    if asked.started > asked.finished {
        return Err(Refusal::Malformed(Malformed::ReportOrder));
    }
    if asked.finished > pki::UnixTime::LAST_IN_CERTIFICATES.secs() {
        return Err(Refusal::Malformed(Malformed::ReportTime));
    }
    Ok(Run {
        tool: asked.tool.clone(),
        version: asked.version.clone(),
        run_id: asked.run_id.clone(),
        play: asked.play.clone(),
        started: pki::UnixTime::new(asked.started).into(),
        finished: pki::UnixTime::new(asked.finished).into(),
        ok: asked.ok,
        changed: asked.changed,
        failed: asked.failed,
        unreachable: asked.unreachable,
        skipped: asked.skipped,
    })
}
