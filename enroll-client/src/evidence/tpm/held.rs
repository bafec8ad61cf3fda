//! The identity key that a TPM keeps: made below its storage key, and loaded each time it is used. Nothing of ours stays in the TPM.

use std::sync::Arc;

use tpm::command::{self, ResponseError, Signed};
use tpm::{HashAlgorithm, KeyFile, Signature, template};

use super::device::{Device, Hierarchy, Place, TpmError};
use crate::core::attestation::KeyPlace;
use crate::core::key::{HeldKey, KeyFault, PrivateKey};

/// What a machine without a TPM is told.
pub const NO_TPM: &str = "this machine has no TPM that the system knows of";

/// Makes a key in the machine's TPM. It takes as long as that: to be called in a thread that may block.
pub fn make() -> Result<PrivateKey, KeyFault> {
    let place = Place::find().ok_or_else(|| KeyFault::NotMade(NO_TPM.to_owned()))?;
    let made = Device::open(&place).and_then(|mut device| made(&mut device));
    made.map(of_file).map_err(|error| KeyFault::NotMade(explained(&error)))
}

/// The key in a file that [`PrivateKey::to_pem`] wrote; `None` if it is another kind of file.
#[must_use]
pub fn read(text: &str) -> Option<Result<PrivateKey, String>> {
    let begin = format!("-----BEGIN {}-----", tpm::keyfile::LABEL);
    text.contains(&begin).then(|| {
        let ders = pki::parse_pem(tpm::keyfile::LABEL, text).map_err(|error| error.to_string())?;
        let [der] = ders.as_slice() else { return Err("it holds several keys".to_owned()) };
        KeyFile::parse(der).map(of_file).map_err(|error| error.to_string())
    })
}

fn of_file(file: KeyFile) -> PrivateKey {
    PrivateKey::in_tpm(Arc::new(InTpm(file)))
}

/// A key of the machine's TPM.
struct InTpm(KeyFile);

impl HeldKey for InTpm {
    fn file(&self) -> &KeyFile {
        &self.0
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyFault> {
        let place = Place::find().ok_or_else(|| KeyFault::Elsewhere(NO_TPM.to_owned()))?;
        let mut device = Device::open(&place).map_err(fault)?;
        signed(&mut device, &self.0, message).map_err(fault)
    }
}

fn made(device: &mut Device) -> Result<KeyFile, TpmError> {
    let parent = device.primary(Hierarchy::Storage, &template::storage_key()?)?;
    let created = device.run(&command::create(parent.handle, &template::identity_key()?)?)?;
    KeyFile::new(created).map_err(|_| TpmError::Unusable("the TPM made another key than it was told to"))
}

/// Loads the key, and gives its handle.
fn loaded(device: &mut Device, file: &KeyFile) -> Result<u32, TpmError> {
    let parent = device.primary(Hierarchy::Storage, &template::storage_key()?)?.handle;
    let handle = device.load(parent, file.key())?;
    device.flush(parent);
    Ok(handle)
}

fn signed(device: &mut Device, file: &KeyFile, message: &[u8]) -> Result<Vec<u8>, TpmError> {
    let handle = loaded(device, file)?;
    let digest = HashAlgorithm::Sha256.digest(&[message]);
    let digest: &[u8; 32] =
        digest.as_slice().try_into().map_err(|_| TpmError::Unusable("SHA-256 has another length"))?;
    let signature = Signature::parse(&device.run(&command::sign_ecdsa(handle, digest)?)?)?;
    signature.ecdsa_der().ok_or(TpmError::Unusable("the TPM's signature is no ECDSA"))
}

/// What the AK says of the key.
pub fn certified(device: &mut Device, file: &KeyFile, ak: u32, extra_data: &[u8]) -> Result<Signed, TpmError> {
    let handle = loaded(device, file)?;
    let signed = device.run(&command::certify(handle, ak, extra_data)?)?;
    device.flush(handle);
    Ok(signed)
}

/// Why a key cannot be used: only a person can change that, or not.
fn fault(error: TpmError) -> KeyFault {
    match &error {
        TpmError::Response(ResponseError::Refused { command: "TPM2_Load", code }) if code.is_foreign() => {
            KeyFault::Elsewhere("this TPM did not make it, or was cleared since".to_owned())
        }
        _ => KeyFault::Tpm(explained(&error)),
    }
}

/// An error with what its code means for the owner of the machine.
fn explained(error: &TpmError) -> String {
    let means = match error {
        TpmError::Response(ResponseError::Refused { code, .. }) if code.is_full() => {
            "its memory is full of what other programs loaded; /dev/tpmrm0 shares it, a restart empties it"
        }
        TpmError::Response(ResponseError::Refused { code, .. }) if code.is_unsupported() => "it knows no keys on P-256",
        TpmError::Response(ResponseError::Refused { code, .. }) if *code == command::ResponseCode::LOCKOUT => {
            "too many wrong passwords were tried by others; it opens again by itself, often within hours"
        }
        TpmError::Response(ResponseError::Refused { code, .. }) if code.is_passing() => "it stays busy",
        TpmError::Open { why, .. } if why.kind() == std::io::ErrorKind::PermissionDenied => {
            "run it as root, or let your user into the group of the device (often `tss`)"
        }
        _ => return error.to_string(),
    };
    format!("{error}: {means}")
}

/// Uses a key: in a thread for it, if it is in a TPM, which may take a second or hang.
///
/// # Errors
/// Those of `work`.
pub async fn with_key<T: Send + 'static>(
    key: &PrivateKey,
    work: impl FnOnce(&PrivateKey) -> Result<T, KeyFault> + Send + 'static,
) -> Result<T, KeyFault> {
    match key.place() {
        KeyPlace::File => work(key),
        KeyPlace::Tpm => {
            let key = key.clone();
            let worked = tokio::task::spawn_blocking(move || work(&key)).await;
            worked.unwrap_or_else(|_| Err(KeyFault::Tpm("there is no thread to speak to it in".to_owned())))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::device::scripted;
    use super::*;

    /// A public area and its key file.
    fn file() -> KeyFile {
        let template = template::identity_key().unwrap();
        let public = [&template[..template.len() - 4], &[0, 32], &[7; 32], &[0, 32], &[9; 32]].concat();
        KeyFile::new(command::Created { public, private: vec![5; 126] }).unwrap()
    }

    /// A response to TPM2_CreatePrimary.
    const PARENT: &str =
        "80020000002e00000000 80000000 00000017 0002 beef 0001 00 0001 00 8021 40000001 0001 00 0002 000b 0000 01 0000";
    const LOADED: &str = "80020000001b00000000 80000001 00000004 0002 000b 0000 01 0000";
    const FLUSHED: &str = "80010000000a00000000";

    #[test]
    fn what_a_tpm_refuses_is_explained() {
        let refused = |code: u32| format!("80010000000a{code:08x}");
        for (given, want) in [
            (
                vec![PARENT.to_owned(), refused(0x1df)],
                "the private key is in a TPM, and not in one of this machine: this TPM did not make it, or was cleared since",
            ),
            (
                vec![refused(0x2e6)],
                "the TPM with the private key fails: TPM2_CreatePrimary: the TPM answers TPM_RC_CURVE of parameter 2 (0x2e6): it knows \
                 no keys on P-256",
            ),
            (
                vec![refused(0x902)],
                "the TPM with the private key fails: TPM2_CreatePrimary: the TPM answers TPM_RC_OBJECT_MEMORY (0x902): its memory is full \
                 of what other programs loaded; /dev/tpmrm0 shares it, a restart empties it",
            ),
            (
                vec![refused(0x9a2)],
                "the TPM with the private key fails: the TPM's storage hierarchy has a password (the owner's)",
            ),
            (
                vec![PARENT.to_owned(), LOADED.to_owned(), FLUSHED.to_owned(), refused(0x921)],
                "the TPM with the private key fails: TPM2_Sign: the TPM answers TPM_RC_LOCKOUT (0x921): too many wrong passwords were \
                 tried by others; it opens again by itself, often within hours",
            ),
            (
                vec!["silence".to_owned()],
                "the TPM with the private key fails: no answer from the TPM to TPM2_CreatePrimary: it is silent",
            ),
        ] {
            let given: Vec<&str> = given.iter().map(String::as_str).collect();
            let (mut device, _) = scripted(&given);
            let got = signed(&mut device, &file(), b"message").map_err(|error| fault(error).to_string());
            assert_eq!(got.unwrap_err(), want, "{given:?}");
        }
    }

    #[test]
    fn a_busy_tpm_is_asked_again_and_what_was_loaded_is_flushed() {
        let signature = "80020000005b00000000 00000048 0018 000b 0020 NUMBER 0020 NUMBER 0000 01 0000";
        let signature = signature.replace("NUMBER", &"01".repeat(32));
        let busy = "80010000000a00000922";
        let (mut device, sent) = scripted(&[busy, PARENT, busy, LOADED, FLUSHED, busy, &signature, FLUSHED]);
        let der = signed(&mut device, &file(), b"message").unwrap();
        assert_eq!(der.len(), 2 + 2 * 34);
        drop(device);
        let sent = sent.lock().unwrap();
        let flushes: Vec<&String> = sent.iter().filter(|sent| sent.starts_with("80010000000e00000165")).collect();
        assert_eq!(flushes, ["80010000000e0000016580000000", "80010000000e0000016580000001"]);
    }

    #[test]
    fn key_files_are_told_from_others() {
        let key = of_file(file());
        assert_eq!(read(&key.to_pem()).unwrap().unwrap().digest(), key.digest());
        assert!(read("-----BEGIN PRIVATE KEY-----").is_none());
        let cut = "-----BEGIN TSS2 PRIVATE KEY-----\nMAA=\n-----END TSS2 PRIVATE KEY-----\n";
        assert_eq!(read(cut).unwrap().unwrap_err(), "it is not a TPM's key without a password below the storage key");
        assert_eq!(read(&format!("{0}{0}", *key.to_pem())).unwrap().unwrap_err(), "it holds several keys");
    }

    #[tokio::test]
    async fn a_key_in_a_tpm_is_used_in_another_thread() {
        let here = std::thread::current().id();
        let thread = |_: &PrivateKey| Ok(std::thread::current().id());
        assert_eq!(with_key(&crate::testing::private_key(), thread).await, Ok(here));
        assert_ne!(with_key(&of_file(file()), thread).await, Ok(here));
    }
}
