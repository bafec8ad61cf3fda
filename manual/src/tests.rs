//! Pages of a small command line, and whether a strict reader takes them.

use super::*;

fn command() -> Command {
    let push = Command::new("push")
        .about("Send what's there")
        .after_help("Examples:\n  tool push -n 'a b' .x\n  tool push c:\\d")
        .arg(
            Arg::new("name").short('n').long("name").value_name("KEY=VALUE").action(ArgAction::Append).help("A `name`"),
        )
        .arg(Arg::new("kind").long("kind").value_parser(["one", "two"]).default_value("one").help("Which"))
        .arg(Arg::new("reason").long("reason").required(true).help("Why; -- is said"))
        .arg(Arg::new("file").required(true).num_args(1..).value_name("FILE").help("What"));
    let hidden = Command::new("secret").hide(true);
    let tool = Command::new("tool").version("1.2").about("Does things.").subcommand(push).subcommand(hidden);
    let json = Arg::new("json").long("json").global(true).action(ArgAction::SetTrue).help("Print JSON");
    with_exit_codes(
        tool.arg(json).after_long_help("Files, in the folder:\n  a.pem  one\n         more"),
        "Exit codes:\n   0  done\n  10  not",
    )
}

#[test]
fn a_page_has_what_a_reader_looks_for() {
    let all =
        pages(command(), About { program: "tool 1.2", date: "2026-11-29", see_also: &["ssh(1)", "ssh_config(5)"] });
    let files: Vec<&str> = all.iter().map(|page| page.file.as_str()).collect();
    assert_eq!(files, ["tool-push.1", "tool.1"]);
    let push = &all[0].text;
    for line in [
        ".TH TOOL-PUSH 1 2026-11-29 \"tool 1.2\" \"Lychgate\"",
        "[\\fB\\-\\-name\\fR \\fIKEY=VALUE\\fR] ...",
        "\\fB\\-\\-reason\\fR \\fIREASON\\fR",
        "[\\fB\\-\\-json\\fR]",
        "\\fIFILE\\fR ...",
        "\\fB\\-n\\fR, \\fB\\-\\-name\\fR \\fIKEY=VALUE\\fR",
        "Which. One of \\fBone\\fR, \\fBtwo\\fR. By default \\fBone\\fR.",
        ".SH EXAMPLES",
        "  tool push c:\\ed",
        ".SH EXIT STATUS",
        ".BR ssh (1),",
        ".BR ssh_config (5)",
        ".BR tool (1),",
    ] {
        assert!(push.lines().any(|found| found == line), "no `{line}` in\n{push}");
    }
    assert!(!all[1].text.contains("secret"), "{}", all[1].text);
    assert!(
        all[1].text.contains(".SH FILES\nFiles, in the folder:\n.TP\n\\fBa.pem\\fR\none more\n"),
        "{}",
        all[1].text
    );
}

#[test]
fn every_help_has_the_exit_codes_once() {
    let mut command = with_exit_codes(command(), "Exit codes:\n   0  done\n  10  not");
    command.build();
    for help in
        [command.clone().render_long_help(), command.find_subcommand("push").unwrap().clone().render_long_help()]
    {
        assert_eq!(help.to_string().matches("Exit codes:").count(), 1, "{help}");
    }
}
