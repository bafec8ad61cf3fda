//! What the firmware and the stub of a UKI measure during a boot: into an emulated TPM, and into the event log.

use std::fs;
use std::path::Path;

use tpm::HashAlgorithm;

use crate::swtpm::Swtpm;

/// EFI_GLOBAL_VARIABLE, as it lies in memory.
const GLOBAL: &str = "61dfe48bca93d211aa0d00e098032b8c";
/// EFI_IMAGE_SECURITY_DATABASE_GUID.
const IMAGE_SECURITY: &str = "cbb219d73a3d9645a3bcdad00e67656f";

/// EV_SEPARATOR.
const SEPARATOR: u32 = 4;
/// EV_S_CRTM_VERSION.
const CRTM_VERSION: u32 = 8;
/// EV_IPL.
const IPL: u32 = 0xd;
/// EV_EFI_VARIABLE_DRIVER_CONFIG.
const VARIABLE: u32 = 0x8000_0001;
/// EV_EFI_BOOT_SERVICES_APPLICATION.
const APPLICATION: u32 = 0x8000_0003;
/// EV_EFI_ACTION.
const ACTION: u32 = 0x8000_0007;
/// EV_EFI_VARIABLE_AUTHORITY.
const AUTHORITY: u32 = 0x8000_00e0;

/// Rules that admit a machine with the boot `uki-1`, which is allowed, and renew it while that is so.
pub const RULES: &str = r#"
@id("by-boot")
@lifetime("24h")
permit (principal is Lychgate::Newcomer, action == Lychgate::Action::"enroll", resource)
when { principal.assurance >= 3 && principal.claims has tpm_boot && principal.claims.tpm_boot == "uki-1" };

@id("boot-stays")
@reattest("always, refuse, boot")
permit (principal is Lychgate::Machine, action == Lychgate::Action::"renew", resource)
when { principal.claims has tpm_boot };
"#;

/// A boot of a unified kernel image with Secure Boot.
pub struct UkiBoot<'a> {
    /// The certificate in db by which the firmware verifies it, DER.
    pub signer: &'a [u8],
    /// Its kernel.
    pub kernel: &'a [u8],
    /// The command line that it is given beside its own.
    pub command_line: &'a str,
}

impl UkiBoot<'_> {
    /// Boots: extends the PCRs, and writes the log.
    #[track_caller]
    pub fn on(&self, tpm: &Swtpm, log: &Path) {
        let mut boot = Measuring::new(tpm);
        boot.data(0, CRTM_VERSION, b"version 1");
        boot.data(7, VARIABLE, &variable(GLOBAL, "SecureBoot", &[1]));
        for (guid, name) in [(GLOBAL, "PK"), (GLOBAL, "KEK"), (IMAGE_SECURITY, "db"), (IMAGE_SECURITY, "dbx")] {
            boot.data(7, VARIABLE, &variable(guid, name, b""));
        }
        boot.data(7, SEPARATOR, &[0; 4]);
        boot.data(4, ACTION, b"Calling EFI Application from Boot Option");
        for pcr in 0..7 {
            boot.data(pcr, SEPARATOR, &[0; 4]);
        }
        let entry = [&[0x77; 16], self.signer].concat();
        boot.data(7, AUTHORITY, &variable(IMAGE_SECURITY, "db", &entry));
        let image = HashAlgorithm::Sha256.digest(&[b"Authenticode", self.kernel]);
        boot.digest(4, APPLICATION, &image, b"a device path");
        for (section, content) in [(".linux", self.kernel), (".cmdline", b"ro")] {
            let label = utf16(section);
            boot.digest(11, IPL, &HashAlgorithm::Sha256.digest(&[section.as_bytes(), &[0]]), &label);
            boot.digest(11, IPL, &HashAlgorithm::Sha256.digest(&[content]), &label);
        }
        boot.data(12, IPL, &utf16(self.command_line));
        fs::write(log, boot.log).unwrap();
    }
}

/// A TPM whose PCRs are extended, and the log of that.
struct Measuring<'a> {
    tpm: &'a Swtpm,
    log: Vec<u8>,
}

impl<'a> Measuring<'a> {
    fn new(tpm: &'a Swtpm) -> Self {
        let spec = [&b"Spec ID Event03\0"[..], &[0, 0, 0, 0, 0, 2, 0, 2, 1, 0, 0, 0, 0x0b, 0, 32, 0, 0]].concat();
        Self { tpm, log: [&[0, 0, 0, 0, 3, 0, 0, 0][..], &[0; 20], &length(&spec), &spec].concat() }
    }

    fn digest(&mut self, pcr: u8, kind: u32, digest: &[u8], data: &[u8]) {
        self.tpm.extend(pcr, digest);
        let head = [u32::from(pcr).to_le_bytes(), kind.to_le_bytes(), 1_u32.to_le_bytes()].concat();
        self.log.extend([&head[..], &[0x0b, 0], digest, &length(data), data].concat());
    }

    fn data(&mut self, pcr: u8, kind: u32, data: &[u8]) {
        self.digest(pcr, kind, &HashAlgorithm::Sha256.digest(&[data]), data);
    }
}

fn length(bytes: &[u8]) -> [u8; 4] {
    u32::try_from(bytes.len()).unwrap().to_le_bytes()
}

/// A text as UEFI has it, with a zero at its end.
fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect()
}

/// UEFI_VARIABLE_DATA.
fn variable(guid: &str, name: &str, value: &[u8]) -> Vec<u8> {
    let name: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let lengths = [name.len() / 2, value.len()].map(|len| u64::try_from(len).unwrap().to_le_bytes()).concat();
    [&hex::decode(guid).unwrap()[..], &lengths, &name, value].concat()
}
