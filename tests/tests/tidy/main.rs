//! The rules of the repository that lints cannot see.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed check is reported by panicking")]

mod flaws;
mod hosts;
mod layers;
mod links;
mod names;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use hosts::HOSTS;
use layers::{Layer, Source};

/// Longest source file, in lines: a longer one has two subjects.
const FILE_LINES_MAX: usize = 600;

/// Folders without sources.
const NOT_OURS: &[&str] = &[".git", "target", "lychgate-dev"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Every file of the repository, as a path from its root.
fn files() -> Vec<PathBuf> {
    fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            // In a worktree `.git` is a file.
            if NOT_OURS.iter().any(|name| path.ends_with(name)) {
                continue;
            }
            if path.is_dir() {
                walk(&path, found);
            } else {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(&root(), &mut found);
    found.sort();
    found.into_iter().map(|path| path.strip_prefix(root()).unwrap().to_owned()).collect()
}

fn read(path: &Path) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn with_extension(extension: &str) -> impl Iterator<Item = (PathBuf, String)> {
    files().into_iter().filter(move |path| path.extension().is_some_and(|e| e == extension)).map(|path| {
        let text = read(&path);
        (path, text)
    })
}

/// Fails with all the complaints at once.
#[track_caller]
fn report(rule: &str, complaints: Vec<String>) {
    assert!(complaints.is_empty(), "{rule}:\n  {}", complaints.join("\n  "));
}

#[test]
fn every_source_file_says_what_it_is_for() {
    let complaints = with_extension("rs")
        .filter(|(_, text)| !text.trim_start().starts_with("//!"))
        .map(|(path, _)| path.display().to_string())
        .collect();
    report("these files do not start with a `//!` line", complaints);
}

#[test]
fn no_source_file_is_too_long() {
    let complaints = with_extension("rs")
        .map(|(path, text)| (path, text.lines().count()))
        .filter(|(_, lines)| *lines > FILE_LINES_MAX)
        .map(|(path, lines)| format!("{}: {lines} lines", path.display()))
        .collect();
    report(&format!("these files are over {FILE_LINES_MAX} lines"), complaints);
}

/// The members of the workspace.
fn crates() -> BTreeSet<String> {
    let manifest: toml::Table = toml::from_str(&read(Path::new("Cargo.toml"))).unwrap();
    let members = manifest["workspace"]["members"].as_array().unwrap();
    members.iter().map(|member| member.as_str().unwrap().to_owned()).collect()
}

#[test]
fn architecture_names_every_crate() {
    let text = read(Path::new("ARCHITECTURE.md"));
    let complaints = crates().into_iter().filter(|name| !text.contains(&format!("{name}/"))).collect::<Vec<String>>();
    report("ARCHITECTURE.md does not name these crates", complaints);
}

/// The texts between backquotes that look like paths from the root of the repository.
fn quoted_paths(text: &str) -> BTreeSet<String> {
    let in_repository = |word: &&str| {
        let plain = word.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._-".contains(&b));
        let first = word.split('/').next().unwrap_or_default();
        plain && word.contains('/') && (crates().contains(first) || first == "docs" || first == ".ci")
    };
    text.lines().flat_map(|line| line.split('`').skip(1).step_by(2)).filter(in_repository).map(str::to_owned).collect()
}

#[test]
fn paths_in_the_documents_exist() {
    let mut complaints = Vec::new();
    for (path, text) in with_extension("md") {
        for quoted in quoted_paths(&text) {
            if !root().join(&quoted).exists() {
                complaints.push(format!("{}: `{quoted}`", path.display()));
            }
        }
    }
    report("these paths do not exist", complaints);
}

/// What makes a file, folder or socket. The client does it in `platform/` alone, which gives what root makes to whoever owns the folder.
const MAKES: [&str; 9] = [
    "fs::write(",
    "fs::copy(",
    "fs::create_dir",
    "fs::hard_link(",
    "File::create",
    "OpenOptions::new(",
    "DirBuilder::new(",
    "::symlink(",
    "UnixListener::bind(",
];

#[test]
fn the_client_makes_files_in_one_place() {
    let ours = |path: &Path| {
        let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
        path.starts_with("enroll-client/src")
            && !path.starts_with("enroll-client/src/platform")
            && !name.ends_with("tests")
            && !["testing", "stories", "stolen"].contains(&name)
    };
    let mut complaints = Vec::new();
    for (path, text) in with_extension("rs").filter(|(path, _)| ours(path)) {
        // Tests stand at the end of a file.
        let code =
            text.split("#[cfg(test)]\nmod tests {").next().unwrap().split("#[cfg(all(test, unix))]").next().unwrap();
        let found = MAKES.iter().filter(|call| code.contains(**call));
        complaints.extend(found.map(|call| format!("{}: {call}", path.display())));
    }
    report("files are made outside enroll-client/src/platform", complaints);
}

#[test]
fn every_attestor_is_listed() {
    let list = read(Path::new("gateway/src/attest/mod.rs"));
    let all = list.split("pub static ALL").nth(1).and_then(|rest| rest.split(';').next()).unwrap();
    let complaints = files()
        .iter()
        .filter(|path| path.parent().is_some_and(|dir| dir == Path::new("gateway/src/attest")))
        .filter_map(|path| path.file_stem()?.to_str())
        .filter(|stem| *stem != "mod" && !stem.ends_with("tests"))
        .filter(|stem| !all.contains(&format!("{stem}::")))
        .map(str::to_owned)
        .collect();
    report("`ALL` in gateway/src/attest/mod.rs lacks these files", complaints);
}

/// Crates for sockets, HTTP, or a runtime.
const RUNTIME: &[&str] = &["tokio", "tokio_util", "tokio_rustls", "hyper", "hyper_util", "http", "axum"];

/// Crates for sockets or HTTP.
const NETWORK: &[&str] = &["tokio_util", "tokio_rustls", "hyper", "hyper_util", "http", "axum"];

/// Crates for sockets or HTTP, and the types of the wire.
const EDGE_ALONE: &[&str] = &["wire", "tokio_rustls", "hyper", "hyper_util", "http", "axum"];

/// The layers of the gateway, the highest first.
const GATEWAY: &[Layer] = &[
    Layer {
        modules: &["commands", "cli", "server", "complaint", "main"],
        may_use: &[
            "config", "rules", "edge", "flow", "core", "attest", "registry", "signer", "store", "ports", "limits",
        ],
        no_crates: &[],
    },
    Layer {
        modules: &["edge"],
        may_use: &["config", "rules", "flow", "core", "attest", "registry", "signer", "store", "ports", "limits"],
        no_crates: &[],
    },
    Layer {
        modules: &["config", "rules"],
        may_use: &["core", "attest", "store", "ports", "limits"],
        no_crates: EDGE_ALONE,
    },
    Layer {
        modules: &["flow"],
        may_use: &["core", "attest", "registry", "signer", "store", "ports", "limits"],
        no_crates: EDGE_ALONE,
    },
    // Leases and versions of the store stand in its tables.
    Layer { modules: &["registry"], may_use: &["core", "store", "ports", "limits"], no_crates: EDGE_ALONE },
    Layer { modules: &["signer"], may_use: &["core", "ports", "limits"], no_crates: EDGE_ALONE },
    Layer { modules: &["store"], may_use: &["ports", "limits"], no_crates: EDGE_ALONE },
    Layer { modules: &["ports"], may_use: &["core", "limits"], no_crates: EDGE_ALONE },
    Layer {
        modules: &["attest"],
        may_use: &["core", "limits"],
        no_crates: &["wire", "tokio", "tokio_util", "tokio_rustls", "hyper", "hyper_util", "http", "axum"],
    },
    Layer {
        modules: &["core"],
        may_use: &["limits"],
        no_crates: &["wire", "tokio", "tokio_util", "tokio_rustls", "hyper", "hyper_util", "http", "axum"],
    },
    Layer { modules: &["limits"], may_use: &[], no_crates: RUNTIME },
];

/// Of `wire`, what both ends hold to and is no message: sizes, how JSON is read, what names a service or a protocol, and what is
/// signed.
const SHARED: &[&str] = &[
    "wire::evidence",
    "wire::limits",
    "wire::strict",
    "wire::tunnel::is_service_name",
    "wire::tunnel::ALPN",
    "wire::tunnel::DIAL_BACK_ALPN",
    "wire::tunnel::STREAMS_ALPN",
    "wire::ssh::proof_message",
];

/// The cycles in the folders of the gateway: tables with their handlers.
const GATEWAY_CIRCLES: &[&str] = &[
    // The table of endpoints and its handlers.
    "edge: content endpoints fronts headers http",
];

/// The layers of the client, the highest first.
const CLIENT: &[Layer] = &[
    Layer {
        modules: &["main"],
        may_use: &["dispatch", "commands", "flow", "edge", "evidence", "platform", "cli", "core", "text"],
        no_crates: &[],
    },
    Layer {
        modules: &["dispatch"],
        may_use: &["commands", "flow", "edge", "evidence", "platform", "cli", "core", "text"],
        no_crates: &[],
    },
    Layer {
        modules: &["commands"],
        may_use: &["flow", "edge", "evidence", "platform", "cli", "core", "text"],
        no_crates: &[],
    },
    Layer { modules: &["flow"], may_use: &["edge", "evidence", "platform", "core", "text"], no_crates: &[] },
    Layer { modules: &["edge"], may_use: &["evidence", "platform", "core", "text"], no_crates: &[] },
    // Provers run programs and wait for devices.
    Layer { modules: &["evidence"], may_use: &["core", "text"], no_crates: NETWORK },
    Layer { modules: &["platform"], may_use: &["core", "text"], no_crates: &[] },
    Layer { modules: &["cli"], may_use: &["core", "text"], no_crates: RUNTIME },
    Layer { modules: &["core"], may_use: &["text"], no_crates: RUNTIME },
    Layer { modules: &["text"], may_use: &[], no_crates: RUNTIME },
];

/// The crates below the two programs, and the crates that they may not use.
const PURE: &[(&str, &[&str])] = &[
    ("pki/src", &["tokio::", "hyper::", "wire::", "policy::", "tpm::"]),
    ("policy/src", &["tokio::", "hyper::", "wire::", "pki::", "tpm::"]),
    ("tpm/src", &["tokio::", "hyper::", "wire::", "pki::", "policy::"]),
    ("wire/src", &["tokio::", "hyper::", "pki::", "policy::", "tpm::"]),
    ("transport/src", &["hyper::", "pki::", "policy::", "tpm::", "gateway::", "enroll_client::"]),
];

#[test]
fn dependencies_point_one_way() {
    let mut complaints = Vec::new();
    for (path, text) in with_extension("rs") {
        let Some((_, banned)) = PURE.iter().find(|(dir, _)| path.starts_with(dir)) else {
            continue;
        };
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//")) {
            // A name is banned as a path's first part: `rustls_webpki::` is not `pki::`.
            let names = |word: &&&str| {
                line.match_indices(**word).any(|(at, _)| {
                    !line[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_' || before == ':')
                })
            };
            if let Some(word) = banned.iter().find(names) {
                complaints.push(format!("{}:{}: `{word}`", path.display(), number + 1));
            }
        }
    }
    report("these lines use what their part of the design may not know", complaints);
}

/// The sources of a crate, by module.
fn sources(crate_src: &str) -> Vec<Source> {
    let ours = with_extension("rs").filter(|(path, _)| path.starts_with(crate_src));
    ours.map(|(path, text)| {
        let path = path.strip_prefix(crate_src).unwrap().with_extension("");
        let mut parts: Vec<&str> = path.iter().map(|part| part.to_str().unwrap()).collect();
        if matches!(parts.last(), Some(&"mod" | &"lib")) {
            parts.pop();
        }
        Source { module: parts.join("::"), text }
    })
    .collect()
}

#[test]
fn the_gateway_points_down_its_layers() {
    let found = layers::upward(GATEWAY, SHARED, &layers::uses(&sources("gateway/src")));
    report("arrows that point up, against GATEWAY", layers::differences(&found, &[]));
}

#[test]
fn no_folder_of_the_gateway_has_a_circle() {
    let found = layers::circles(&layers::uses(&sources("gateway/src")));
    report("circles, against GATEWAY_CIRCLES", layers::differences(&found, GATEWAY_CIRCLES));
}

/// Platform modules have the same names for each platform.
const SHARED_NAMES: &[&str] = &[
    "LocalListener: platform::other, platform::unix",
    "LocalStream: platform::other, platform::unix",
    "StopSignal: platform::other, platform::unix",
];

#[test]
fn no_two_types_of_a_crate_have_one_name() {
    let crates = ["gateway", "enroll-client", "pki", "policy", "tpm", "wire", "transport"];
    let found = crates.iter().flat_map(|name| layers::shared_names(&sources(&format!("{name}/src")))).collect();
    report("names that two types have, against SHARED_NAMES", layers::differences(&found, SHARED_NAMES));
}

/// Whether a source is that of an attestor which debug builds alone have.
fn is_for_tests(path: &Path) -> bool {
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let gated = format!("#[cfg(debug_assertions)]\nmod {stem};");
    read(Path::new("gateway/src/attest/mod.rs")).contains(&gated)
}

#[test]
fn the_client_points_down_its_layers() {
    // Tests that have a file of their own, named by `#[path]`.
    let tests = |source: &Source| source.module.ends_with("_tests");
    let ours: Vec<Source> = sources("enroll-client/src").into_iter().filter(|source| !tests(source)).collect();
    let found = layers::upward(CLIENT, &[], &layers::uses(&ours));
    report("arrows that point up, against CLIENT", layers::differences(&found, &[]));
}

#[test]
fn no_folder_of_the_client_or_of_transport_has_a_circle() {
    for crate_src in ["enroll-client/src", "transport/src"] {
        let found = layers::circles(&layers::uses(&sources(crate_src)));
        report(crate_src, layers::differences(&found, &[]));
    }
}

#[test]
fn every_problem_code_is_listed_and_documented() {
    let documents: String = with_extension("md").map(|(_, text)| text).collect();
    let source = read(Path::new("gateway/src/edge/fronts/native/problem.rs"));
    let (before, rest) = source.split_once("pub const CODES").unwrap();
    let (list, after) = rest.split_once("];").unwrap();
    let listed: BTreeSet<&str> = list.split('"').skip(1).step_by(2).collect();
    let used = format!("{before}{}", after.split("#[cfg(test)]").next().unwrap());
    // Attestors declare theirs: `Code::refused("token-spent", ...)`.
    let declared: Vec<String> = with_extension("rs")
        .filter(|(path, _)| path.starts_with("gateway/src/attest") || path.ends_with("gateway/src/core/reject.rs"))
        .filter(|(path, _)| !is_for_tests(path))
        .flat_map(|(_, text)| {
            let rests = text.split("Code::refused(\"").skip(1).chain(text.split("Code::malformed(\"").skip(1));
            rests.filter_map(|rest| rest.split('"').next().map(str::to_owned)).collect::<Vec<String>>()
        })
        .collect();
    assert!(declared.len() > 6, "{declared:?}");
    // The code stands after the status: `(StatusCode::GONE, "waiting-expired", ...)`.
    let used = used.split("StatusCode::").skip(1).filter_map(|rest| {
        let (name, rest) = rest.split_once(',')?;
        let plain = name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
        plain.then(|| rest.trim_start().strip_prefix('"')?.split('"').next().map(str::to_owned))?
    });
    let mut complaints: Vec<String> =
        used.filter(|code| !listed.contains(code.as_str())).map(|code| format!("{code}: not in CODES")).collect();
    complaints.extend(
        listed
            .iter()
            .copied()
            .chain(declared.iter().map(String::as_str))
            .filter(|code| !documents.contains(&format!("`{code}`")))
            .map(|code| format!("{code}: no words")),
    );
    report(
        "problem codes that gateway/src/edge/fronts/native/problem.rs does not list, or no document explains",
        complaints,
    );
}

/// Each code of the client with its exit code: `Exit::Usage, "usage"`, on one line or two.
fn codes_of_the_client() -> BTreeSet<(String, String)> {
    let report = read(Path::new("enroll-client/src/text/report.rs"));
    let number = |name: &str| {
        let (_, rest) = report.split_once(&format!("    {name} = "))?;
        Some(rest.split_once(',')?.0.to_owned())
    };
    let tests = |path: &Path| {
        path.file_stem().is_some_and(|stem| stem == "stories" || stem.to_string_lossy().ends_with("tests"))
    };
    let sources = with_extension("rs").filter(|(path, _)| path.starts_with("enroll-client/src") && !tests(path));
    let mut found = BTreeSet::new();
    for (_, text) in sources {
        let used = text.split("#[cfg(test)]").next().unwrap().to_owned();
        for rest in used.split("Exit::").skip(1) {
            let Some((name, rest)) = rest.split_once(',') else { continue };
            let code = rest.trim_start().strip_prefix('"').and_then(|rest| rest.split('"').next());
            let code = code.filter(|code| code.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'));
            if let (Some(exit), Some(code)) = (number(name), code) {
                found.insert((code.to_owned(), exit));
            }
        }
    }
    found
}

#[test]
fn every_code_of_the_client_is_explained_with_its_exit_code() {
    let document = read(Path::new("docs/errors.md"));
    let rows: Vec<Vec<&str>> = document.lines().map(|line| line.split('|').map(str::trim).collect()).collect();
    let said = |code: &str, exit: &str| {
        rows.iter().any(|row| {
            row.len() > 3 && row[1].contains(&format!("`{code}`")) && row[2].split(' ').any(|number| number == exit)
        })
    };
    // The gateway's own codes, which the client passes on, stand in tables with their status.
    let problems = read(Path::new("gateway/src/edge/fronts/native/problem.rs"));
    let mut codes = codes_of_the_client();
    codes.retain(|(code, _)| !problems.contains(&format!("\"{code}\"")));
    assert!(codes.len() > 20, "{codes:?}");
    let complaints = codes.into_iter().filter(|(code, exit)| !said(code, exit));
    let complaints = complaints.map(|(code, exit)| format!("{code}, exit {exit}")).collect();
    report("codes of the client that docs/errors.md does not explain, or with another exit code", complaints);
}

/// Top-level folders that a program, a unit or a document may name: those of the Filesystem Hierarchy Standard that are
/// alike on every machine and belong to nobody.
const FOLDERS: &[&str] = &["bin", "etc", "usr", "opt", "var", "run", "dev", "proc", "sys", "tmp"];

/// The text files of the repository that people wrote, with each line's number.
fn lines() -> impl Iterator<Item = (PathBuf, usize, String)> {
    files().into_iter().filter(|path| !path.ends_with("Cargo.lock")).flat_map(|path| {
        // Vectors may be binary; what is not text names nothing in words.
        let text = fs::read_to_string(root().join(&path)).unwrap_or_default();
        let lines: Vec<_> =
            text.lines().enumerate().map(|(at, line)| (path.clone(), at + 1, line.to_owned())).collect();
        lines
    })
}

/// Whether a name or a path goes on with this character.
fn of_a_name(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | '/' | '~' | '$' | '}' | ']' | ')' | '>' | '%')
}

/// The absolute paths in a line that begin with one of these folders of `/` and not with one that anybody may name. What
/// goes on from a host, a variable or another folder is no absolute path.
fn foreign_paths(line: &str, top: &BTreeSet<String>) -> Vec<String> {
    let begins = |at: usize| !line[..at].ends_with(of_a_name);
    let found = line.match_indices('/').filter(|(at, _)| begins(*at)).filter_map(|(at, _)| {
        let first: String = line[at + 1..].chars().take_while(|c| c.is_alphanumeric() || "._-".contains(*c)).collect();
        (top.contains(&first) && !FOLDERS.contains(&first.as_str())).then(|| format!("/{first}"))
    });
    found.collect()
}

/// The hosts of the URLs in a line that are neither reserved for examples (RFC 2606, RFC 6761), nor addresses, nor names
/// without a dot, nor in [`HOSTS`].
fn foreign_hosts(line: &str) -> Vec<String> {
    let host = |rest: &str| {
        let authority: String = rest.chars().take_while(|c| !"/?#\"'`<>|\\ ,;".contains(*c)).collect();
        let host = authority.rsplit('@').next().unwrap_or_default();
        host.split(':').next().unwrap_or_default().trim_end_matches(['.', ')']).to_ascii_lowercase()
    };
    let reserved = |host: &str| {
        let last = host.rsplit('.').next().unwrap_or_default();
        matches!(last, "example" | "test" | "invalid" | "localhost")
            || ["example.com", "example.net", "example.org"]
                .iter()
                .any(|name| host.strip_suffix(name).is_some_and(|before| before.is_empty() || before.ends_with('.')))
    };
    let a_name = |host: &str| {
        let last = host.rsplit('.').next().unwrap_or_default();
        host.contains('.')
            && last.len() >= 2
            && last.bytes().all(|byte| byte.is_ascii_lowercase())
            && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
    };
    let found = ["http://", "https://", "ssh://", "git://", "ftp://", "ldap://"]
        .into_iter()
        .flat_map(|scheme| line.split(scheme).skip(1).map(host));
    found.filter(|host| a_name(host) && !reserved(host) && !HOSTS.contains(&host.as_str())).collect()
}

/// What stands at the root of the machine this runs on: a path of somebody's own begins there.
fn top_folders() -> BTreeSet<String> {
    let names = fs::read_dir("/").unwrap().filter_map(|entry| entry.unwrap().file_name().into_string().ok());
    names.collect()
}

#[test]
fn nothing_names_a_path_of_one_machine() {
    let top = top_folders();
    let complaints = lines().flat_map(|(path, number, line)| {
        let found = foreign_paths(&line, &top);
        found.into_iter().map(move |name| format!("{}:{number}: `{name}`", path.display())).collect::<Vec<_>>()
    });
    report(&format!("absolute paths outside /{}", FOLDERS.join(", /")), complaints.collect());
}

#[test]
fn urls_name_reserved_hosts_only() {
    let complaints = lines().flat_map(|(path, number, line)| {
        let found = foreign_hosts(&line);
        found.into_iter().map(move |host| format!("{}:{number}: `{host}`", path.display())).collect::<Vec<_>>()
    });
    report("hosts that are neither reserved for examples nor in HOSTS", complaints.collect());
}

#[test]
fn paths_and_hosts_are_told_from_what_looks_like_them() {
    let top: BTreeSet<String> = ["etc", "var", "home2", "v1", "disk7"].map(str::to_owned).into();
    for (line, want) in [
        ("reads /etc/ssl and /var/lib", &[][..]),
        ("keep it in /home2/ann/x", &["/home2"]),
        ("`/disk7`, and (/disk7/disk)", &["/disk7", "/disk7"]),
        ("/disk7 at the beginning", &["/disk7"]),
        ("\"/disk7/x\" key=/disk7/y", &["/disk7", "/disk7"]),
        ("https://gate.example/v1/self", &[]),
        ("https://gate.example:8443/disk7/x", &[]),
        ("{base}/disk7 $DIR/disk7 ~/disk7 a/disk7 ../disk7", &[]),
        ("/disk7x is another", &[]),
    ] {
        assert_eq!(foreign_paths(line, &top), want, "{line}");
    }
    for (line, want) in [
        ("https://gate.lab.example:8443/x#y", &[][..]),
        ("http://127.0.0.1:80 https://[2001:db8::7]/ https://HOST:PORT https://{host}.x", &[]),
        ("http://user@sub.example.org/", &[]),
        (concat!("http://not", "example.org/"), &["notexample.org"]),
        (concat!("see https://Some", ".Where.dev/x and https://github.com/a"), &["some.where.dev"]),
        ("spiffe://other.domain/machine/a", &[]),
        (concat!("https://gate.test, https://gate", ".dev."), &["gate.dev"]),
    ] {
        assert_eq!(foreign_hosts(line), want, "{line}");
    }
}

#[test]
fn every_finding_can_be_run_and_is_listed() {
    use std::os::unix::fs::PermissionsExt as _;
    let list = read(Path::new("findings/README.md"));
    let listed: BTreeSet<String> =
        list.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).map(str::to_owned).collect();
    let mut complaints = Vec::new();
    let mut found = BTreeSet::new();
    let scripts = |path: &PathBuf| path.starts_with("findings") && path.extension().is_some_and(|e| e == "sh");
    for path in files().into_iter().filter(scripts) {
        if fs::metadata(root().join(&path)).unwrap().permissions().mode() & 0o111 == 0 {
            complaints.push(format!("{}: not executable", path.display()));
        }
        found.insert(path.file_stem().unwrap().to_string_lossy().into_owned());
    }
    complaints.extend(found.difference(&listed).map(|name| format!("{name}: no line in findings/README.md")));
    complaints.extend(listed.difference(&found).map(|name| format!("{name}: no script")));
    report("findings/ and its list differ", complaints);
}
