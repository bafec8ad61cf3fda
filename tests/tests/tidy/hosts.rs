//! The hosts of others that our files may name.

/// Hosts outside the reserved domains that the project refers to: its licence's, its policy language's, where its
/// repository lies, and where the convention about colours stands.
pub const HOSTS: &[&str] = &[
    "www.apache.org",
    "www.cedarpolicy.com",
    "github.com",
    "no-color.org",
    // Issuers of tokens, and where their keys are.
    "accounts.google.com",
    "agent.buildkite.com",
    "app.terraform.io",
    "gitlab.com",
    "kubernetes.default.svc.cluster.local",
    "metadata.google.internal",
    "token.actions.githubusercontent.com",
    "www.googleapis.com",
    // A resolver that answers in JSON.
    "dns.google",
    // Makers of TPMs that keep the certificates on a server.
    "ekop.intel.com",
    "ftpm.amd.com",
    // Where makers of TPMs publish their CAs.
    "pki.infineon.com",
    "pki.nsing.com.sg",
    "secure.globalsign.com",
    "sw-center.st.com",
    "tsci.intel.com",
    "www.microsoft.com",
    "www.nuvoton.com",
];
