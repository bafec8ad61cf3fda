//! `cloud`: a document by which this machine's cloud says which instance it is. Body: JSON of [`wire::evidence::CloudEvidence`], in two
//! rounds: first which documents there are, then the one that the gateway asked for.
//!
//! Which cloud it is, the firmware says ([`DMI`]), or [`VARIABLE`]. Nothing is asked of a metadata service on any other machine, since
//! another service may answer at its address there. A document of AWS's Nitro is made by a program ([`NITRO`]); the others come from the
//! metadata service, by `curl` and through no proxy. AWS's is asked with a session (IMDSv2) and never without.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use wire::evidence::{
    CLOUD, CLOUD_AWS_IDENTITY, CLOUD_AWS_NITRO, CLOUD_AZURE_ATTESTED, CLOUD_AZURE_NONCE_LEN, CLOUD_NONCE_LEN,
    CloudChallenge, CloudEvidence, cloud_azure_message,
};

use super::program::{Leads, Method, curl};
use super::{Binding, EvidenceError, Known, Prover, Proving};

/// Which cloud this is: `aws`, `azure`, or `none` to show nothing. Without it the firmware says.
const VARIABLE: &str = "LYCHGATE_CLOUD";

/// The program that makes documents of AWS's Nitro, called with `--nonce FILE --user-data FILE`. Without it [`NITRO_PROGRAM`], if that
/// is installed.
const NITRO: &str = "LYCHGATE_NITRO";

/// AWS's own.
const NITRO_PROGRAM: &str = "nitro-tpm-attest";

/// Where Linux has what the firmware says of the machine.
const DMI: &str = "/sys/class/dmi/id";

/// The asset tag of every virtual machine of Azure. Others by the same vendor are no clouds.
const AZURE_TAG: &str = "7783-7084-3265-9085-8269-3286-77";

/// Where instances ask, at AWS as at Azure.
const METADATA: &str = "http://169.254.169.254";

/// Another place to ask, for tests.
#[cfg(debug_assertions)]
const METADATA_VARIABLE: &str = "LYCHGATE_CLOUD_METADATA";

/// What a machine without it is told.
pub const LACKS: &str = "its firmware names neither AWS nor Azure; `LYCHGATE_CLOUD` may";

/// The prover, if this is an instance of a cloud.
pub fn probe(_: Known<'_>) -> Option<Box<dyn Prover>> {
    let instance = CloudInstance::find(|name| std::env::var_os(name), Path::new(DMI))?;
    Some(Box::new(CloudProver { instance, failed: Mutex::default() }))
}

/// The prover. One that failed fails again at once, so that the machine goes on without it: the next attempt to join makes another.
struct CloudProver {
    instance: CloudInstance,
    failed: Mutex<Option<String>>,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum CloudVendor {
    Aws,
    Azure,
}

impl CloudVendor {
    /// What the firmware says. Older instances of AWS name their hypervisor as the vendor.
    fn by_firmware(dmi: &Path) -> Option<Self> {
        let says = |file: &str| std::fs::read_to_string(dmi.join(file)).unwrap_or_default().trim().to_owned();
        match says("sys_vendor").as_str() {
            "Amazon EC2" => Some(Self::Aws),
            "Xen" if says("product_version").to_ascii_lowercase().contains("amazon") => Some(Self::Aws),
            "Microsoft Corporation" if says("chassis_asset_tag") == AZURE_TAG => Some(Self::Azure),
            _ => None,
        }
    }
}

/// This machine, as an instance of a cloud.
#[derive(Debug, PartialEq, Eq)]
struct CloudInstance {
    cloud: CloudVendor,
    /// The metadata service.
    metadata: String,
    /// The program for documents of Nitro.
    nitro: Option<PathBuf>,
}

impl CloudInstance {
    fn find(variable: impl Fn(&str) -> Option<OsString>, dmi: &Path) -> Option<Self> {
        let variable = |name: &str| variable(name).filter(|text| !text.is_empty());
        let cloud = match variable(VARIABLE).as_deref().map(|name| name.to_string_lossy().into_owned()) {
            Some(name) if name == "aws" => CloudVendor::Aws,
            Some(name) if name == "azure" => CloudVendor::Azure,
            // Another name may be one of tomorrow's; it is not this one.
            Some(_) => return None,
            None => CloudVendor::by_firmware(dmi)?,
        };
        let on_path = || {
            let path = variable("PATH")?;
            std::env::split_paths(&path).map(|folder| folder.join(NITRO_PROGRAM)).find(|program| program.is_file())
        };
        let nitro = variable(NITRO).map(PathBuf::from).or_else(on_path).filter(|_| cloud == CloudVendor::Aws);
        #[cfg(debug_assertions)]
        let metadata = variable(METADATA_VARIABLE).map(|place| place.to_string_lossy().into_owned());
        #[cfg(not(debug_assertions))]
        let metadata = None;
        Some(Self { cloud, metadata: metadata.unwrap_or_else(|| METADATA.to_owned()), nitro })
    }

    /// The documents that there are.
    fn has(&self) -> Vec<String> {
        let all: &[&str] = match (self.cloud, &self.nitro) {
            (CloudVendor::Aws, Some(_)) => &[CLOUD_AWS_NITRO, CLOUD_AWS_IDENTITY],
            (CloudVendor::Aws, None) => &[CLOUD_AWS_IDENTITY],
            (CloudVendor::Azure, _) => &[CLOUD_AZURE_ATTESTED],
        };
        all.iter().map(|name| (*name).to_owned()).collect()
    }

    /// The document that was asked for, in base64.
    async fn document(&self, challenge: &str, key: &[u8; 32]) -> Result<String, String> {
        let unread = || "the gateway's challenge cannot be read".to_owned();
        let challenge: CloudChallenge = serde_json::from_str(challenge).map_err(|_| unread())?;
        let nonce = STANDARD.decode(&challenge.nonce).ok().filter(|nonce| nonce.len() == CLOUD_NONCE_LEN);
        let nonce = nonce.ok_or_else(unread)?;
        match (challenge.document.as_str(), &self.nitro) {
            (CLOUD_AWS_NITRO, Some(program)) => nitro(program, &nonce, key).await.map(|bytes| STANDARD.encode(bytes)),
            (CLOUD_AWS_IDENTITY, _) if self.cloud == CloudVendor::Aws => self.identity().await,
            (CLOUD_AZURE_ATTESTED, _) if self.cloud == CloudVendor::Azure => self.attested(&nonce, key).await,
            (other, _) => Err(format!("the gateway asks for the document `{other}`, which this machine does not have")),
        }
    }

    async fn ask(&self, method: Method, path: &str, header: &str) -> Result<Vec<u8>, String> {
        let asked = curl(method, &format!("{}{path}", self.metadata), Leads::Inside, header).await;
        asked.map_err(|why| format!("the metadata service does not answer: {why}"))
    }

    /// AWS's instance identity document, which comes in lines of base64.
    async fn identity(&self) -> Result<String, String> {
        let session = self.ask(Method::Put, "/latest/api/token", "X-aws-ec2-metadata-token-ttl-seconds: 60").await?;
        let session = String::from_utf8(session).map_err(|_| "the metadata service gives no session".to_owned())?;
        let header = format!("X-aws-ec2-metadata-token: {}", session.trim());
        let lines = self.ask(Method::Get, "/latest/dynamic/instance-identity/rsa2048", &header).await?;
        let text: Vec<u8> = lines.into_iter().filter(|byte| !byte.is_ascii_whitespace()).collect();
        let document =
            STANDARD.decode(text).map_err(|_| "what the metadata service gives is no document".to_owned())?;
        Ok(STANDARD.encode(document))
    }

    /// Azure's attested document, whose nonce is of the challenge and the key.
    async fn attested(&self, nonce: &[u8], key: &[u8; 32]) -> Result<String, String> {
        let nonce = hex::encode(digest(&SHA256, &cloud_azure_message(nonce, key)));
        let nonce = nonce.get(..CLOUD_AZURE_NONCE_LEN).unwrap_or_default();
        let path = format!("/metadata/attested/document?api-version=2020-09-01&nonce={nonce}");
        let answer = self.ask(Method::Get, &path, "Metadata: true").await?;
        let answer: AzureAnswer = serde_json::from_slice(&answer)
            .map_err(|_| "what the metadata service gives is no attested document".to_owned())?;
        Ok(answer.signature)
    }
}

/// Azure's answer; it has other members, too.
#[derive(Deserialize)]
struct AzureAnswer {
    signature: String,
}

/// A document of Nitro, by a program that reads nonce and user data from files. Here they are pipes, which it finds under `/proc`.
#[cfg(target_os = "linux")]
async fn nitro(program: &Path, nonce: &[u8], key: &[u8; 32]) -> Result<Vec<u8>, String> {
    use std::io::Write as _;
    use std::os::fd::AsRawFd as _;

    let filled = |bytes: &[u8]| {
        let (reader, mut writer) = std::io::pipe()?;
        writer.write_all(bytes)?;
        Ok(reader)
    };
    let failed = |error: std::io::Error| format!("no pipe can be made: {error}");
    let (nonce, data) = (filled(nonce).map_err(failed)?, filled(key).map_err(failed)?);
    let path = |fd: i32| format!("/proc/{}/fd/{fd}", std::process::id());
    let mut command = tokio::process::Command::new(program);
    command.arg("--nonce").arg(path(nonce.as_raw_fd())).arg("--user-data").arg(path(data.as_raw_fd()));
    // Both pipes are open until it has ended.
    super::program::run(command, b"", &program.display().to_string()).await
}

/// There is none for other systems.
#[cfg(not(target_os = "linux"))]
async fn nitro(_: &Path, _: &[u8], _: &[u8; 32]) -> Result<Vec<u8>, String> {
    Err("documents of Nitro are made on Linux alone".to_owned())
}

impl Prover for CloudProver {
    fn kind(&self) -> &'static str {
        CLOUD
    }

    /// The machine is in: a document that does not hold any more must not strand it.
    fn renews_without(&self, code: &str) -> bool {
        code.starts_with("cloud-")
    }

    fn body<'a>(&'a self, binding: Binding<'a>, challenge: Option<&'a str>) -> Proving<'a> {
        Box::pin(async move {
            let earlier = self.failed.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let document = match (earlier, challenge) {
                (Some(why), _) => Err(why),
                (None, None) => Ok(None),
                (None, Some(asked)) => self.instance.document(asked, binding.new_key.as_bytes()).await.map(Some),
            };
            let document = document.map_err(|why| {
                *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(why.clone());
                EvidenceError::Machine(why)
            })?;
            // Our own types can be written.
            Ok(serde_json::to_string(&CloudEvidence { has: self.instance.has(), document }).unwrap_or_default())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn firmware(files: &[(&str, &str)]) -> tempfile::TempDir {
        let room = tempfile::tempdir().unwrap();
        for (file, text) in files {
            std::fs::write(room.path().join(file), format!("{text}\n")).unwrap();
        }
        room
    }

    fn found(variables: &[(&str, &str)], dmi: &Path) -> Option<CloudInstance> {
        CloudInstance::find(|name| variables.iter().find(|(known, _)| *known == name).map(|(_, text)| text.into()), dmi)
    }

    #[test]
    fn only_an_instance_of_a_cloud_asks_its_metadata_service() {
        let cloud = |files: &[(&str, &str)]| found(&[], firmware(files).path()).map(|instance| instance.cloud);
        assert_eq!(cloud(&[]), None);
        assert_eq!(cloud(&[("sys_vendor", "QEMU")]), None);
        assert_eq!(cloud(&[("sys_vendor", "Amazon EC2")]), Some(CloudVendor::Aws));
        assert_eq!(cloud(&[("sys_vendor", "Xen"), ("product_version", "4.11.amazon")]), Some(CloudVendor::Aws));
        assert_eq!(cloud(&[("sys_vendor", "Xen"), ("product_version", "4.17")]), None);
        let microsoft = ("sys_vendor", "Microsoft Corporation");
        assert_eq!(cloud(&[microsoft]), None, "Hyper-V at home");
        assert_eq!(cloud(&[microsoft, ("chassis_asset_tag", AZURE_TAG)]), Some(CloudVendor::Azure));
    }

    #[test]
    fn the_owner_may_say_which_cloud_it_is() {
        let amazon = firmware(&[("sys_vendor", "Amazon EC2")]);
        let cloud = |name: &str| found(&[(VARIABLE, name)], amazon.path()).map(|instance| instance.cloud);
        assert_eq!(cloud("azure"), Some(CloudVendor::Azure));
        assert_eq!(cloud("aws"), Some(CloudVendor::Aws));
        assert_eq!((cloud("none"), cloud("gcp")), (None, None));
        assert_eq!(cloud(""), Some(CloudVendor::Aws));
        assert_eq!(found(&[], amazon.path()).unwrap().metadata, METADATA);
    }

    #[test]
    fn documents_of_nitro_need_a_program() {
        let (nowhere, tools) = (firmware(&[]), firmware(&[(NITRO_PROGRAM, "")]));
        let has = |variables: &[(&str, &str)]| found(variables, nowhere.path()).unwrap().has();
        let aws = (VARIABLE, "aws");
        let path = std::env::join_paths([nowhere.path(), tools.path()]).unwrap().into_string().unwrap();
        assert_eq!(has(&[aws]), [CLOUD_AWS_IDENTITY]);
        assert_eq!(has(&[aws, (NITRO, "/opt/attest")]), [CLOUD_AWS_NITRO, CLOUD_AWS_IDENTITY]);
        assert_eq!(has(&[aws, ("PATH", &path)]), [CLOUD_AWS_NITRO, CLOUD_AWS_IDENTITY]);
        assert_eq!(has(&[(VARIABLE, "azure"), (NITRO, "/opt/attest")]), [CLOUD_AZURE_ATTESTED]);
    }

    #[tokio::test]
    async fn no_other_document_is_given_than_there_is() {
        let nowhere = firmware(&[]);
        let instance = found(&[(VARIABLE, "azure")], nowhere.path()).unwrap();
        let asked = |document: &str, nonce: &[u8]| {
            serde_json::to_string(&CloudChallenge { document: document.to_owned(), nonce: STANDARD.encode(nonce) })
                .unwrap()
        };
        for (challenge, says) in [
            (asked(CLOUD_AWS_IDENTITY, &[1; 32]), "`aws-identity`, which this machine does not have"),
            (asked(CLOUD_AWS_NITRO, &[1; 32]), "`aws-nitro`, which this machine does not have"),
            (asked(CLOUD_AZURE_ATTESTED, &[1; 31]), "challenge cannot be read"),
            ("{}".to_owned(), "challenge cannot be read"),
        ] {
            let why = instance.document(&challenge, &[2; 32]).await.unwrap_err();
            assert!(why.contains(says), "{why}");
        }
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn the_program_reads_nonce_and_key_from_files() {
        use std::os::unix::fs::PermissionsExt as _;

        let room = firmware(&[("attest", "#!/bin/sh\n[ \"$1$3\" = --nonce--user-data ] && cat \"$2\" \"$4\"")]);
        let program = room.path().join("attest");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let made = nitro(&program, &[1; 32], &[2; 32]).await;
        assert_eq!(made, Ok([[1; 32], [2; 32]].concat()));
        std::fs::write(&program, "#!/bin/sh\necho no TPM >&2; exit 1\n").unwrap();
        let why = nitro(&program, &[1; 32], &[2; 32]).await.unwrap_err();
        assert!(why.ends_with(": no TPM"), "{why}");
    }
}
