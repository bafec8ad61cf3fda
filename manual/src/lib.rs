//! Man pages made from a command line as it is declared, in the few macros of man(7) that every formatter knows, and the table of exit
//! codes at each command's help. Pure: pages come out as text.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic, reason = "a failed check is reported by panicking"))]

mod roff;

use clap::{Arg, ArgAction, Command};

use roff::{bold, inline, italic, verbatim, wrapped};

/// A page as a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The file's name, such as `lychgate-join.1`.
    pub file: String,
    /// What stands in it.
    pub text: String,
}

/// What all pages of a program have in common.
#[derive(Copy, Clone, Debug)]
pub struct About<'a> {
    /// The program with its version, such as `lychgate 0.1.0`.
    pub program: &'a str,
    /// The day at their feet.
    pub date: &'a str,
    /// Other pages worth reading, such as `ssh(1)`.
    pub see_also: &'a [&'a str],
}

/// Puts the exit codes at the end of `--help` of every command, behind what stands there.
#[must_use]
pub fn with_exit_codes(command: Command, codes: &str) -> Command {
    let long = command.get_after_long_help().or_else(|| command.get_after_help()).map(ToString::to_string);
    let long = match long {
        Some(text) if text.contains(codes) => text,
        Some(text) => format!("{text}\n\n{codes}"),
        None => codes.to_owned(),
    };
    command.after_long_help(long).mut_subcommands(|inner| with_exit_codes(inner, codes))
}

/// A page for the program and for each command that is not hidden.
#[must_use]
pub fn pages(command: Command, about: About<'_>) -> Vec<Page> {
    let mut command = command.disable_help_subcommand(true);
    command.build();
    let (mut left, mut pages) = (vec![(command, None)], Vec::new());
    while let Some((command, parent)) = left.pop() {
        pages.push(page(&command, parent.as_ref(), about));
        let inner: Vec<Command> = shown(&command).cloned().collect();
        left.extend(inner.into_iter().map(|inner| (inner, Some(command.clone()))));
    }
    pages.sort_by(|a, b| a.file.cmp(&b.file));
    pages
}

fn shown(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|command| !command.is_hide_set())
}

/// `lychgate-requests-approve`.
fn name(command: &Command) -> String {
    command.get_display_name().unwrap_or_else(|| command.get_name()).replace(' ', "-")
}

fn page(command: &Command, parent: Option<&Command>, about: About<'_>) -> Page {
    let name = name(command);
    let mut out = String::from(".ie \\n(.g .ds Aq \\(aq\n.el .ds Aq '\n");
    out.push_str(&format!(".TH {} 1 {} \"{}\" \"Lychgate\"\n", name.to_uppercase(), about.date, about.program));
    let line = command.get_about().map(ToString::to_string).unwrap_or_default();
    let line = line.trim_end_matches('.');
    out.push_str(&format!(".SH NAME\n{}", wrapped(&format!("{name} - {line}"))));
    out.push_str(&synopsis(command));
    out.push_str(".SH DESCRIPTION\n");
    let long = command.get_long_about().or_else(|| command.get_about()).map(ToString::to_string).unwrap_or_default();
    let long = long.trim_end_matches('.');
    out.push_str(&wrapped(&format!("{long}.")));
    out.push_str(&options(command));
    out.push_str(&commands(command));
    out.push_str(&sections(command));
    out.push_str(&see_also(command, parent, about));
    Page { file: format!("{name}.1"), text: out }
}

fn arguments(command: &Command) -> impl Iterator<Item = &Arg> {
    command.get_arguments().filter(|arg| !arg.is_hide_set())
}

/// The names of an argument's values, as they are to be replaced.
fn values(arg: &Arg) -> Vec<String> {
    if !arg.get_action().takes_values() {
        return vec![];
    }
    match arg.get_value_names() {
        Some(names) => names.iter().map(ToString::to_string).collect(),
        None => vec![arg.get_id().as_str().to_uppercase().replace('_', "-")],
    }
}

fn repeats(arg: &Arg) -> bool {
    let several = arg.get_num_args().is_some_and(|range| range.max_values() > 1);
    // What its own name says already is not said twice.
    let said = values(arg).iter().any(|value| value.contains("..."));
    !said && (several || matches!(arg.get_action(), ArgAction::Append | ArgAction::Count))
}

/// `--dir DIR`, or `NAME`.
fn spelt(arg: &Arg) -> String {
    let values: Vec<String> = values(arg).iter().map(|value| italic(value)).collect();
    let name = match (arg.get_long(), arg.get_short()) {
        (Some(long), _) => Some(format!("--{long}")),
        (None, Some(short)) => Some(format!("-{short}")),
        (None, None) => None,
    };
    name.into_iter().map(|name| bold(&name)).chain(values).collect::<Vec<_>>().join(" ")
}

fn synopsis(command: &Command) -> String {
    let mut out = format!(".SH SYNOPSIS\n{}\n", bold(command.get_bin_name().unwrap_or_else(|| command.get_name())));
    let own = |arg: &&Arg| !arg.is_global_set() && !matches!(arg.get_id().as_str(), "help" | "version");
    let (places, options): (Vec<&Arg>, Vec<&Arg>) = arguments(command).filter(own).partition(|arg| arg.is_positional());
    let globals = arguments(command).filter(|arg| arg.is_global_set());
    for arg in options.into_iter().chain(globals).chain(places) {
        let more = if repeats(arg) { " ..." } else { "" };
        let spelt = spelt(arg);
        out.push_str(&if arg.is_required_set() { format!("{spelt}{more}\n") } else { format!("[{spelt}]{more}\n") });
    }
    if shown(command).next().is_some() {
        out.push_str(&format!("{} ...\n", italic("COMMAND")));
    }
    out
}

fn options(command: &Command) -> String {
    let mut out = String::new();
    let (places, options): (Vec<&Arg>, Vec<&Arg>) = arguments(command).partition(|arg| arg.is_positional());
    for (heading, list) in [("ARGUMENTS", places), ("OPTIONS", options)] {
        if !list.is_empty() {
            out.push_str(&format!(".SH {heading}\n"));
        }
        for arg in list {
            let short = arg.get_short().filter(|_| arg.get_long().is_some());
            let short = short.map(|short| format!("{}, ", bold(&format!("-{short}")))).unwrap_or_default();
            out.push_str(&format!(".TP\n{short}{}\n{}", spelt(arg), wrapped(&told(arg))));
        }
    }
    out
}

/// What an option does, with what it may be and is when not given.
fn told(arg: &Arg) -> String {
    let help = arg.get_long_help().or_else(|| arg.get_help()).map(ToString::to_string).unwrap_or_default();
    let mut out = format!("{}.", help.trim_end_matches('.'));
    let possible: Vec<String> = arg
        .get_possible_values()
        .iter()
        .filter(|value| !value.is_hide_set() && arg.get_action().takes_values())
        .map(|value| format!("`{}`", value.get_name()))
        .collect();
    if !possible.is_empty() {
        out.push_str(&format!(" One of {}.", possible.join(", ")));
    }
    let usual: Vec<String> =
        arg.get_default_values().iter().map(|value| value.to_string_lossy().into_owned()).collect();
    if arg.get_action().takes_values() && !arg.is_hide_default_value_set() && !usual.is_empty() {
        out.push_str(&format!(" By default `{}`.", usual.join(" ")));
    }
    if let Some(env) = arg.get_env() {
        out.push_str(&format!(" Also by the environment variable `{}`.", env.to_string_lossy()));
    }
    out
}

fn commands(command: &Command) -> String {
    let mut out = String::new();
    for inner in shown(command) {
        if out.is_empty() {
            out.push_str(".SH COMMANDS\n");
        }
        let line = inner.get_about().map(ToString::to_string).unwrap_or_default();
        let line = format!("{}.", line.trim_end_matches('.'));
        out.push_str(&format!(".TP\n{}(1)\n{}", bold(&name(inner)), wrapped(&line)));
    }
    out
}

/// The paragraphs at the end of `--help`. One whose first line ends with a colon is a section.
fn sections(command: &Command) -> String {
    let text = command.get_after_long_help().or_else(|| command.get_after_help());
    let text = text.map(ToString::to_string).unwrap_or_default();
    let mut out = String::new();
    for block in text.split("\n\n").filter(|block| !block.trim().is_empty()) {
        let (first, rest) = block.split_once('\n').unwrap_or((block, ""));
        match first.strip_suffix(':') {
            Some("Examples") => {
                out.push_str(".SH EXAMPLES\n");
                out.push_str(&verbatim(rest));
            }
            Some("Exit codes") => {
                out.push_str(".SH EXIT STATUS\n");
                out.push_str(&terms(rest));
            }
            Some(heading) if heading.starts_with("Files") => {
                out.push_str(".SH FILES\n");
                out.push_str(&wrapped(first));
                out.push_str(&terms(rest));
            }
            _ => {
                out.push_str(".SH NOTES\n");
                out.push_str(&wrapped(block));
            }
        }
    }
    out
}

/// Lines of a term and what it means; a line that is indented further goes on with the one before.
fn terms(block: &str) -> String {
    let lines: Vec<&str> = block.lines().filter(|line| !line.trim().is_empty()).collect();
    let margin = |line: &str| line.len() - line.trim_start().len();
    let left = lines.iter().map(|line| margin(line)).min().unwrap_or(0);
    let mut found: Vec<(String, String)> = Vec::new();
    for line in lines {
        let goes_on = margin(line) > left + 4;
        match found.last_mut() {
            Some((_, told)) if goes_on => {
                told.push(' ');
                told.push_str(line.trim());
            }
            _ => {
                let (term, told) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
                found.push((term.to_owned(), told.trim().to_owned()));
            }
        }
    }
    found.iter().map(|(term, told)| format!(".TP\n{}\n{}", bold(term), wrapped(told))).collect()
}

fn see_also(command: &Command, parent: Option<&Command>, about: About<'_>) -> String {
    let mut pages: Vec<String> = Vec::new();
    if let Some(parent) = parent {
        pages.push(name(parent));
        pages.extend(shown(parent).map(name).filter(|sibling| *sibling != name(command)));
    }
    pages.extend(shown(command).map(name));
    let mut pages: Vec<String> = pages.into_iter().map(|page| format!("{page}(1)")).collect();
    pages.extend(about.see_also.iter().map(|page| (*page).to_owned()));
    pages.sort_by_key(|page| section(page));
    pages.dedup();
    let last = pages.len().saturating_sub(1);
    let lines: Vec<String> = pages
        .iter()
        .enumerate()
        .map(|(at, page)| {
            let (name, section) = page.split_once('(').unwrap_or((page, ""));
            let comma = if at < last { " ," } else { "" };
            format!(".BR {} ({section}{comma}\n", inline(name)).replace(" ,", ",")
        })
        .collect();
    if lines.is_empty() { String::new() } else { format!(".SH SEE ALSO\n{}", lines.concat()) }
}

/// Pages are named in the order of their sections, then of their names.
fn section(page: &str) -> (String, String) {
    let (name, section) = page.split_once('(').unwrap_or((page, ""));
    (section.to_owned(), name.to_owned())
}

#[cfg(test)]
mod tests;
