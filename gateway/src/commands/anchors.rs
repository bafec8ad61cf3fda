//! `attest anchors`: the CAs of makers whose TPMs are trusted.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
};

use pki::{ForeignCa, UnixTime};
use serde::Serialize;

use super::{by_owner, load};
use crate::{
    attest::makers::{
        self, AnchorImport, AnchorStanding, ConfiguredAnchor, KNOWN_AS_OF, KnownAnchor, fingerprint, standings,
    },
    cli::AnchorsCommand,
    complaint::Complaint,
    config::Config,
    ports::{
        clock::Clock,
        files::{self, FileError},
        local,
    },
};

/// How the names of certificates end in a folder.
const EXTENSIONS: [&str; 4] = ["pem", "crt", "cer", "der"];

/// Runs one of these commands.
pub fn anchors(command: AnchorsCommand) -> Result<(), Complaint> {
    match command {
        AnchorsCommand::Import { files, source, accept, config } => {
            let offered = read(&files)?;
            let source = |file: PathBuf| source.clone().unwrap_or_else(|| file.display().to_string());
            import(&config, offered.into_iter().map(|(ca, file)| (ca, source(file))).collect(), &accept)
        }
        AnchorsCommand::List { config, json } => {
            let (file, anchors) = configured(&config)?;
            show(&rows(anchors, &file), json)
        }
        AnchorsCommand::Check { files, config, json } => {
            let rows = match config {
                Some(config) if files.is_empty() => {
                    let (file, anchors) = configured(&config)?;
                    rows(anchors, &file)
                }
                Some(_) | None => checked(read(&files)?),
            };
            check(&rows, json)
        }
    }
}

/// The CAs in files and folders, each with its file. Read as whoever calls, who may name any file.
fn read(paths: &[PathBuf]) -> Result<Vec<(ForeignCa, PathBuf)>, Complaint> {
    let (mut found, mut refused) = (Vec::new(), 0);
    for path in paths {
        for file in files_of(path)? {
            let bytes = files::read(&file).map_err(Complaint::failed)?;
            match makers::certificates(&bytes) {
                Ok(cas) => found.extend(cas.into_iter().map(|ca| (ca, file.clone()))),
                Err(error) => {
                    eprintln!("lychgate-gateway: refused: {}: {error}", file.display());
                    refused += 1;
                }
            }
        }
    }
    match (refused, found.is_empty()) {
        (0, false) => Ok(found),
        (0, true) => Err(Complaint::failed("there are no certificates")
            .hint("in a folder, the names of certificates end in `.pem`, `.crt`, `.cer` or `.der`")),
        (1, _) => Err(Complaint::failed("a file has something else than certificates of CAs; nothing was done")),
        (many, _) => Err(Complaint::failed(format!(
            "{many} files have something else than certificates of CAs; nothing was done"
        ))),
    }
}

fn files_of(path: &Path) -> Result<Vec<PathBuf>, Complaint> {
    let inside = local::files_in(path).map_err(|error| Complaint::failed(FileError::io("read", path, error)))?;
    let Some(inside) = inside else { return Ok(vec![path.to_owned()]) };
    let named = |file: &PathBuf| {
        let extension = file.extension().and_then(|extension| extension.to_str()).map(str::to_lowercase);
        extension.is_some_and(|extension| EXTENSIONS.contains(&extension.as_str()))
    };
    let (files, others): (Vec<PathBuf>, Vec<PathBuf>) = inside.into_iter().partition(named);
    others.iter().for_each(|other| eprintln!("lychgate-gateway: skipped: {}", other.display()));
    Ok(files)
}

/// The file that the configuration names.
fn anchors_file(config: &Config) -> Result<PathBuf, Complaint> {
    let named = config.attest.get("tpm").and_then(|section| {
        let path = section.values.get("anchors")?.as_str()?;
        Some(section.path(Path::new(path)))
    });
    named.ok_or_else(|| {
        Complaint::wrong("the configuration names no file with CAs of makers")
            .hint("write `anchors = \"tpm-anchors.pem\"` in its section `[attest.tpm]`; `import` makes the file")
    })
}

/// The file's text; none if there is no file yet.
fn text_of(file: &Path) -> Result<String, Complaint> {
    match files::read_text(file) {
        Err(FileError::Missing { .. }) => Ok(String::new()),
        read => read.map_err(Complaint::failed),
    }
}

fn configured(path: &Path) -> Result<(PathBuf, Vec<ConfiguredAnchor>), Complaint> {
    let file = anchors_file(&load(path)?)?;
    let text = by_owner(path, || text_of(&file))?;
    let anchors = makers::configured(&text);
    let anchors = anchors.map_err(|error| Complaint::failed(format!("{}: {error}", file.display())))?;
    Ok((file, anchors))
}

fn import(path: &Path, offered: Vec<(ForeignCa, String)>, accepted: &[String]) -> Result<(), Complaint> {
    let file = anchors_file(&load(path)?)?;
    let now = Clock::system().now();
    let done = by_owner(path, || {
        let done = makers::import(&text_of(&file)?, offered, accepted, now);
        let done = done.map_err(|error| Complaint::failed(format!("{}: {error}", file.display())))?;
        if done.refused.is_empty() && !done.added.is_empty() {
            files::rewrite(&file, done.text.as_bytes(), path).map_err(Complaint::failed)?;
        }
        Ok(done)
    })?;
    let AnchorImport { added, there, refused, .. } = done;
    if !refused.is_empty() {
        refused.iter().for_each(|(ca, known)| warn(&differs(ca, known)));
        return Err(Complaint::failed("the name of a known CA is on another certificate; nothing was added")
            .hint("ask the maker; a certificate that is right is added with `--accept SHA256`"));
    }
    for (anchor, standing) in &added {
        println!("added  {:<11}  {}  {}", standing.as_str(), fingerprint(&anchor.ca), anchor.ca.subject());
        notes(&anchor.ca, *standing, now).iter().for_each(|note| warn(note));
    }
    there.iter().for_each(|ca| println!("there  {:<11}  {}  {}", "", fingerprint(ca), ca.subject()));
    println!("{} added to {}, {} there already", added.len(), file.display(), there.len());
    Ok(())
}

fn warn(what: &str) {
    eprintln!("lychgate-gateway: warning: {what}");
}

/// What an operator should know of a certificate.
fn notes(ca: &ForeignCa, standing: AnchorStanding, now: UnixTime) -> Vec<String> {
    let subject = ca.subject();
    let standing = match standing {
        AnchorStanding::Known(_) | AnchorStanding::Below(_) => None,
        AnchorStanding::Differs(known) => Some(differs(ca, known)),
        AnchorStanding::Unknown => {
            Some(format!("`{subject}` is not known here: compare its fingerprint with its maker"))
        }
    };
    let sha1 = ca
        .is_signed_with_sha1()
        .then(|| format!("the certificate of `{subject}` is signed with SHA-1, and the gateway leaves it out"));
    let ended = (ca.not_after() < now)
        .then(|| format!("the certificate of `{subject}` expired at {}; TPMs below it are accepted", ca.not_after()));
    let early = (now < ca.not_before())
        .then(|| format!("the certificate of `{subject}` is not valid before {}", ca.not_before()));
    [standing, sha1, ended, early].into_iter().flatten().collect()
}

fn differs(ca: &ForeignCa, known: &KnownAnchor) -> String {
    format!(
        "`{}` has the name of a CA of {}, AND IS ANOTHER CERTIFICATE: its SHA-256 is {}, and the maker's has {} ({})",
        ca.subject(),
        known.maker,
        fingerprint(ca),
        known.sha256,
        known.published
    )
}

/// A certificate with what is known of it.
struct AnchorRow {
    file: PathBuf,
    anchor: ConfiguredAnchor,
    standing: AnchorStanding,
}

fn rows(anchors: Vec<ConfiguredAnchor>, file: &Path) -> Vec<AnchorRow> {
    let standings = standings(&anchors.iter().map(|anchor| &anchor.ca).collect::<Vec<_>>());
    let row = |(anchor, standing)| AnchorRow { file: file.to_owned(), anchor, standing };
    anchors.into_iter().zip(standings).map(row).collect()
}

fn checked(read: Vec<(ForeignCa, PathBuf)>) -> Vec<AnchorRow> {
    let standings = standings(&read.iter().map(|(ca, _)| ca).collect::<Vec<_>>());
    let row = |((ca, file), standing)| {
        let anchor = ConfiguredAnchor { ca, source: None, date: None };
        AnchorRow { file, anchor, standing }
    };
    read.into_iter().zip(standings).map(row).collect()
}

/// Output of `--json`.
#[derive(Serialize)]
struct AnchorsView<'a> {
    /// Date of the built-in table.
    table: &'static str,
    anchors: Vec<AnchorView<'a>>,
}

#[derive(Serialize)]
struct AnchorView<'a> {
    file: String,
    subject: &'a str,
    sha256: String,
    not_before: u64,
    not_after: u64,
    signed_with_sha1: bool,
    state: &'static str,
    maker: Option<&'static str>,
    published: Option<&'static str>,
    source: Option<&'a str>,
    date: Option<&'a str>,
}

fn view(row: &AnchorRow) -> AnchorView<'_> {
    let ConfiguredAnchor { ca, source, date } = &row.anchor;
    let known = row.standing.known();
    AnchorView {
        file: row.file.display().to_string(),
        subject: ca.subject(),
        sha256: fingerprint(ca),
        not_before: ca.not_before().secs(),
        not_after: ca.not_after().secs(),
        signed_with_sha1: ca.is_signed_with_sha1(),
        state: row.standing.as_str(),
        maker: known.map(|known| known.maker),
        published: known.map(|known| known.published),
        source: source.as_deref(),
        date: date.as_deref(),
    }
}

fn show(rows: &[AnchorRow], json: bool) -> Result<(), Complaint> {
    let text = if json { as_json(rows)? } else { as_table(rows) };
    // whoever reads no further than the first lines has read enough
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(())
}

fn as_json(rows: &[AnchorRow]) -> Result<String, Complaint> {
    let view = AnchorsView { table: KNOWN_AS_OF, anchors: rows.iter().map(view).collect() };
    let text = serde_json::to_string_pretty(&view).map_err(Complaint::failed)?;
    Ok(text + "\n")
}

fn as_table(rows: &[AnchorRow]) -> String {
    let mut text = format!(
        "{:<11}  {:<5}  {:<10}  {:<10}  {:<64}  SUBJECT, SOURCE\n",
        "STATE", "MAKER", "ENDS", "IMPORTED", "SHA-256"
    );
    for row in rows {
        let ConfiguredAnchor { ca, source, date } = &row.anchor;
        let maker = row.standing.known().map_or("-", |known| known.maker);
        let end: String = ca.not_after().to_string().chars().take("2026-11-30".len()).collect();
        let (date, source) = (date.as_deref().unwrap_or("-"), source.as_deref().unwrap_or("-"));
        let (state, sha256, subject) = (row.standing.as_str(), fingerprint(ca), ca.subject());
        text.push_str(&format!("{state:<11}  {maker:<5}  {end:<10}  {date:<10}  {sha256}  {subject}, {source}\n"));
    }
    text
}

fn check(rows: &[AnchorRow], json: bool) -> Result<(), Complaint> {
    show(rows, json)?;
    let now = Clock::system().now();
    rows.iter().for_each(|row| notes(&row.anchor.ca, row.standing, now).iter().for_each(|note| warn(note)));
    match rows.iter().filter(|row| matches!(row.standing, AnchorStanding::Differs(_))).count() {
        0 => Ok(()),
        1 => Err(Complaint::failed("a certificate has the name of a known CA and is another")),
        many => Err(Complaint::failed(format!("{many} certificates have the names of known CAs and are others"))),
    }
}
