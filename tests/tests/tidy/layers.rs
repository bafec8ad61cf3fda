//! Dependencies between modules: the layers of a program, and no cycles among the modules of a folder. Read from the `use` trees and
//! paths in the sources; code that is compiled for tests only is ignored.

use std::collections::{BTreeMap, BTreeSet};

/// One source file.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its module, from the root of the crate: `edge::tunnel`.
    pub module: String,
    /// Its text.
    pub text: String,
}

/// One layer of a program.
pub struct Layer {
    /// Its modules, by the first segment of their path.
    pub modules: &'static [&'static str],
    /// The modules of other layers that it may use, by the first segment of their path.
    pub may_use: &'static [&'static str],
    /// The crates that it may not use.
    pub no_crates: &'static [&'static str],
}

/// Path prefixes of a crate that may be used where the rest of the crate may not.
pub type Shared = &'static [&'static str];

/// One module uses another, or something of another crate.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Use {
    /// The module that uses it.
    pub from: String,
    /// The path of what is used: the module where it lies, or the whole path when it lies in another crate.
    pub to: String,
    /// Whether it lies in another crate.
    pub outside: bool,
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The text without comments and string contents.
pub fn code(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let mut found = String::with_capacity(text.len());
    let mut i = 0;
    while i < chars.len() {
        let before = found.chars().last().is_some_and(is_name);
        match (at(i), at(i + 1)) {
            ('/', '/') => {
                while i < chars.len() && at(i) != '\n' {
                    i += 1;
                }
            }
            ('/', '*') => {
                let mut depth = 0;
                loop {
                    match (at(i), at(i + 1)) {
                        ('/', '*') => (depth, i) = (depth + 1, i + 2),
                        ('*', '/') => (depth, i) = (depth - 1, i + 2),
                        _ => i += 1,
                    }
                    if depth == 0 || i >= chars.len() {
                        break;
                    }
                }
            }
            ('r', '"' | '#') if !before && raw_hashes(&chars, i).is_some() => {
                let hashes = raw_hashes(&chars, i).unwrap_or_default();
                let mut end = vec!['"'];
                end.resize(1 + hashes, '#');
                i += hashes + 2;
                while i < chars.len() && !chars[i..].starts_with(&end) {
                    i += 1;
                }
                i += end.len();
                found.push_str("\"\"");
            }
            ('"', _) => {
                i += 1;
                while i < chars.len() && at(i) != '"' {
                    i += if at(i) == '\\' { 2 } else { 1 };
                }
                i += 1;
                found.push_str("\"\"");
            }
            // A character, and not a lifetime.
            ('\'', next) if next == '\\' || at(i + 2) == '\'' => {
                i += if next == '\\' { 3 } else { 2 };
                while i < chars.len() && at(i) != '\'' {
                    i += 1;
                }
                i += 1;
            }
            (c, _) => {
                found.push(c);
                i += 1;
            }
        }
    }
    found
}

/// The number of `#` of a raw string that begins here.
fn raw_hashes(chars: &[char], at: usize) -> Option<usize> {
    let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
    (chars.get(at + 1 + hashes) == Some(&'"')).then_some(hashes)
}

/// The code without what is compiled for tests alone, and the names of the modules that are.
fn without_tests(code: &str) -> (String, Vec<String>) {
    let (mut kept, mut modules, mut rest) = (String::new(), Vec::new(), code);
    while let Some(start) = rest.find("#[cfg(") {
        let end = start + rest[start..].find(']').map_or(rest.len() - start, |at| at + 1);
        let condition = &rest[start..end];
        let of_tests = condition.split(|c| !is_name(c)).any(|word| word == "test") && !condition.contains("not(test");
        kept.push_str(&rest[..start]);
        if !of_tests {
            kept.push_str(condition);
            rest = &rest[end..];
            continue;
        }
        let (item, after) = item(&rest[end..]);
        if let Some(name) = item.split("mod ").nth(1).and_then(|rest| rest.split(|c| !is_name(c)).next())
            && item.trim_end().ends_with(';')
        {
            modules.push(name.to_owned());
        }
        rest = after;
    }
    kept.push_str(rest);
    (kept, modules)
}

/// The next item: to its semicolon, or to the end of its braces.
fn item(text: &str) -> (&str, &str) {
    let mut depth = 0_usize;
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return text.split_at(at + 1);
                }
            }
            ';' if depth == 0 => return text.split_at(at + 1),
            _ => {}
        }
    }
    (text, "")
}

/// The paths of a `use` tree, each as its parts.
fn tree(text: &str) -> Vec<Vec<String>> {
    let text = text.trim();
    let Some((before, group)) = text.split_once('{') else {
        let path = text.split(" as ").next().unwrap_or_default();
        return vec![path.split("::").map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect()];
    };
    let prefix: Vec<String> =
        before.split("::").map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect();
    let group = group.strip_suffix('}').unwrap_or(group);
    let (mut members, mut depth) = (vec![String::new()], 0_usize);
    for c in group.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                members.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(last) = members.last_mut() {
            last.push(c);
        }
    }
    let members = members.iter().filter(|member| !member.trim().is_empty());
    members.flat_map(|member| tree(member)).map(|path| prefix.iter().cloned().chain(path).collect()).collect()
}

/// Every path that code names: of its `use` trees, and wherever a path of two parts or more stands.
fn paths(code: &str) -> Vec<Vec<String>> {
    let (mut found, mut rest, mut plain) = (Vec::new(), code, String::new());
    while let Some(at) = rest.find("use ") {
        let whole_word = !rest[..at].ends_with(is_name);
        plain.push_str(&rest[..at]);
        let after = &rest[at + "use ".len()..];
        if !whole_word {
            plain.push_str("use ");
            rest = after;
            continue;
        }
        let end = after.find(';').unwrap_or(after.len());
        found.extend(tree(&after[..end]));
        rest = &after[end..];
    }
    plain.push_str(rest);
    for word in plain.split(|c: char| !is_name(c) && c != ':') {
        let parts: Vec<String> = word.split("::").map(|part| part.trim_matches(':').to_owned()).collect();
        if parts.len() > 1 && !parts[0].is_empty() {
            found.push(parts);
        }
    }
    found
}

/// Resolves a path used by a module to an existing module.
fn resolve(path: &[String], module: &str, modules: &BTreeSet<&str>) -> Option<Use> {
    let mut base: Vec<&str> = module.split("::").filter(|part| !part.is_empty()).collect();
    let mut rest = path;
    match path.first()?.as_str() {
        "crate" => {
            base.clear();
            rest = &path[1..];
        }
        "self" => rest = &path[1..],
        "super" => {
            while rest.first().is_some_and(|part| part == "super") {
                base.pop();
                rest = &rest[1..];
            }
        }
        first => {
            let child = [module, first].iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join("::");
            if !modules.contains(child.as_str()) {
                let outside = first.chars().next().is_some_and(char::is_lowercase);
                let to = path.join("::");
                return outside.then(|| Use { from: module.to_owned(), to, outside: true });
            }
        }
    }
    base.extend(rest.iter().map(String::as_str));
    while !base.is_empty() {
        let name = base.join("::");
        if modules.contains(name.as_str()) {
            return (name != module).then(|| Use { from: module.to_owned(), to: name, outside: false });
        }
        base.pop();
    }
    None
}

/// The modules of a crate that are not compiled for tests alone, each with its code.
fn of_product(sources: &[Source]) -> Vec<(&str, String)> {
    let read: Vec<(&Source, String, Vec<String>)> = sources
        .iter()
        .map(|source| {
            let (code, tests) = without_tests(&code(&source.text));
            (source, code, tests)
        })
        .collect();
    let of_tests: Vec<String> = read
        .iter()
        .flat_map(|(source, _, tests)| tests.iter().map(|name| format!("{}::{name}", source.module)))
        .map(|module| module.trim_start_matches("::").to_owned())
        .collect();
    let is_test = |module: &str| of_tests.iter().any(|test| module == test || module.starts_with(&format!("{test}::")));
    let product = read.into_iter().filter(|(source, ..)| !is_test(&source.module));
    product.map(|(source, code, _)| (source.module.as_str(), code)).collect()
}

/// What each module of a crate uses.
pub fn uses(sources: &[Source]) -> BTreeSet<Use> {
    let modules: BTreeSet<&str> = sources.iter().map(|source| source.module.as_str()).collect();
    let mut found = BTreeSet::new();
    for (module, code) in of_product(sources) {
        found.extend(paths(&code).iter().filter_map(|path| resolve(path, module, &modules)));
    }
    found
}

/// The names that more than one type of a crate has, each as `name: its modules`. Types inside functions and `impl` blocks do not
/// count.
pub fn shared_names(sources: &[Source]) -> BTreeSet<String> {
    let mut by_name: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for (module, code) in of_product(sources) {
        for line in code.lines() {
            let item = match line.strip_prefix("pub") {
                Some(rest) if rest.starts_with('(') => rest.split_once(") ").map_or("", |(_, item)| item),
                Some(rest) => rest.trim_start(),
                None => line,
            };
            let Some((_, name)) =
                item.split_once(' ').filter(|(kind, _)| ["struct", "enum", "trait", "type", "union"].contains(kind))
            else {
                continue;
            };
            let name = name.split(|c| !is_name(c)).next().unwrap_or_default();
            by_name.entry(name.to_owned()).or_default().insert(module);
        }
    }
    let shared = by_name.into_iter().filter(|(_, modules)| modules.len() > 1);
    shared.map(|(name, modules)| format!("{name}: {}", modules.into_iter().collect::<Vec<_>>().join(", "))).collect()
}

fn first(module: &str) -> &str {
    module.split("::").next().unwrap_or_default()
}

/// The uses of higher layers, and of crates that the layer may not use.
pub fn upward(layers: &[Layer], shared: Shared, uses: &BTreeSet<Use>) -> BTreeSet<String> {
    let mut complaints = BTreeSet::new();
    for one in uses.iter().filter(|one| !one.from.is_empty()) {
        let Some(layer) = layers.iter().find(|layer| layer.modules.contains(&first(&one.from))) else {
            complaints.insert(format!("{}: in no layer", first(&one.from)));
            continue;
        };
        let target = first(&one.to);
        let allowed = if one.outside {
            let is_shared = shared.iter().any(|begin| one.to == *begin || one.to.starts_with(&format!("{begin}::")));
            is_shared || !layer.no_crates.contains(&target)
        } else {
            layer.modules.contains(&target) || layer.may_use.contains(&target)
        };
        if !allowed {
            let shown: Vec<&str> = one.to.split("::").take(2).collect();
            complaints.insert(format!("{} -> {}", one.from, shown.join("::")));
        }
    }
    complaints
}

/// The cycles among the modules of each folder, each as `folder: its modules`. A module includes all modules below it.
pub fn circles(uses: &BTreeSet<Use>) -> BTreeSet<String> {
    let mut folders: BTreeMap<String, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
    for one in uses.iter().filter(|one| !one.outside) {
        let (from, to): (Vec<&str>, Vec<&str>) = (one.from.split("::").collect(), one.to.split("::").collect());
        let same = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
        // A module and what lies below it are one thing.
        if let (Some(from_part), Some(to_part)) = (from.get(same), to.get(same)) {
            let graph = folders.entry(from[..same].join("::")).or_default();
            graph.entry((*from_part).to_owned()).or_default().insert((*to_part).to_owned());
        }
    }
    let mut found = BTreeSet::new();
    for (folder, graph) in &folders {
        for node in graph.keys() {
            let around: BTreeSet<&String> =
                reached(graph, node).into_iter().filter(|other| reached(graph, other).contains(node)).collect();
            if around.contains(node) {
                let names: Vec<&str> = around.iter().map(|name| name.as_str()).collect();
                let folder = if folder.is_empty() { "crate" } else { folder };
                found.insert(format!("{folder}: {}", names.join(" ")));
            }
        }
    }
    found
}

/// The modules that a module uses directly or indirectly.
fn reached<'a>(graph: &'a BTreeMap<String, BTreeSet<String>>, from: &String) -> BTreeSet<&'a String> {
    let mut found = BTreeSet::new();
    let mut next: Vec<&String> = graph.get(from).into_iter().flatten().collect();
    while let Some(node) = next.pop() {
        if found.insert(node) {
            next.extend(graph.get(node).into_iter().flatten());
        }
    }
    found
}

/// Unexpected and missing entries.
pub fn differences(found: &BTreeSet<String>, expected: &[&str]) -> Vec<String> {
    let expected: BTreeSet<String> = expected.iter().map(|one| (*one).to_owned()).collect();
    let new = found.difference(&expected).map(|one| format!("new: {one}"));
    let gone = expected.difference(found).map(|one| format!("not needed any more: {one}"));
    new.chain(gone).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAYERS: &[Layer] = &[
        Layer { modules: &["edge"], may_use: &["flow", "core"], no_crates: &[] },
        Layer { modules: &["flow"], may_use: &["core"], no_crates: &["wire"] },
        Layer { modules: &["core"], may_use: &[], no_crates: &["wire", "tokio"] },
    ];

    fn source(module: &str, text: &str) -> Source {
        Source { module: module.to_owned(), text: text.to_owned() }
    }

    #[track_caller]
    fn check(module: &str, text: &str, up: &[&str], around: &[&str]) {
        let mut sources = vec![
            source("", "pub mod edge; pub mod flow; pub mod core;"),
            source("edge", "pub mod listen; pub mod http;"),
            source("edge::listen", "use super::http::Call;"),
            source("edge::http", "use crate::flow::{self, enroll::Outcome};"),
            source("flow", "pub mod enroll; pub mod shell;"),
            source("flow::enroll", "use super::shell::Shell; use crate::core::plan::Plan;"),
            source("flow::shell", ""),
            source("core", "pub mod plan;"),
            source("core::plan", ""),
            source("core::plan::draft", "use super::Plan;"),
        ];
        sources.retain(|known| known.module != module);
        sources.push(source(module, text));
        let uses = uses(&sources);
        assert_eq!(differences(&upward(LAYERS, &["wire::limits"], &uses), up), [""; 0], "{text}");
        assert_eq!(differences(&circles(&uses), around), [""; 0], "{text}");
    }

    #[test]
    fn arrows_that_point_up_are_seen() {
        check("core::plan", "", &[], &[]);
        check("core::plan", "use std::fmt; use pki::Name; use wire::limits::PAGE_MAX;", &[], &[]);
        for text in [
            "use crate::flow::enroll;",
            "pub use crate::{core::plan, flow::enroll::{self, Outcome}};",
            "fn f() { crate::flow::enroll::run() }",
            "use super::super::flow::enroll as other;",
            "/* a */ fn f(c: char) { if c == '\"' { crate::flow::enroll::run() } }",
        ] {
            let up = ["core::plan -> flow::enroll"];
            let around = ["crate: core flow"];
            check("core::plan", text, &up, &around);
        }
        check("core::plan", "use wire::enroll::{Request, Reply};", &["core::plan -> wire::enroll"], &[]);
        check("core::plan", "fn f() { tokio::spawn(g()) }", &["core::plan -> tokio::spawn"], &[]);
        check("other", "", &[], &[]);
        check("other", "use crate::core::plan::Plan;", &["other: in no layer"], &[]);
    }

    #[test]
    fn what_is_no_use_is_left_out() {
        for text in [
            "// use crate::flow::enroll;",
            "/// See [`crate::flow::enroll`].\nfn f() {}",
            "const A: &str = \"crate::flow::enroll\";",
            "const A: &str = r#\"use \"crate::flow::enroll\";\"#;",
            "#[cfg(test)]\nmod tests { use crate::flow::enroll; fn f() { if true {} } }",
            "#[cfg(all(test, unix))] use crate::flow::enroll;",
            "fn f<'a>(a: &'a str) -> char { '\"' } // use crate::flow::enroll; '\"'",
        ] {
            check("core::plan", text, &[], &[]);
        }
        check(
            "core::plan",
            "#[cfg(not(test))] use crate::flow::shell;",
            &["core::plan -> flow::shell"],
            &["crate: core flow"],
        );
    }

    #[test]
    fn files_of_tests_do_not_count() {
        let sources = [
            source("core", "pub mod plan; #[cfg(test)] mod tests;"),
            source("core::plan", ""),
            source("core::tests", "use crate::flow::enroll;"),
            source("core::tests::more", "use crate::flow::enroll;"),
            source("flow", ""),
            source("flow::enroll", ""),
        ];
        assert!(uses(&sources).is_empty());
    }

    #[test]
    fn circles_are_seen() {
        check("flow::shell", "use super::enroll::run;", &[], &["flow: enroll shell"]);
        check("edge::http", "fn f() { super::listen::now(); }", &[], &["edge: http listen"]);
        // Parts of one module.
        check("core::plan", "mod draft; pub use self::draft::Draft; use draft::More;", &[], &[]);
    }

    #[test]
    fn what_is_expected_must_be_there() {
        let found = BTreeSet::from(["a".to_owned(), "b".to_owned()]);
        assert_eq!(differences(&found, &["b", "c"]), ["new: a", "not needed any more: c"]);
    }

    #[test]
    fn names_that_two_types_have_are_seen() {
        let source = |module: &str, text: &str| Source { module: module.to_owned(), text: text.to_owned() };
        let sources = [
            source("a", "pub struct Parts;\nenum Reason { One }\n#[cfg(test)]\nmod tests;\npub type Rows = u8;"),
            source(
                "b",
                "pub(super) struct Parts<'a>(&'a str);\n// enum Reason {}\nimpl Io for B {\n    type Rows = u8;\n}",
            ),
            source("a::tests", "struct Rows;"),
            source("c", "pub trait Parts {}"),
        ];
        assert_eq!(differences(&shared_names(&sources), &["Parts: a, b, c"]), [""; 0]);
    }
}
