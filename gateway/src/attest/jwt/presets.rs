//! What is known of issuers: a row of data for each, with the claims that say whose a token is. Ids are claims, names are not: names
//! can be taken by others. Nothing is read out of `sub` but the trust domain of a SPIFFE ID.

use jsonwebtoken::Algorithm;
use serde_json::{Map, Value};
use wire::evidence::{JWT_AUDIENCE, JWT_AUDIENCE_OF_KEY};

use crate::core::jwt::KeyUse;

/// A kind of issuer.
#[derive(Debug)]
pub struct Preset {
    /// Its name in the configuration.
    pub name: &'static str,
    /// Prefix of its claims, without the `_` that follows.
    pub prefix: &'static str,
    /// The issuer, if there is one for all.
    pub issuer: Option<&'static str>,
    /// Where its keys are, if that is known; `{issuer}` stands for the issuer.
    pub keys: Option<&'static str>,
    /// The algorithms that it signs with; none if that differs.
    pub algorithms: &'static [Algorithm],
    /// What its keys are for.
    pub key_use: KeyUse,
    /// The audience, if whoever asks can choose one; see [`wire::evidence::jwt_audience`].
    pub audience: Option<&'static str>,
    /// Oldest token, in seconds.
    pub max_age: u64,
    /// The claims for policies.
    pub claims: &'static [PresetClaim],
    /// Claims that must have this value, whatever the section says.
    pub fixed: &'static [(&'static str, &'static str)],
    /// It issues tokens to strangers too: a section must pin one of these claims.
    pub pinned: &'static [&'static str],
    /// The claims that together say which machine it is, if they do.
    pub machine: &'static [&'static str],
}

/// A claim of a preset.
#[derive(Debug)]
pub struct PresetClaim {
    /// Its name for policies and in `require`, without prefix.
    pub name: &'static str,
    /// Where it is in the token.
    pub at: At,
    /// Whether a token without it is refused.
    pub demand: Demand,
}

/// Where a claim is.
#[derive(Debug)]
pub enum At {
    /// A member of the token, of this name.
    Member(&'static str),
    /// A member of objects in it: the names, from outside in.
    Path(&'static [&'static str]),
    /// A member, compared and told in lower case, since its issuer does not distinguish.
    Caseless(&'static str),
}

/// Whether a claim must be there.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Demand {
    /// Without it the token is refused.
    Always,
    /// It is told if it is there.
    IfThere,
}

impl At {
    /// The claim's value; `null` is none.
    pub fn find<'t>(&self, token: &'t Map<String, Value>) -> Option<&'t Value> {
        let found = match self {
            Self::Member(name) | Self::Caseless(name) => token.get(*name),
            Self::Path([first, rest @ ..]) => {
                rest.iter().try_fold(token.get(*first)?, |value, name| value.as_object()?.get(*name))
            }
            Self::Path([]) => None,
        };
        found.filter(|value| !value.is_null())
    }

    /// A value of the claim as it is compared.
    pub fn normal(&self, text: &str) -> String {
        match self {
            Self::Caseless(_) => text.to_lowercase(),
            Self::Member(_) | Self::Path(_) => text.to_owned(),
        }
    }
}

const fn always(name: &'static str, at: At) -> PresetClaim {
    PresetClaim { name, at, demand: Demand::Always }
}

const fn if_there(name: &'static str, at: At) -> PresetClaim {
    PresetClaim { name, at, demand: Demand::IfThere }
}

/// A member that must be there, of the same name.
const fn member(name: &'static str) -> PresetClaim {
    always(name, At::Member(name))
}

/// A member that may be there, of the same name.
const fn maybe(name: &'static str) -> PresetClaim {
    if_there(name, At::Member(name))
}

/// A quarter of an hour: jobs ask for a token when they need it.
const SHORT: u64 = 900;

/// For tokens that their issuer or its agent hands out again while they are valid, an hour by default, and a little more.
const HOUR: u64 = 3700;

/// For tokens that are handed out again for up to a day.
const DAY: u64 = 24 * 3600 + 300;

const RS256: &[Algorithm] = &[Algorithm::RS256];

/// What is the same for most.
const PLAIN: Preset = Preset {
    name: "oidc",
    prefix: "oidc",
    issuer: None,
    keys: None,
    algorithms: &[],
    key_use: KeyUse::Signature,
    audience: None,
    max_age: SHORT,
    claims: &[],
    fixed: &[],
    pinned: &[],
    machine: &[],
};

/// All presets, alphabetical.
pub static PRESETS: &[Preset] = &[
    Preset {
        name: "azure",
        prefix: "azure",
        algorithms: RS256,
        max_age: DAY,
        claims: &[
            always("tenant_id", At::Member("tid")),
            always("object_id", At::Member("oid")),
            always("resource_id", At::Caseless("xms_mirid")),
            if_there("app_id", At::Member("appid")),
        ],
        machine: &["resource_id"],
        ..PLAIN
    },
    Preset {
        name: "buildkite",
        prefix: "buildkite",
        issuer: Some("https://agent.buildkite.com"),
        keys: Some("{issuer}/.well-known/jwks"),
        algorithms: RS256,
        audience: Some(JWT_AUDIENCE_OF_KEY),
        claims: &[
            member("organization_id"),
            member("pipeline_id"),
            member("build_branch"),
            maybe("build_tag"),
            maybe("step_key"),
            maybe("job_id"),
        ],
        pinned: &["organization_id", "pipeline_id"],
        ..PLAIN
    },
    Preset {
        name: "circleci",
        prefix: "circleci",
        keys: Some("{issuer}/.well-known/jwks-pub.json"),
        algorithms: RS256,
        audience: Some(JWT_AUDIENCE_OF_KEY),
        claims: &[
            always("project_id", At::Member("oidc.circleci.com/project-id")),
            if_there("vcs_origin", At::Member("oidc.circleci.com/vcs-origin")),
            if_there("vcs_ref", At::Member("oidc.circleci.com/vcs-ref")),
            if_there("job_id", At::Member("oidc.circleci.com/job-id")),
        ],
        ..PLAIN
    },
    Preset {
        name: "gcp",
        prefix: "gcp",
        issuer: Some("https://accounts.google.com"),
        keys: Some("https://www.googleapis.com/oauth2/v3/certs"),
        algorithms: RS256,
        audience: Some(JWT_AUDIENCE_OF_KEY),
        max_age: HOUR,
        claims: &[
            always("project_number", At::Path(&["google", "compute_engine", "project_number"])),
            always("project_id", At::Path(&["google", "compute_engine", "project_id"])),
            always("instance_id", At::Path(&["google", "compute_engine", "instance_id"])),
            always("zone", At::Path(&["google", "compute_engine", "zone"])),
        ],
        pinned: &["project_number", "project_id"],
        machine: &["instance_id"],
        ..PLAIN
    },
    Preset {
        name: "github-actions",
        prefix: "github",
        issuer: Some("https://token.actions.githubusercontent.com"),
        keys: Some("{issuer}/.well-known/jwks"),
        algorithms: RS256,
        audience: Some(JWT_AUDIENCE_OF_KEY),
        claims: &[
            member("repository_id"),
            member("repository_owner_id"),
            member("event_name"),
            member("ref"),
            member("job_workflow_ref"),
            member("runner_environment"),
            maybe("ref_type"),
            maybe("environment"),
        ],
        pinned: &["repository_id", "repository_owner_id"],
        ..PLAIN
    },
    Preset {
        name: "gitlab",
        prefix: "gitlab",
        issuer: Some("https://gitlab.com"),
        keys: Some("{issuer}/oauth/discovery/keys"),
        algorithms: RS256,
        audience: Some(JWT_AUDIENCE),
        max_age: HOUR,
        claims: &[
            member("project_id"),
            member("namespace_id"),
            member("ref"),
            member("ref_protected"),
            maybe("ref_type"),
            maybe("environment"),
            maybe("ci_config_ref_uri"),
            maybe("pipeline_source"),
            maybe("job_id"),
        ],
        pinned: &["project_id", "namespace_id"],
        ..PLAIN
    },
    Preset {
        name: "kubernetes",
        prefix: "kubernetes",
        audience: Some(JWT_AUDIENCE),
        max_age: HOUR,
        claims: &[
            always("namespace", At::Path(&["kubernetes.io", "namespace"])),
            always("serviceaccount_uid", At::Path(&["kubernetes.io", "serviceaccount", "uid"])),
            always("pod_uid", At::Path(&["kubernetes.io", "pod", "uid"])),
            if_there("node_uid", At::Path(&["kubernetes.io", "node", "uid"])),
        ],
        machine: &["pod_uid"],
        ..PLAIN
    },
    PLAIN,
    Preset {
        name: "spiffe",
        prefix: "spiffe",
        key_use: KeyUse::JwtSvid,
        audience: Some(JWT_AUDIENCE_OF_KEY),
        max_age: HOUR,
        ..PLAIN
    },
    Preset {
        name: "terraform-cloud",
        prefix: "terraform",
        issuer: Some("https://app.terraform.io"),
        keys: Some("{issuer}/.well-known/jwks"),
        algorithms: RS256,
        audience: Some(JWT_AUDIENCE),
        max_age: HOUR,
        claims: &[
            always("organization_id", At::Member("terraform_organization_id")),
            always("workspace_id", At::Member("terraform_workspace_id")),
            always("run_phase", At::Member("terraform_run_phase")),
            if_there("project_id", At::Member("terraform_project_id")),
            if_there("run_id", At::Member("terraform_run_id")),
        ],
        // whoever may open a pull request may start a plan
        fixed: &[("run_phase", "apply")],
        pinned: &["organization_id", "workspace_id"],
        ..PLAIN
    },
];

impl Preset {
    /// The preset of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        PRESETS.iter().find(|preset| preset.name == name)
    }

    /// Its claim of this name.
    pub fn claim(&self, name: &str) -> Option<&'static PresetClaim> {
        self.claims.iter().find(|claim| claim.name == name)
    }

    /// The whole name of a claim, without the prefix of the attestor.
    pub fn full(&self, claim: &str) -> String {
        format!("{}_{claim}", self.prefix)
    }
}
