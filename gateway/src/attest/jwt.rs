//! `jwt`: an issuer that the operator trusts gave the machine a token: a CI system to a job, a cloud to an instance, a cluster to a pod,
//! or any issuer of OpenID Connect.
//!
//! Evidence: the token, in compact serialization. Its audience has the digest of the key to be certified where the issuer lets whoever
//! asks choose one; then it is good for this key alone. Else it is spent in the commit, for the first key that it is shown for.
//! Claims: see [`ROW`]; `jwt_issuer` is the name of the issuer's section, and those of a preset begin with its prefix.
//! It establishes that the issuer issued the token for this gateway a short time ago, to whom its claims say. It does not establish that
//! whoever sends it is who it was issued to, if its audience does not have the key's digest: it is a text that can be copied. Nor does
//! it establish where the key is stored.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
    time::Duration,
};

use pki::{Assurance, KeyDigest, SshKey, UnixTime};
use serde::Deserialize;
use wire::evidence::{JWT, jwt_audience, jwt_is_of_key};

use self::{
    issuer::{JwtIssuer, JwtIssuerSettings, MAX_AGE_MOST, NoKeys, scalar},
    presets::Demand,
    reject::{long, rejections, unknown_issuer, unmet, used},
};
use super::{Attestor, Built, Case, Renewal, Row};
use crate::core::{
    change::Changes,
    evidence::{
        ClaimKind, Claims, Cleared, Context, DocumentSource, Found, Message, Need, Reject, Rejected, RestsOn, Section,
        Step, Vouched,
    },
    jwt::{BadJwt, ExpectedJwt, Jwt, KeySet, VerifiedJwt},
    keys,
    records::{Claim, LockKind, SpentJwt},
    refusal::Refusal,
};

mod issuer;
mod presets;
mod reject;
#[cfg(test)]
mod tests;

/// Row of [`super::ALL`].
pub static ROW: Row = Row {
    kind: JWT,
    prefix: "jwt",
    claims: &[
        ("issuer", ClaimKind::Text),
        ("subject", ClaimKind::Text),
        ("signer", ClaimKind::Text),
        ("bound", ClaimKind::Text),
        ("machine", ClaimKind::Text),
        ("azure_tenant_id", ClaimKind::Text),
        ("azure_object_id", ClaimKind::Text),
        ("azure_resource_id", ClaimKind::Text),
        ("azure_app_id", ClaimKind::Text),
        ("buildkite_organization_id", ClaimKind::Text),
        ("buildkite_pipeline_id", ClaimKind::Text),
        ("buildkite_build_branch", ClaimKind::Text),
        ("buildkite_build_tag", ClaimKind::Text),
        ("buildkite_step_key", ClaimKind::Text),
        ("buildkite_job_id", ClaimKind::Text),
        ("circleci_project_id", ClaimKind::Text),
        ("circleci_vcs_origin", ClaimKind::Text),
        ("circleci_vcs_ref", ClaimKind::Text),
        ("circleci_job_id", ClaimKind::Text),
        ("gcp_project_number", ClaimKind::Text),
        ("gcp_project_id", ClaimKind::Text),
        ("gcp_instance_id", ClaimKind::Text),
        ("gcp_zone", ClaimKind::Text),
        ("github_repository_id", ClaimKind::Text),
        ("github_repository_owner_id", ClaimKind::Text),
        ("github_event_name", ClaimKind::Text),
        ("github_ref", ClaimKind::Text),
        ("github_job_workflow_ref", ClaimKind::Text),
        ("github_runner_environment", ClaimKind::Text),
        ("github_ref_type", ClaimKind::Text),
        ("github_environment", ClaimKind::Text),
        ("gitlab_project_id", ClaimKind::Text),
        ("gitlab_namespace_id", ClaimKind::Text),
        ("gitlab_ref", ClaimKind::Text),
        ("gitlab_ref_protected", ClaimKind::Text),
        ("gitlab_ref_type", ClaimKind::Text),
        ("gitlab_environment", ClaimKind::Text),
        ("gitlab_ci_config_ref_uri", ClaimKind::Text),
        ("gitlab_pipeline_source", ClaimKind::Text),
        ("gitlab_job_id", ClaimKind::Text),
        ("kubernetes_namespace", ClaimKind::Text),
        ("kubernetes_serviceaccount_uid", ClaimKind::Text),
        ("kubernetes_pod_uid", ClaimKind::Text),
        ("kubernetes_node_uid", ClaimKind::Text),
        ("terraform_organization_id", ClaimKind::Text),
        ("terraform_workspace_id", ClaimKind::Text),
        ("terraform_run_phase", ClaimKind::Text),
        ("terraform_project_id", ClaimKind::Text),
        ("terraform_run_id", ClaimKind::Text),
    ],
    renewal: Renewal::Proves,
    asks: false,
    device: None,
    rejections,
    build,
};

/// `[attest.jwt]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct JwtSettings {
    enabled: bool,
    /// Each by its name.
    issuers: BTreeMap<String, JwtIssuerSettings>,
}

impl Default for JwtSettings {
    fn default() -> Self {
        Self { enabled: true, issuers: BTreeMap::new() }
    }
}

/// Without an issuer there is nobody to believe, and the evidence is not accepted.
fn build(section: Option<&Section>) -> Built {
    let Some(section) = section else { return Ok(None) };
    let JwtSettings { enabled, issuers } = section.read()?;
    let issuers = JwtIssuer::all(issuers, section)?;
    Ok((enabled && !issuers.is_empty()).then(|| Box::new(TrustedIssuers(issuers)) as Box<dyn Attestor>))
}

/// The issuers of the configuration.
struct TrustedIssuers(Vec<Arc<JwtIssuer>>);

impl Attestor for TrustedIssuers {
    fn open(&self, message: &Message<'_>, context: &Context<'_>) -> Result<Box<dyn Case>, Reject> {
        // token files end with a line end
        let jwt = Jwt::read(message.body.trim_ascii())?;
        let issuer = self.0.iter().find(|issuer| jwt.names(&issuer.issuer));
        let issuer = issuer.ok_or_else(|| unknown_issuer(jwt.iss().as_deref()))?;
        Ok(Box::new(PresentedJwt {
            audience: jwt_audience(&issuer.audience, context.domain.as_str(), &message.for_key.hex()),
            of_key: jwt_is_of_key(&issuer.audience),
            for_key: message.for_key,
            spent: keys::spent_jwt(&jwt.digest()),
            issuer: Arc::clone(issuer),
            jwt,
            judged: OnceLock::new(),
        }))
    }

    fn documents(&self) -> Vec<DocumentSource> {
        self.0.iter().map(|issuer| issuer.source.clone()).collect()
    }

    fn complaints(&self, _: &DocumentSource, text: &[u8], _: Option<&SshKey>, _: UnixTime) -> Vec<String> {
        match KeySet::parse(text) {
            Ok(keys) => keys.complaints().to_vec(),
            Err(error) => vec![error.to_string()],
        }
    }
}

/// A token that says that it is by a trusted issuer.
struct PresentedJwt {
    jwt: Jwt,
    issuer: Arc<JwtIssuer>,
    /// The audience that it must have.
    audience: String,
    /// Whether that has the digest of the key, so that it need not be spent.
    of_key: bool,
    for_key: KeyDigest,
    /// Key of the record that it was used.
    spent: String,
    /// Found once, although a decision is asked for several times. Only what the last look-ups lead to is kept.
    judged: OnceLock<Result<VerifiedJwt, Reject>>,
}

/// Index of the key set in [`Found`].
const KEYS: usize = 0;
/// Index of the record that the token was used, if it can be spent.
const SPENT: usize = 1;

impl Case for PresentedJwt {
    fn needs(&self, found: &Found) -> Result<Vec<Need>, Reject> {
        if found.is_empty() {
            let spent = (!self.of_key).then(|| Need::Record(self.spent.clone()));
            return Ok([Need::Document(self.issuer.source.clone())].into_iter().chain(spent).collect());
        }
        // An issuer signs with a new key as soon as it has published it.
        let rotated = found.len() == self.first_needs()
            && matches!(self.issuer.source, DocumentSource::Url(_))
            && self.issuer.keys(found.document(KEYS)).is_ok_and(|keys| self.is_by_none_of(&keys));
        Ok(rotated.then(|| Need::Newest(self.issuer.source.clone())).into_iter().collect())
    }

    fn rests_on(&self, found: &Found, context: &Context<'_>) -> Result<RestsOn, Reject> {
        // without the keys nothing is decided, see `step`
        let Ok(keys) = self.keys(found) else { return Ok(RestsOn::default()) };
        let verified = self.judged(&keys, context.now)?;
        let signer = vec![(LockKind::Key, hex::encode(verified.signer))];
        Ok(RestsOn { own: signer.clone(), targets: signer })
    }

    fn step(&self, found: &Found, context: &Context<'_>, _: &Cleared) -> Result<Step, Rejected> {
        let keys = self.keys(found).map_err(|why| self.unverifiable(why))?;
        let verified = self.judged(&keys, context.now)?;
        let mut spends = Changes::new();
        if !self.of_key {
            match found.record::<SpentJwt>(SPENT) {
                Some(seen) if seen.record.key != self.for_key => return Err(used().into()),
                // a repetition, such as after a lost reply
                Some(_) => {}
                None => {
                    let until = verified.ends.min(verified.issued.plus(MAX_AGE_MOST));
                    spends.create(self.spent.clone(), &SpentJwt { until: until.into(), key: self.for_key });
                }
            }
        }
        let values = self.claims(&verified)?;
        let assurance = Assurance::SOFTWARE;
        let claims = Claims { values, assurance, role: None, names: vec![], grants: None };
        Ok(Step::Done(Box::new(Vouched { spends, ..Vouched::claims(claims) })))
    }
}

/// How long a client waits until the keys of an issuer may be there again.
const KEYS_PATIENCE: Duration = Duration::from_secs(30);

/// Longest value of a claim that is kept, in bytes: the longest paths of workflows have half of it.
const CLAIM_MAX: usize = 512;

impl PresentedJwt {
    const fn first_needs(&self) -> usize {
        if self.of_key { 1 } else { 2 }
    }

    fn is_by_none_of(&self, keys: &KeySet) -> bool {
        matches!(self.jwt.candidates(keys, self.issuer.key_use()), Err(BadJwt::UnknownKey))
    }

    /// The keys to verify it with: those that are kept, or if none of them signed it, the newest.
    fn keys(&self, found: &Found) -> Result<Arc<KeySet>, NoKeys> {
        let kept = self.issuer.keys(found.document(KEYS))?;
        if found.len() > self.first_needs() {
            return self.issuer.keys(found.document(self.first_needs()));
        }
        Ok(kept)
    }

    fn unverifiable(&self, why: NoKeys) -> Refusal {
        let why = match why {
            NoKeys::Gone => "cannot be had",
            NoKeys::Old => "are too old, and newer ones cannot be had",
            NoKeys::Unreadable => "cannot be read",
        };
        let what = format!("the keys of the issuer `{}` {why}", self.issuer.name);
        Refusal::Unverifiable { what, retry_after: KEYS_PATIENCE }
    }

    /// What the token says, verified, with all that is required of it.
    fn judged(&self, keys: &KeySet, now: UnixTime) -> Result<VerifiedJwt, Reject> {
        self.judged.get_or_init(|| self.judge(keys, now)).clone()
    }

    fn judge(&self, keys: &KeySet, now: UnixTime) -> Result<VerifiedJwt, Reject> {
        let JwtIssuer { issuer, algorithms, max_age, .. } = &*self.issuer;
        let verified = self.jwt.verify(
            keys,
            &ExpectedJwt {
                issuer,
                audience: &self.audience,
                algorithms,
                key_use: self.issuer.key_use(),
                max_age: *max_age,
                // whom else it was issued by is no matter of a machine's
                party: None,
                now,
            },
        )?;
        match self.issuer.missing(self.jwt.claims()) {
            Some((claim, found)) => Err(unmet(claim, found.as_deref())),
            None => Ok(verified),
        }
    }

    /// The claims for policies and approvers.
    fn claims(&self, verified: &VerifiedJwt) -> Result<BTreeMap<String, Claim>, Reject> {
        let preset = self.issuer.preset;
        let mut told: BTreeMap<&str, String> = BTreeMap::new();
        for claim in preset.claims {
            let found = claim.at.find(self.jwt.claims()).and_then(scalar).map(|text| claim.at.normal(&text));
            match (found, claim.demand) {
                (Some(text), _) => drop(told.insert(claim.name, text)),
                (None, Demand::Always) => return Err(unmet(claim.name, None)),
                (None, Demand::IfThere) => {}
            }
        }
        let machine: Option<Vec<&str>> =
            preset.machine.iter().map(|name| told.get(name).map(String::as_str)).collect::<Option<_>>();
        let machine = machine.filter(|ids| !ids.is_empty()).map(|ids| format!("{}:{}", preset.prefix, ids.join("/")));
        let bound = if self.of_key { "key" } else { "use" };
        let own = [
            ("issuer".to_owned(), self.issuer.name.clone()),
            ("subject".to_owned(), verified.subject.clone()),
            ("signer".to_owned(), hex::encode(verified.signer)),
            ("bound".to_owned(), bound.to_owned()),
        ];
        let told = told.into_iter().map(|(name, text)| (preset.full(name), text));
        let all = own.into_iter().chain(machine.map(|text| ("machine".to_owned(), text))).chain(told);
        all.map(|(name, text)| match text.len() {
            0..=CLAIM_MAX => Ok((name, Claim::Text(text))),
            _ => Err(long(&name, CLAIM_MAX)),
        })
        .collect()
    }
}
