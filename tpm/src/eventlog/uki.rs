//! What the stub of a unified kernel image measured before it started the kernel (systemd-stub; "TPM2 PCR Measurements
//! Made by systemd"): the image's sections into PCR 11, command lines that came from elsewhere into PCR 12.

use super::boot::{BootError, ToldLog};

/// The PCR for the image.
const IMAGE: u8 = 11;
/// The PCR for what the image was given.
const PARAMETERS: u8 = 12;

/// A section of the image (UAPI.5).
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names are those of the sections")]
pub enum Section {
    Linux,
    Osrel,
    Cmdline,
    Initrd,
    Ucode,
    Splash,
    Dtb,
    Dtbauto,
    Hwids,
    Uname,
    Sbat,
    Pcrpkey,
    Profile,
    Efifw,
}

impl Section {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::Linux,
        Self::Osrel,
        Self::Cmdline,
        Self::Initrd,
        Self::Ucode,
        Self::Splash,
        Self::Dtb,
        Self::Dtbauto,
        Self::Hwids,
        Self::Uname,
        Self::Sbat,
        Self::Pcrpkey,
        Self::Profile,
        Self::Efifw,
    ];

    /// Its name, with the dot.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Linux => ".linux",
            Self::Osrel => ".osrel",
            Self::Cmdline => ".cmdline",
            Self::Initrd => ".initrd",
            Self::Ucode => ".ucode",
            Self::Splash => ".splash",
            Self::Dtb => ".dtb",
            Self::Dtbauto => ".dtbauto",
            Self::Hwids => ".hwids",
            Self::Uname => ".uname",
            Self::Sbat => ".sbat",
            Self::Pcrpkey => ".pcrpkey",
            Self::Profile => ".profile",
            Self::Efifw => ".efifw",
        }
    }
}

/// The sections. Each is two events: the digest of its name with a zero byte, and the digest of its content. Digests
/// alone say which it is, so no data is looked at.
pub(super) fn sections<'a>(told: &ToldLog<'_, 'a>) -> Result<Vec<(Section, &'a [u8])>, BootError> {
    let names = Section::ALL.map(|section| (told.hash.digest(&[section.name().as_bytes(), &[0]]), section));
    let mut found = Vec::new();
    let mut events = told.events(IMAGE)?;
    while let Some(name) = events.next() {
        let section = names.iter().find(|(digest, _)| digest == name.digest).map(|(_, section)| *section);
        let (section, content) = section.zip(events.next()).ok_or(BootError::Form { event: name.at })?;
        found.push((section, content.digest));
    }
    Ok(found)
}

/// The command lines, in UTF-16 in the log. Other things are measured into the same PCR, such as credentials, and their
/// data is not covered: beside one of these no command line is told, since it may be hidden as such.
pub(super) fn command_lines(told: &ToldLog<'_, '_>) -> Result<Vec<String>, BootError> {
    let text = |event: super::boot::Told<'_>| {
        let trimmed = event.data.strip_suffix(&[0, 0]).unwrap_or(event.data);
        if ![trimmed, event.data].iter().any(|data| told.is_of(event.digest, data)) {
            return Err(BootError::Data { event: event.at });
        }
        utf16(trimmed).ok_or(BootError::Form { event: event.at })
    };
    told.events(PARAMETERS)?.map(text).collect()
}

/// A text in UTF-16 that can be shown in one line.
fn utf16(bytes: &[u8]) -> Option<String> {
    let (units, rest) = bytes.as_chunks::<2>();
    let units: Vec<u16> = units.iter().map(|unit| u16::from_le_bytes(*unit)).collect();
    let text = String::from_utf16(&units).ok().filter(|_| rest.is_empty())?;
    (!text.chars().any(char::is_control)).then_some(text)
}
