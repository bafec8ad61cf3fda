//! Man pages and completions, made from the command line itself.

use std::path::Path;

use clap::CommandFactory as _;

use super::Complaint;
use crate::{
    cli::Cli,
    edge::files::{self, Access, Existing},
};

/// What stands at the foot of each page: when the command line last changed in a way that its readers should know.
const DATE: &str = "2026-11-28";

/// Writes a page for every command.
///
/// # Errors
/// When they cannot be written.
pub fn man(dir: &Path) -> Result<(), Complaint> {
    files::make_public_dir(dir).map_err(Complaint::failed)?;
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    let mut commands = vec![command];
    while let Some(command) = commands.pop() {
        commands.extend(command.get_subcommands().filter(|command| !command.is_hide_set()).cloned());
        let page = clap_mangen::Man::new(command).date(DATE);
        let mut text = Vec::new();
        page.render(&mut text).map_err(Complaint::failed)?;
        files::write_atomic(&dir.join(page.get_filename()), &text, Access::Public, Existing::Replace)
            .map_err(Complaint::failed)?;
    }
    Ok(())
}

/// Prints completions for a shell.
///
/// # Errors
/// None: what cannot be printed is not wanted.
pub fn completions(shell: clap_complete::Shell) -> Result<(), Complaint> {
    use std::io::Write as _;
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "lychgate-gateway", &mut script);
    let _ = std::io::stdout().write_all(&script);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_for_every_command_each_with_a_date() {
        let room = tempfile::tempdir().unwrap();
        man(room.path()).unwrap();
        for page in ["lychgate-gateway.1", "lychgate-gateway-init.1", "lychgate-gateway-store-check.1"] {
            let text = files::read_text(&room.path().join(page)).unwrap();
            let heading = text.lines().find(|line| line.starts_with(".TH")).unwrap();
            assert!(heading.contains(DATE), "{page}: {heading}");
        }
    }
}
