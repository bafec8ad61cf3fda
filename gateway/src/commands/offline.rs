//! Commands that need no running gateway: checks of configuration and policy, export and import.

use std::{
    collections::BTreeSet,
    io::{BufReader, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use pki::Role;
use policy::{CaseResult, Ruleset};

use super::{at_home, load};
use crate::{
    attest::{self, Attestors},
    complaint::Complaint,
    config::Config,
    core::{
        audit::{Event, Upkeep},
        keys, kinds,
        records::Subject,
        subjects,
    },
    ports::{clock::Clock, documents, entropy::Entropy, files, local},
    rules, server,
    store::{self, transfer},
};

/// `check-config`: reads configuration and policy as `run` does.
pub fn check_config(path: &Path) -> Result<(), Complaint> {
    let config = Config::load(path).map_err(Complaint::wrong)?;
    let rules = rules::load(&config.policy_files).map_err(Complaint::wrong)?;
    println!("{}: good; {}", path.display(), counted(rules.rule_ids().count(), "policy rule"));
    let attestors =
        Attestors::from(&config.attest).map_err(|(kind, bad)| Complaint::wrong(format!("{kind}: {bad}")))?;
    let now = Clock::system().now();
    attestors.complaints(documents::read_now, None, now).iter().for_each(|line| println!("warning: {line}"));
    super::ca::warnings(&config.data_dir).iter().for_each(|line| println!("warning: {line}"));
    Ok(())
}

/// `policy check`.
///
/// # Errors
/// All errors in the files.
pub fn policy_check(files: &[PathBuf], config: Option<&Path>) -> Result<(), Complaint> {
    let rules = rules::load(files).map_err(Complaint::wrong)?;
    if let Some(config) = config {
        let inhabited = groups(config)?;
        for group in rules.groups().filter(|group| !inhabited.contains(*group)) {
            eprintln!("lychgate-gateway: warning: rules name the group `{group}`, and nobody is in it");
        }
    }
    for advice in rules.advice() {
        eprintln!("lychgate-gateway: warning: {advice}");
    }
    println!("good: {}", counted(rules.rule_ids().count(), "rule"));
    Ok(())
}

/// The groups that have members.
fn groups(path: &Path) -> Result<BTreeSet<String>, Complaint> {
    let config = load(path)?;
    at_home(path, &config, async |config| {
        reading(config, async |store| {
            let (people, mut found) = (store::Key::from(keys::subjects(Role::Person).as_str()), BTreeSet::new());
            let mut last: Option<store::Key> = None;
            loop {
                let page = store.scan(&people, last.as_ref(), store::SCAN_MAX).await.map_err(Complaint::store)?;
                for (_, entry) in &page.rows {
                    // damaged records are reported by `store check`
                    let person = serde_json::from_slice::<Subject>(&entry.value);
                    found.extend(person.into_iter().flat_map(|person| person.groups));
                }
                if !page.more {
                    return Ok(found);
                }
                last = page.rows.into_iter().next_back().map(|(key, _)| key);
            }
        })
        .await
    })
}

/// `policy schema`: prints the Cedar schema with the claims of all attestors.
///
/// # Errors
/// Only for a bug: the declared claims contradict each other.
pub fn policy_schema() -> Result<(), Complaint> {
    let text = policy::schema_text(&attest::claims().collect::<Vec<_>>()).map_err(|complaints| {
        Complaint::failed(complaints.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
    })?;
    print!("{text}");
    Ok(())
}

/// `policy test`: runs the table of cases in the last file on the policy in the others.
///
/// # Errors
/// A file is invalid, or a case has another decision than expected.
pub fn policy_test(files: &[PathBuf]) -> Result<(), Complaint> {
    let Some((cases, files)) = files.split_last() else {
        return Err(Complaint::wrong("no table of cases is named".to_owned()));
    };
    let rules: Ruleset = rules::load(files).map_err(Complaint::wrong)?;
    let table = files::read_text(cases).map_err(Complaint::wrong)?;
    let report =
        policy::run_cases(&rules, &table).map_err(|error| Complaint::wrong(format!("{}: {error}", cases.display())))?;
    for CaseResult { name, outcome, mismatch } in &report.results {
        match mismatch {
            None => println!("ok    {name}: {outcome}"),
            Some(mismatch) => println!("FAIL  {name}: {mismatch}"),
        }
    }
    if !report.untested.is_empty() {
        println!("rules that decided no case: {}", report.untested.join(", "));
    }
    match report.failures() {
        0 => {
            println!("{} passed", counted(report.results.len(), "case"));
            Ok(())
        }
        failures => Err(Complaint::wrong(format!("{failures} of {} failed", counted(report.results.len(), "case")))),
    }
}

/// `export`: writes all records of the store. Nothing is written in the gateway's folder.
///
/// # Errors
/// The store is open, damaged or cannot be read, or the file cannot be written.
pub fn export(path: &Path, out: Option<&Path>) -> Result<(), Complaint> {
    let config = load(path)?;
    let now = Clock::system().now().to_string();
    let (bytes, written) = at_home(path, &config, async |config| {
        reading(config, async |store| {
            let mut bytes = Vec::new();
            let written = transfer::export(store, &now, &mut bytes).await.map_err(Complaint::store)?;
            Ok((bytes, written))
        })
        .await
    })?;
    match out {
        None => std::io::stdout().write_all(&bytes).map_err(Complaint::failed)?,
        Some(out) => files::write_atomic(out, &bytes, files::FileAccess::Private, files::Existing::Replace)
            .map_err(Complaint::failed)?,
    }
    eprintln!("{} exported, sha256 {}", counted(written.records, "record"), written.sha256);
    Ok(())
}

/// `import`: fills an empty store.
///
/// # Errors
/// As [`transfer::ImportError`]; if the store could not be written, remove its folder.
pub fn import(path: &Path, input: &Path, damaged: OnDamage) -> Result<(), Complaint> {
    let config = load(path)?;
    let file =
        local::open(input).map_err(|error| Complaint::failed(format!("cannot open `{}`: {error}", input.display())))?;
    let judge = |key: &store::Key, value: &[u8]| match kinds::damage(key.as_bytes(), value) {
        None => transfer::ImportDecision::Take,
        Some(why) if damaged == OnDamage::Refuse => transfer::ImportDecision::Refuse(why),
        Some(why) => {
            eprintln!("quarantined: {key}: {why}");
            transfer::ImportDecision::Aside(quarantine_key(key))
        }
    };
    let read = at_home(path, &config, async |config| {
        let store = open(config)?;
        let mut read = transfer::import(store.as_ref(), &mut BufReader::new(file), judge).await;
        if let Ok(summary) = &read
            && let Err(error) = imported(store.as_ref(), summary).await
        {
            read = Err(error.into());
        }
        store.close().await;
        read.map_err(|error| match error {
            transfer::ImportError::Damaged { .. } => Complaint::store(error)
                .hint("`import --quarantine` imports the others and quarantines these; a record of an unknown kind may be from a newer version"),
            other => Complaint::store(other),
        })
    })?;
    eprintln!("{} imported", counted(read.records, "record"));
    if !files::exists(&server::epoch_file(&config.data_dir)) {
        eprintln!("the first start here needs --accept-rollback, because locks set after the export are not in it");
    }
    Ok(())
}

/// Records the audit event of an import.
async fn imported(store: &dyn store::Store, summary: &transfer::Summary) -> Result<(), store::CommitError> {
    let at_ms = Clock::system().now_ms();
    let event = Upkeep::StoreImported { records: summary.records, sha256: summary.sha256.clone() };
    let event = serde_json::to_vec(&Event::Upkeep(event).record("gateway", at_ms, "store")).unwrap_or_default();
    let batch = store::Batch::default().put(keys::audit(at_ms, Entropy::os().bytes()), event);
    store.commit(batch).await.map(drop)
}

/// What `import` does with damaged records.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum OnDamage {
    /// Refuse the file.
    Refuse,
    /// Move them to quarantine.
    Quarantine,
}

/// `store check`: lists all damaged records.
///
/// # Errors
/// There is a damaged record, or the store cannot be used.
pub fn store_check(path: &Path) -> Result<(), Complaint> {
    let config = load(path)?;
    let (all, damaged) = at_home(path, &config, async |config| {
        reading(config, async |store| {
            let (mut all, mut damaged, mut owned) = (0, Vec::new(), subjects::Agreement::default());
            let mut last: Option<store::Key> = None;
            loop {
                let everything = store::Key::from("");
                let page = store.scan(&everything, last.as_ref(), store::SCAN_MAX).await.map_err(Complaint::store)?;
                all += page.rows.len();
                for (key, entry) in &page.rows {
                    owned.note(&key.to_string(), &entry.value);
                    damaged.extend(damage(key, entry).map(|why| format!("{key}: {why}")));
                }
                if !page.more {
                    let disagree = "it disagrees with the machine's record of its owner; the gateway writes what is \
                                    missing when it starts, and looks at the record before it believes this";
                    damaged.extend(owned.disagree().map(|key| format!("{key}: {disagree}")));
                    return Ok((all, damaged));
                }
                last = page.rows.into_iter().next_back().map(|(key, _)| key);
            }
        })
        .await
    })?;
    damaged.iter().for_each(|line| println!("{line}"));
    match damaged.len() {
        0 => {
            println!("{}, all good", counted(all, "record"));
            Ok(())
        }
        count => Err(Complaint::store(format!("{count} of {} damaged", counted(all, "record")))
            .hint("`store quarantine KEY` quarantines one, and says what follows")),
    }
}

/// Why an entry is damaged; `None` if it is intact.
fn damage(key: &store::Key, entry: &store::Entry) -> Option<String> {
    entry.damage.clone().or_else(|| kinds::damage(key.as_bytes(), &entry.value))
}

/// `store quarantine`: moves a damaged record to quarantine.
///
/// # Errors
/// The record does not exist or is not damaged, or the store cannot be used.
pub fn quarantine(path: &Path, key: &str) -> Result<(), Complaint> {
    let config = load(path)?;
    let at = store::Key::from(key);
    let follows = kinds::of(key).map_or("nothing reads it", |kind| kind.if_lost);
    at_home(path, &config, async |config| {
        let store = open(config)?;
        let done = move_to_quarantine(store.as_ref(), &at).await;
        store.close().await;
        done
    })?;
    println!("quarantined as `{}`: {follows}", quarantine_key(&at));
    Ok(())
}

async fn move_to_quarantine(store: &dyn store::Store, key: &store::Key) -> Result<(), Complaint> {
    let epoch_key = store::Key::from(keys::EPOCH);
    let wanted = [key.clone(), epoch_key.clone()];
    let found: [Option<store::Entry>; 2] = store
        .read(&wanted)
        .await
        .map_err(Complaint::store)?
        .entries
        .try_into()
        .map_err(|_| Complaint::failed("nothing read"))?;
    let [Some(entry), epoch] = found else {
        return Err(
            Complaint::failed(format!("there is no record `{key}`")).hint("`store check` names the damaged ones")
        );
    };
    let Some(why) = damage(key, &entry) else {
        return Err(Complaint::failed(format!("`{key}` is not damaged")));
    };
    let at_ms = Clock::system().now_ms();
    let event = Event::Upkeep(Upkeep::RecordQuarantined { key: key.to_string(), why });
    let event = event.record("gateway", at_ms, "store");
    let event = serde_json::to_vec(&event).map_err(Complaint::failed)?;
    let mut batch = store::Batch::default()
        .at(key.clone(), entry.version)
        .put(quarantine_key(key), entry.value)
        .put(keys::audit(at_ms, Entropy::os().bytes()), event);
    // The record may have been a lock, whose removal restores a right; the epoch is incremented as for every such change.
    let epoch = epoch.and_then(|epoch| serde_json::from_slice::<u64>(&epoch.value).ok());
    if let (Some(epoch), true) = (epoch, *key != epoch_key) {
        batch = batch.put(epoch_key, (epoch + 1).to_string());
    }
    store.commit(batch.delete(key.clone())).await.map(drop).map_err(Complaint::store)
}

/// Store key of a quarantined record.
fn quarantine_key(key: &store::Key) -> store::Key {
    store::Key::from([kinds::QUARANTINE.as_bytes(), key.as_bytes()].concat())
}

fn open(config: &Config) -> Result<Arc<dyn store::Store>, Complaint> {
    store::open(config.store.engine, &config.store.path, config.store.cache_bytes / server::MIB)
        .map_err(Complaint::store)
}

/// Runs `read` on a copy of the store, so that nothing is written to the store's folder.
async fn reading<T>(
    config: &Config,
    work: impl AsyncFnOnce(&dyn store::Store) -> Result<T, Complaint>,
) -> Result<T, Complaint> {
    let copy = local::temporary(&hex::encode(Entropy::os().bytes::<8>()));
    let done = read_copy(config, &copy, work).await;
    local::remove_folder(&copy).map_err(Complaint::failed)?;
    done
}

async fn read_copy<T>(
    config: &Config,
    copy: &Path,
    work: impl AsyncFnOnce(&dyn store::Store) -> Result<T, Complaint>,
) -> Result<T, Complaint> {
    let cache = config.store.cache_bytes / server::MIB;
    let store = store::open_copy(config.store.engine, &config.store.path, copy, cache).map_err(Complaint::store)?;
    let done = work(store.as_ref()).await;
    store.close().await;
    done
}

/// `clock accept`: writes the file that tells a running gateway, or the next start, that the clock is right.
///
/// # Errors
/// The file cannot be written.
pub fn clock_accept(path: &Path) -> Result<(), Complaint> {
    let config = load(path)?;
    let now = Clock::system().now();
    let file = server::clock_accepted_file(&config.data_dir);
    let text = format!("{}\n", now.secs());
    at_home(path, &config, async |config| {
        files::make_private_dir(&config.data_dir.join("run")).map_err(Complaint::failed)?;
        files::write_atomic(&file, text.as_bytes(), files::FileAccess::Private, files::Existing::Replace)
            .map_err(Complaint::failed)
    })?;
    eprintln!(
        "the clock is accepted as right: it is {now}; a running gateway that doubted it continues within a minute"
    );
    Ok(())
}

/// `1 rule`, `2 rules`.
fn counted<N: From<u8> + PartialEq + std::fmt::Display>(number: N, noun: &str) -> String {
    let ending = if number == N::from(1) { "" } else { "s" };
    format!("{number} {noun}{ending}")
}
