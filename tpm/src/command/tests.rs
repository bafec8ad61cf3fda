//! Tests of commands: bytes written by hand from part 3, and responses as swtpm 0.7.1 gave them.

use super::*;
use crate::algorithm::HashAlgorithm;
use crate::pcr::{Bank, PcrSet, Selection};
use crate::public::template::{AkTemplate, Template};
use crate::public::{Ak, Public};

fn hex(text: &str) -> Vec<u8> {
    hex::decode(text.replace([' ', '\n'], "")).unwrap()
}

/// The command has these bytes, and the response gives this.
#[track_caller]
fn check<T: PartialEq + std::fmt::Debug>(command: &Command<T>, bytes: &str, response: &str, want: T) {
    assert_eq!(hex::encode(command.bytes()), bytes.replace([' ', '\n'], ""), "{}", command.name());
    assert_eq!(command.response(&hex(response)), Ok(want), "{}", command.name());
}

#[test]
fn what_a_tpm_has() {
    check(
        &get_handles(0x01c0_0000).unwrap(),
        "8001 00000016 0000017a 00000001 01c00000 000000fe",
        "80010000001f00000000 00 00000001 00000003 01c00002 01c00016 01c08000",
        Handles { handles: vec![0x01c0_0002, 0x01c0_0016, 0x01c0_8000], more: false },
    );
    let pcrs = PcrSet::of(0..24).unwrap();
    let banks = [
        (Bank::Sha1, PcrSet::default()),
        (Bank::Believed(HashAlgorithm::Sha256), pcrs),
        (Bank::Believed(HashAlgorithm::Sha384), PcrSet::default()),
        (Bank::Believed(HashAlgorithm::Sha512), PcrSet::default()),
    ];
    check(
        &get_pcr_banks().unwrap(),
        "8001 00000016 0000017a 00000005 00000000 00000001",
        "80010000002b00000000 00 00000005 00000004 0004 03 000000 000b 03 ffffff 000c 03 000000 000d 03 000000",
        banks.map(|(bank, pcrs)| Selection { bank, pcrs }).to_vec(),
    );
    check(
        &get_properties(Property::MANUFACTURER, 2).unwrap(),
        "8001 00000016 0000017a 00000006 00000105 00000002",
        "80010000002300000000 01 00000006 00000002 00000105 49424d00 00000106 53572020",
        vec![
            Property { tag: Property::MANUFACTURER, value: 0x4942_4d00 },
            Property { tag: Property::VENDOR_STRING, value: 0x5357_2020 },
        ],
    );
}

#[test]
fn memory_is_read() {
    let public = NvPublic { index: 0x01c0_0002, attributes: 0x6207_2801, size: 1012 };
    assert!(public.is_readable());
    assert!(!NvPublic { attributes: 0x4207_2801, ..public }.is_readable(), "nothing was written");
    check(
        &nv_read_public(0x01c0_0002).unwrap(),
        "8001 0000000e 00000169 01c00002",
        "80010000003e00000000 000e 01c00002 000b 62072801 0000 03f4
         0022 000b029c603f612ee71ac2090efd128ea5b67d1d36d7b428e64a484ca5cce4fc4676",
        public,
    );
    check(
        &nv_read(0x01c0_0002, 0, 8).unwrap(),
        "8002 00000023 0000014e 01c00002 01c00002 00000009 40000009 0000 01 0000 0008 0000",
        "80020000001d00000000 0000000a 0008 308203f030820258 0000 01 0000",
        hex("308203f030820258"),
    );
    let selection = Selection { bank: Bank::Believed(HashAlgorithm::Sha256), pcrs: PcrSet::of([0, 7]).unwrap() };
    let zeros = "00".repeat(32);
    check(
        &pcr_read(selection).unwrap(),
        "8001 00000014 0000017e 00000001 000b 03 810000",
        &format!("80010000006000000000 00000014 00000001 000b 03 810000 00000002 0020 {zeros} 0020 {zeros}"),
        [(0, vec![0; 32]), (7, vec![0; 32])].into(),
    );
}

#[test]
fn sessions_and_keys() {
    check(
        &start_policy_session(HashAlgorithm::Sha256, &[7; 16]).unwrap(),
        "8001 0000002b 00000176 40000007 40000007 0010 07070707070707070707070707070707 0000 01 0010 000b",
        "80010000002000000000 03000000 0010 999654b0a216a011c792edf9310c3862",
        0x0300_0000,
    );
    check(
        &policy_secret(ENDORSEMENT, 0x0300_0000).unwrap(),
        "8002 00000029 00000151 4000000b 03000000 00000009 40000009 0000 01 0000 0000 0000 0000 00000000",
        "80020000001d00000000 0000000a 0000 8023 40000007 0000 0000 01 0000",
        (),
    );
    let ek = (0x8101_0001, Authorization::Policy(0x0300_0000));
    check(
        &activate_credential(0x8000_0001, ek, &hex("0002 aabb"), &hex("0001 cc")).unwrap(),
        "8002 0000002f 00000147 80000001 81010001 00000012 40000009 0000 01 0000 03000000 0000 01 0000 0002aabb 0001cc",
        "80020000001e00000000 00000006 0004 deadbeef 0000 01 0000 0000 01 0000",
        hex("deadbeef"),
    );
    check(&flush_context(0x8000_0001).unwrap(), "8001 0000000e 00000165 80000001", "80010000000a00000000", ());
    let selection = Selection { bank: Bank::Believed(HashAlgorithm::Sha384), pcrs: PcrSet::of([23]).unwrap() };
    check(
        &quote(0x8000_0001, b"n", selection).unwrap(),
        "8002 0000002a 00000158 80000001 00000009 40000009 0000 01 0000 0001 6e 0010 00000001 000c 03 000080",
        "80020000001a00000000 00000007 0002 aabb 0018 00 0000 01 0000",
        Signed { attest: hex("aabb"), signature: hex("001800") },
    );
    assert!(activate_credential(1, ek, &hex("0003 aabb"), &hex("0001 cc")).is_err(), "a size that is wrong");
}

#[test]
fn primary_keys_are_made_from_a_template() {
    let template = Template::L2.encode(&[]).unwrap();
    let command = create_primary(ENDORSEMENT, &template).unwrap();
    let want = format!(
        "8002 000000a3 00000131 4000000b 00000009 40000009 0000 01 0000 0004 0000 0000 007a {} 0000 00000000",
        hex::encode(&template)
    );
    assert_eq!(hex::encode(command.bytes()), want.replace(' ', ""));
    let made = "80000001 SIZE 0002 beef 0001 00 0001 00 8021 4000000b 0001 00 0002 000b";
    let good = format!("80020000002e00000000 {} 0000 01 0000", made.replace("SIZE", "00000017"));
    assert_eq!(command.response(&hex(&good)), Ok(Loaded { handle: 0x8000_0001, public: hex("beef") }));
    let longer = format!("80020000003900000000 {} {} 0000 01 0000", made.replace("SIZE", "00000022"), "00".repeat(11));
    assert_eq!(
        command.response(&hex(&longer)).map_err(|error| error.to_string()),
        Err("the response to TPM2_CreatePrimary makes no sense: 11 bytes follow `parameters`".to_owned())
    );
}

#[test]
fn keys_are_made_below_a_parent_and_sign() {
    let key = Created { public: hex("beef"), private: hex("aabb") };
    check(
        &create(0x8000_0000, &hex("beef")).unwrap(),
        "8002 0000002b 00000153 80000000 00000009 40000009 0000 01 0000 0004 0000 0000 0002 beef 0000 00000000",
        "80020000002a00000000 00000017 0002 aabb 0002 beef 0001 00 0001 00 8021 40000001 0001 00 0000 01 0000",
        key.clone(),
    );
    check(
        &load(0x8000_0000, &key).unwrap(),
        "8002 00000023 00000157 80000000 00000009 40000009 0000 01 0000 0002 aabb 0002 beef",
        "80020000001b00000000 80000001 00000004 0002 000b 0000 01 0000",
        0x8000_0001,
    );
    let digest = "07".repeat(32);
    check(
        &sign_ecdsa(0x8000_0001, &[7; 32]).unwrap(),
        &format!(
            "8002 00000049 0000015d 80000001 00000009 40000009 0000 01 0000 0020 {digest} 0018 000b 8024 40000007 0000"
        ),
        "80020000001700000000 00000004 0018000b 0000 01 0000",
        hex("0018000b"),
    );
    check(
        &certify(0x8000_0001, 0x8000_0002, b"n").unwrap(),
        "8002 0000002d 00000148 80000001 80000002 00000012 40000009 0000 01 0000 40000009 0000 01 0000 0001 6e 0010",
        "80020000001f00000000 00000007 0002 aabb 0018 00 0000 01 0000 0000 01 0000",
        Signed { attest: hex("aabb"), signature: hex("001800") },
    );
}

#[test]
fn our_aks_are_sound() {
    let unique = |template: AkTemplate, key: Vec<u8>| {
        let bytes = template.encode().unwrap();
        let head = bytes.len() - if template == AkTemplate::P256 { 4 } else { 2 };
        Ak::check(Public::parse(&[&bytes[..head], &key].concat()).unwrap())
    };
    let point = [&[0, 32][..], &[7; 32], &[0, 32], &[9; 32]].concat();
    assert!(unique(AkTemplate::P256, point).is_ok());
    assert!(unique(AkTemplate::Rsa2048, [&[1, 0][..], &[0xc5; 256]].concat()).is_ok());
}

#[test]
fn bad_responses_are_refused() {
    let command = get_handles(0x01c0_0000).unwrap();
    for (response, why) in [
        ("", "the response to TPM2_GetCapability makes no sense: the bytes end inside `response`"),
        ("80010000000a00000143", "TPM2_GetCapability: the TPM answers TPM_RC_COMMAND_CODE (0x143)"),
        ("80010000000a00000921", "TPM2_GetCapability: the TPM answers TPM_RC_LOCKOUT (0x921)"),
        ("80010000000a00000000", "the response to TPM2_GetCapability makes no sense: the bytes end inside `moreData`"),
        (
            "80010000000b00000000",
            "the response to TPM2_GetCapability makes no sense: `response` has 10 bytes and must have 11",
        ),
        (
            "80010000000900000000",
            "the response to TPM2_GetCapability makes no sense: `size` has a value that its specification does not allow",
        ),
        (
            "8001ffffffff00000000",
            "the response to TPM2_GetCapability makes no sense: `response` has 4294967295 bytes and at most 4096 are \
             accepted",
        ),
        (
            "80020000000a00000000",
            "the response to TPM2_GetCapability makes no sense: `response tag` has a value that its specification does \
             not allow",
        ),
        (
            "80010000001300000000 00 00000001 ffffffff",
            "the response to TPM2_GetCapability makes no sense: `count` is 0xffffffff, which is not supported",
        ),
        (
            "80010000001300000000 00 00000002 00000000",
            "the response to TPM2_GetCapability makes no sense: `capability` has a value that its specification does \
             not allow",
        ),
    ] {
        assert_eq!(command.response(&hex(response)).unwrap_err().to_string(), why, "{response}");
    }
    // Parameters that say to be longer than the response.
    let read = nv_read(0x01c0_0002, 0, 8).unwrap();
    assert!(read.response(&hex("80020000001000000000 0000ffff 0000")).is_err());
    assert_eq!(response_code(&hex("80010000000a00000922")), Some(ResponseCode::RETRY));
    assert_eq!(response_code(&hex("80010000000b00000922")), None);
}
