//! The cases of C2SP's x509-limbo, which lies beside the repository.

use std::path::PathBuf;

use pki::{Eku, parse_pem};
use serde_json::Value;

/// The time of cases that have none.
const NOW: u64 = 1_772_366_400;

/// A case.
pub struct Case {
    pub id: String,
    pub roots: Vec<Vec<u8>>,
    pub intermediates: Vec<Vec<u8>>,
    pub leaf: Vec<u8>,
    pub crls: Vec<Vec<u8>>,
    pub host: Option<String>,
    pub eku: Eku,
    pub now: u64,
    pub accept: bool,
}

fn pems(value: &Value, label: &str) -> Vec<Vec<u8>> {
    let one = |text: &Value| parse_pem(label, text.as_str().unwrap()).unwrap().remove(0);
    value.as_array().unwrap().iter().map(one).collect()
}

fn read(case: &Value) -> Case {
    let when = case["validation_time"].as_str().map_or(NOW, |text| {
        let at = time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).unwrap();
        at.unix_timestamp().try_into().unwrap()
    });
    Case {
        id: case["id"].as_str().unwrap().to_owned(),
        roots: pems(&case["trusted_certs"], "CERTIFICATE"),
        intermediates: pems(&case["untrusted_intermediates"], "CERTIFICATE"),
        leaf: parse_pem("CERTIFICATE", case["peer_certificate"].as_str().unwrap()).unwrap().remove(0),
        crls: pems(&case["crls"], "X509 CRL"),
        host: case["expected_peer_name"]["value"].as_str().map(str::to_owned),
        eku: if case["validation_kind"] == "CLIENT" { Eku::ClientAuth } else { Eku::ServerAuth },
        now: when,
        accept: case["expected_result"] == "SUCCESS",
    }
}

/// All of them; `None` if the corpus is not there.
pub fn cases() -> Option<Vec<Case>> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/vectors/x509-limbo.json");
    let Ok(text) = std::fs::read_to_string(&path) else {
        println!("skipped: the x509-limbo corpus is not there; put x509-limbo.json into ../shared/vectors");
        return None;
    };
    let corpus: Value = serde_json::from_str(&text).unwrap();
    Some(corpus["testcases"].as_array().unwrap().iter().map(read).collect())
}
