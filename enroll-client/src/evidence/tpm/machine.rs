//! What is asked of a TPM: its certificates, its EK and an AK, and what these do.

use std::collections::BTreeSet;

use pki::KeyDigest;
use tpm::command::{self, Authorization, Property, ResponseError};
use tpm::template::{AkTemplate, EkAuthorization, Template};
use tpm::{Bank, HashAlgorithm, PcrSet, PcrValues, Public, PublicKey, Selection};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::device::{Device, Hierarchy, TpmError};
use crate::core::attestation::KnownEk;

/// The indices of NV memory that are for EKs (TCG EK Credential Profile for TPM 2.0, 2.2.1.4).
const EK_INDICES: std::ops::RangeInclusive<u32> = 0x01c0_0000..=0x01c0_7fff;
/// Those of them with the CAs that made the EK's certificate on the chip (2.2.1.5).
const CA_INDICES: std::ops::RangeInclusive<u32> = 0x01c0_0100..=0x01c0_01ff;
/// Handles of keys of the endorsement hierarchy that stay in the TPM (TCG Registry of Reserved Handles).
const PERSISTENT: std::ops::RangeInclusive<u32> = 0x8101_0000..=0x8101_ffff;

/// Most indices read. TPMs with every standard certificate and a chain have about a dozen.
const INDICES_MAX: usize = 32;
/// Longest content of an index that is read, in bytes. Certificates of EKs have about 1500.
const INDEX_MAX: u16 = 8 * 1024;
/// Most certificates.
const CERTIFICATES_MAX: usize = 16;
/// Most bytes of certificates that are sent: in base64 they must fit into [`wire::limits::ENROLL_BODY_MAX`] with all the rest.
const CERTIFICATES_BYTES_MAX: usize = 32 * 1024;
/// How often PCRs are quoted again because they changed before they were read.
const QUOTE_TRIES: usize = 4;

/// Which EK is used, if the TPM has the certificates of several: the strongest first.
const PREFERENCE: [Template; 8] =
    [Template::H3, Template::L2, Template::H2, Template::H6, Template::L1, Template::H1, Template::H4, Template::H7];

/// A certificate, and where it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NvCertificate {
    /// The index of NV memory.
    pub index: u32,
    /// DER.
    pub der: Vec<u8>,
}

impl NvCertificate {
    /// Whether it is that of a CA on the chip.
    #[must_use]
    pub fn is_ca(&self) -> bool {
        CA_INDICES.contains(&self.index)
    }

    /// Its key, if it is one that an EK may have.
    fn key(&self) -> Option<PublicKey> {
        let (_, certificate) = X509Certificate::from_der(&self.der).ok()?;
        PublicKey::from_spki_der(certificate.public_key().raw).ok()
    }
}

/// Handles of the range, in ascending order.
fn handles(device: &mut Device, range: &std::ops::RangeInclusive<u32>) -> Result<Vec<u32>, TpmError> {
    let (mut found, mut next) = (Vec::new(), *range.start());
    while range.contains(&next) && found.len() < INDICES_MAX {
        let given = device.run(&command::get_handles(next)?)?;
        found.extend(given.handles.iter().copied().filter(|handle| range.contains(handle)));
        match given.handles.last() {
            // Ascending, so that a TPM which repeats itself is not asked for ever.
            Some(last) if given.more && *last >= next => next = last.saturating_add(1),
            Some(_) | None => break,
        }
    }
    found.truncate(INDICES_MAX);
    Ok(found)
}

/// The content of an index, if it can be read without a password.
fn read_index(device: &mut Device, index: u32) -> Result<Option<Vec<u8>>, TpmError> {
    let public = match device.run(&command::nv_read_public(index)?) {
        Ok(public) => public,
        Err(TpmError::Response(_)) => return Ok(None),
        Err(other) => return Err(other),
    };
    if !public.is_readable() || public.size > INDEX_MAX {
        return Ok(None);
    }
    let mut content: Vec<u8> = Vec::new();
    while let Some(left) = usize::from(public.size).checked_sub(content.len()).filter(|left| *left > 0) {
        let offset = u16::try_from(content.len()).unwrap_or(u16::MAX);
        let size = u16::try_from(left).unwrap_or(u16::MAX).min(command::NV_CHUNK);
        match device.run(&command::nv_read(index, offset, size)?) {
            Ok(part) if !part.is_empty() && part.len() <= left => content.extend(part),
            Ok(_) | Err(TpmError::Response(_)) => return Ok(None),
            Err(other) => return Err(other),
        }
    }
    Ok(Some(content))
}

/// The certificates in NV memory. CAs on the chip may stand one after the other, across indices.
pub fn certificates(device: &mut Device) -> Result<Vec<NvCertificate>, TpmError> {
    let mut found: Vec<NvCertificate> = Vec::new();
    let (mut chain, mut chain_index) = (Vec::new(), None);
    for index in handles(device, &EK_INDICES)? {
        let Some(content) = read_index(device, index)? else { continue };
        if CA_INDICES.contains(&index) {
            chain_index = chain_index.or(Some(index));
            chain.extend(content);
        } else if let Some((der, _)) = first_certificate(&content) {
            found.push(NvCertificate { index, der: der.to_vec() });
        }
    }
    let mut rest = chain.as_slice();
    while let (Some(index), Some((der, after))) = (chain_index, first_certificate(rest)) {
        found.push(NvCertificate { index, der: der.to_vec() });
        rest = after;
    }
    // Those of the EKs are the first.
    Ok(bounded(found))
}

/// With the certificates that the maker's server gave: where the TPM has none of its own, before those of CAs.
pub fn with_fetched(own: Vec<NvCertificate>, fetched: &[NvCertificate]) -> Vec<NvCertificate> {
    let missing = |certificate: &&NvCertificate| own.iter().all(|known| known.index != certificate.index);
    bounded(fetched.iter().filter(missing).cloned().chain(own.iter().cloned()).collect())
}

fn bounded(mut found: Vec<NvCertificate>) -> Vec<NvCertificate> {
    found.truncate(CERTIFICATES_MAX);
    let mut left = CERTIFICATES_BYTES_MAX;
    found.retain(|certificate| match left.checked_sub(certificate.der.len()) {
        Some(after) => {
            left = after;
            true
        }
        None => false,
    });
    found
}

/// The certificate at the beginning, and what follows it. Some makers write a header before it (tag 0x1001, a type, a length; TCG PC
/// Client Implementation for TPM 1.2, 7.3.2), and some fill the rest of the index with 0xff.
fn first_certificate(content: &[u8]) -> Option<(&[u8], &[u8])> {
    let content = match content {
        [0x10, 0x01, 0x00, _, _, certificate @ ..] => certificate,
        certificate => certificate,
    };
    // A SEQUENCE whose length has two bytes: a certificate is never shorter than 256.
    let [0x30, 0x82, high, low, ..] = content else { return None };
    let (der, rest) = content.split_at_checked(4 + usize::from(u16::from_be_bytes([*high, *low])))?;
    X509Certificate::from_der(der).is_ok().then_some((der, rest))
}

/// An EK that is ready for use.
pub struct EndorsementKey {
    handle: u32,
    template: Template,
    /// Its TPMT_PUBLIC.
    pub public: Public,
}

impl EndorsementKey {
    /// SHA-256 of its public key.
    pub fn digest(&self) -> KeyDigest {
        KeyDigest::from_spki_der(&self.public.key().spki_der())
    }

    /// What to send with it: all of them, or none if none is its own, since those of other keys say nothing of it.
    pub fn certificates_among(&self, certificates: Vec<NvCertificate>) -> Vec<NvCertificate> {
        let own = certificates.iter().any(|certificate| certificate.key().as_ref() == Some(self.public.key()));
        if own { certificates } else { Vec::new() }
    }

    /// By what it is found again.
    pub fn known(&self) -> KnownEk {
        KnownEk { template: self.template.name().to_owned(), key: self.digest().hex() }
    }
}

/// The EK that was shown before. If none was: that of the best certificate; without one, the EK that the TPM makes from a standard
/// template.
pub fn endorsement_key(
    device: &mut Device,
    certificates: &[NvCertificate],
    known: Option<&KnownEk>,
) -> Result<EndorsementKey, TpmError> {
    let persistent = persistent(device)?;
    match known {
        Some(known) => known_key(device, &persistent, known),
        None => best_key(device, &persistent, certificates),
    }
}

/// The EK that was shown before, and no other: to the gateway it would be another machine's.
fn known_key(device: &mut Device, persistent: &[(u32, Public)], known: &KnownEk) -> Result<EndorsementKey, TpmError> {
    let gone = || TpmError::EkGone { key: known.key.clone() };
    let template = Template::named(&known.template).ok_or_else(gone)?;
    let of_template = persistent.iter().filter(|(_, public)| *public.area() == template.area());
    let mut found =
        of_template.map(|(handle, public)| EndorsementKey { handle: *handle, template, public: public.clone() });
    if let Some(ek) = found.find(|ek| ek.known() == *known) {
        return Ok(ek);
    }
    match made(device, template) {
        Ok(ek) if ek.known() == *known => Ok(ek),
        Ok(other) => {
            device.flush(other.handle);
            Err(gone())
        }
        Err(TpmError::Response(ResponseError::Refused { code, .. })) if code.is_unsupported() => Err(gone()),
        Err(other) => Err(other),
    }
}

/// The keys of the endorsement hierarchy that stay in the TPM, with their handles.
fn persistent(device: &mut Device) -> Result<Vec<(u32, Public)>, TpmError> {
    let mut persistent = Vec::new();
    for handle in handles(device, &PERSISTENT)? {
        match device.run(&command::read_public(handle)?) {
            // What is there may be another key than the certificate's.
            Ok(bytes) => persistent.extend(Public::parse(&bytes).ok().map(|public| (handle, public))),
            Err(TpmError::Response(_)) => {}
            Err(other) => return Err(other),
        }
    }
    Ok(persistent)
}

fn best_key(
    device: &mut Device,
    persistent: &[(u32, Public)],
    certificates: &[NvCertificate],
) -> Result<EndorsementKey, TpmError> {
    let indices: BTreeSet<u32> = certificates.iter().map(|certificate| certificate.index).collect();
    for template in PREFERENCE.into_iter().filter(|template| indices.contains(&template.certificate_index())) {
        let at = |certificate: &&NvCertificate| certificate.index == template.certificate_index();
        let Some(key) = certificates.iter().find(at).and_then(NvCertificate::key) else { continue };
        let is_it = |public: &Public| *public.key() == key && *public.area() == template.area();
        if let Some((handle, public)) = persistent.iter().find(|(_, public)| is_it(public)) {
            return Ok(EndorsementKey { handle: *handle, template, public: public.clone() });
        }
        match made(device, template) {
            Ok(ek) if is_it(&ek.public) => return Ok(ek),
            Ok(other) => device.flush(other.handle),
            Err(TpmError::Response(_) | TpmError::Codec(_)) => {}
            Err(other) => return Err(other),
        }
    }
    match made(device, Template::L2) {
        Err(TpmError::Response(_)) => made(device, Template::L1),
        outcome => outcome,
    }
}

fn made(device: &mut Device, template: Template) -> Result<EndorsementKey, TpmError> {
    let nonce = match template.nonce_index() {
        Some(index) => read_index(device, index)?.unwrap_or_default(),
        None => Vec::new(),
    };
    let loaded = device.primary(Hierarchy::Endorsement, &template.encode(&nonce)?)?;
    Ok(EndorsementKey { handle: loaded.handle, template, public: Public::parse(&loaded.public)? })
}

/// An EK by its template and public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EkName {
    /// What makes it.
    pub template: Template,
    /// Its public key.
    pub key: PublicKey,
}

/// The EKs of the low range, whose certificates makers keep on servers. One that the TPM does not make is left out.
pub fn endorsement_keys(device: &mut Device) -> Result<Vec<EkName>, TpmError> {
    let persistent = persistent(device)?;
    let mut found = Vec::new();
    for template in [Template::L2, Template::L1] {
        let of_template = persistent.iter().find(|(_, public)| *public.area() == template.area());
        let key = match of_template {
            Some((_, public)) => public.key().clone(),
            None => match made(device, template) {
                Ok(ek) => {
                    device.flush(ek.handle);
                    ek.public.key().clone()
                }
                Err(TpmError::Response(ResponseError::Refused { code, .. })) if code.is_unsupported() => continue,
                Err(other) => return Err(other),
            },
        };
        found.push(EkName { template, key });
    }
    Ok(found)
}

/// An AK, and its handle.
pub fn attestation_key(device: &mut Device) -> Result<(u32, tpm::Ak), TpmError> {
    let mut first = None;
    for template in AkTemplate::ALL {
        match device.primary(Hierarchy::Endorsement, &template.encode()?) {
            Ok(loaded) => {
                let ak = tpm::Ak::check(Public::parse(&loaded.public)?);
                return Ok((
                    loaded.handle,
                    ak.map_err(|_| TpmError::Unusable("the TPM made another key than it was told to"))?,
                ));
            }
            Err(TpmError::Response(error)) => first = first.or(Some(error)),
            Err(other) => return Err(other),
        }
    }
    Err(first.map_or(TpmError::Unusable("the TPM makes no AK"), TpmError::Response))
}

/// Opens a credential. The EK is then no longer in the TPM's memory, unless it stays there.
pub fn activate(
    device: &mut Device,
    ak: u32,
    ek: &EndorsementKey,
    id_object: &[u8],
    encrypted_secret: &[u8],
) -> Result<Vec<u8>, TpmError> {
    let authorization = match ek.template.authorization() {
        EkAuthorization::EmptyPassword => Authorization::EmptyPassword,
        EkAuthorization::PolicySecret => {
            let session = device.policy_session(ek.public.area().name_algorithm)?;
            device.run(&command::policy_secret(command::ENDORSEMENT, session)?)?;
            Authorization::Policy(session)
        }
    };
    let secret =
        device.run(&command::activate_credential(ak, (ek.handle, authorization), id_object, encrypted_secret)?)?;
    if let Authorization::Policy(session) = authorization {
        device.flush(session);
    }
    device.flush(ek.handle);
    Ok(secret)
}

/// A quote with the values that it is of.
pub struct QuoteWithValues {
    /// What the AK signed.
    pub signed: command::Signed,
    /// The bank.
    pub bank: HashAlgorithm,
    /// The values.
    pub values: PcrValues,
}

/// Quotes these PCRs of the first of these banks that has them.
pub fn quote(
    device: &mut Device,
    (handle, ak): (u32, &tpm::Ak),
    pcrs: PcrSet,
    wanted: &[HashAlgorithm],
    extra_data: &[u8],
) -> Result<QuoteWithValues, TpmError> {
    let banks = device.run(&command::get_pcr_banks()?)?;
    let has = |bank: &HashAlgorithm| {
        banks.iter().any(|on| on.bank == Bank::Believed(*bank) && pcrs.iter().all(|pcr| on.pcrs.contains(pcr)))
    };
    let bank = wanted.iter().copied().find(has);
    let bank =
        bank.ok_or(TpmError::Unusable("the TPM has none of the banks that the gateway accepts with these PCRs"))?;
    for _ in 0..QUOTE_TRIES {
        let selection = Selection { bank: Bank::Believed(bank), pcrs };
        let signed = device.run(&command::quote(handle, extra_data, selection)?)?;
        let values = pcr_values(device, bank, pcrs)?;
        let said = tpm::verify(ak, &signed.attest, &signed.signature)
            .map_err(|_| TpmError::Unusable("the TPM's quote does not verify"))?;
        if let tpm::Attested::Quote(quote) = said.attested
            && quote.check(pcrs, bank, &values).is_ok()
        {
            return Ok(QuoteWithValues { signed, bank, values });
        }
    }
    Err(TpmError::Unusable("the PCRs change faster than they can be read"))
}

fn pcr_values(device: &mut Device, bank: HashAlgorithm, pcrs: PcrSet) -> Result<PcrValues, TpmError> {
    let mut values = PcrValues::new();
    loop {
        let missing = PcrSet::of(pcrs.iter().filter(|pcr| !values.contains_key(pcr))).unwrap_or_default();
        if missing.is_empty() {
            return Ok(values);
        }
        let known = values.len();
        let given = device.run(&command::pcr_read(Selection { bank: Bank::Believed(bank), pcrs: missing })?)?;
        values.extend(given);
        if values.len() == known {
            return Err(TpmError::Unusable("the TPM does not give the values of its PCRs"));
        }
    }
}

/// What a TPM says of itself.
pub struct About {
    /// Its maker, four letters at most.
    pub maker: String,
    /// What the maker calls it.
    pub model: String,
    /// Its firmware, as makers write it.
    pub firmware: String,
    /// The banks that are on.
    pub banks: Vec<Bank>,
    /// The certificates in it.
    pub certificates: Vec<NvCertificate>,
}

/// Looks at a TPM.
pub fn about(device: &mut Device) -> Result<About, TpmError> {
    let properties = device.run(&command::get_properties(Property::MANUFACTURER, 8)?)?;
    let value = |tag| properties.iter().find(|property| property.tag == tag).map_or(0, |property| property.value);
    let letters = |tag| {
        let letter = |byte: u8| Some(char::from(byte)).filter(|letter| letter.is_ascii_graphic() || *letter == ' ');
        value(tag).to_be_bytes().into_iter().filter_map(letter).collect::<String>()
    };
    let model: String = (0..4).map(|part| letters(Property::VENDOR_STRING + part)).collect();
    let halves = |value: u32| format!("{}.{}", value >> 16, value & 0xffff);
    let (upper, lower) = (value(Property::FIRMWARE_VERSION_1), value(Property::FIRMWARE_VERSION_2));
    let banks = device.run(&command::get_pcr_banks()?)?;
    Ok(About {
        maker: letters(Property::MANUFACTURER).trim().to_owned(),
        model: model.split_whitespace().collect::<Vec<_>>().join(" "),
        firmware: format!("{}.{}", halves(upper), halves(lower)),
        banks: banks.into_iter().filter(|bank| !bank.pcrs.is_empty()).map(|bank| bank.bank).collect(),
        certificates: certificates(device)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_fetched_stands_where_the_tpm_has_none() {
        let certificate = |index: u32, byte: u8| NvCertificate { index, der: vec![byte; 8] };
        let own = vec![certificate(0x01c0_0002, 1), certificate(0x01c0_0100, 2)];
        let fetched = [certificate(0x01c0_0002, 3), certificate(0x01c0_000a, 4)];
        let all = with_fetched(own, &fetched);
        let shown: Vec<(u32, u8)> = all.iter().map(|certificate| (certificate.index, certificate.der[0])).collect();
        assert_eq!(shown, [(0x01c0_000a, 4), (0x01c0_0002, 1), (0x01c0_0100, 2)]);
    }

    #[test]
    fn a_certificate_is_cut_out_of_what_makers_write_around_it() {
        let names = vec!["a-long-name.".repeat(8) + "example"];
        let der = rcgen::generate_simple_self_signed(names).unwrap().cert.der().to_vec();
        assert_eq!(&der[..2], &[0x30, 0x82], "as long as those of EKs");
        let header = [&[0x10, 0x01, 0x00, 0x03, 0xff][..], &der].concat();
        let padded = [&der[..], &[0xff; 431]].concat();
        for content in [&der, &header, &padded] {
            assert_eq!(first_certificate(content).unwrap().0, der);
        }
        let two = [&der[..], &der].concat();
        assert_eq!(first_certificate(&two).unwrap().1, der);
        for content in [&[][..], &[0xff; 400], &der[..der.len() - 1], &[0x30, 0x82, 0xff, 0xff, 1]] {
            assert_eq!(first_certificate(content), None);
        }
    }
}
