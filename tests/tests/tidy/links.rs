//! Links in the documents.

use std::{collections::BTreeSet, fs};

use super::{report, root, with_extension};

/// The targets of `[text](target)` outside code blocks.
fn links(text: &str) -> Vec<String> {
    let mut fenced = false;
    let mut found = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced {
            continue;
        }
        for rest in line.split("](").skip(1) {
            found.extend(rest.split(')').next().map(str::to_owned));
        }
    }
    found
}

/// The anchors of a document's headings: lower case, spaces to hyphens, other signs gone.
fn anchors(text: &str) -> BTreeSet<String> {
    let anchor = |heading: &str| {
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || *c == ' ' || *c == '-' || *c == '_');
        kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect::<String>()
    };
    text.lines().filter(|line| line.starts_with('#')).map(|line| anchor(line.trim_start_matches('#').trim())).collect()
}

#[test]
fn links_in_the_documents_resolve() {
    let mut complaints = Vec::new();
    for (path, text) in with_extension("md") {
        for link in links(&text).into_iter().filter(|link| !link.contains("://") && !link.starts_with("mailto:")) {
            let (file, anchor) = link.split_once('#').map_or((link.as_str(), None), |(file, a)| (file, Some(a)));
            let target =
                if file.is_empty() { root().join(&path) } else { root().join(&path).parent().unwrap().join(file) };
            let resolved = match (target.exists(), anchor) {
                (true, Some(anchor)) if target.is_file() => {
                    anchors(&fs::read_to_string(&target).unwrap()).contains(anchor)
                }
                (exists, _) => exists,
            };
            if !resolved {
                complaints.push(format!("{}: {link}", path.display()));
            }
        }
    }
    report("these links lead nowhere", complaints);
}
