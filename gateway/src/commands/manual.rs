//! Man pages and completions, generated from the definition of the command line.

use std::path::Path;

use crate::{
    cli,
    complaint::Complaint,
    ports::files::{self, Existing, FileAccess},
};

/// Header of each page. The date is that of the last relevant change of the command line.
const ABOUT: manual::About<'static> = manual::About {
    program: concat!("lychgate-gateway ", env!("CARGO_PKG_VERSION")),
    date: "2026-11-30",
    see_also: &["lychgate(1)", "openssl(1)", "systemd(1)"],
};

/// Writes a page for every command.
pub fn man(dir: &Path) -> Result<(), Complaint> {
    files::make_public_dir(dir).map_err(Complaint::failed)?;
    for page in manual::pages(cli::command(), ABOUT) {
        files::write_atomic(&dir.join(page.file), page.text.as_bytes(), FileAccess::Public, Existing::Replace)
            .map_err(Complaint::failed)?;
    }
    Ok(())
}

/// Prints completions for a shell. Never fails: errors of standard output are ignored.
pub fn completions(shell: clap_complete::Shell) -> Result<(), Complaint> {
    use std::io::Write as _;
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut cli::command(), "lychgate-gateway", &mut script);
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
            assert!(heading.contains(ABOUT.date), "{page}: {heading}");
        }
    }
}
