//! `jwt`: a token that this machine's issuer gives it: its CI system, its cloud, its cluster. Body: the token.
//!
//! [`VARIABLE`] says where it is from. Without it two sources are looked for: a job of GitHub Actions that may ask for tokens, and a
//! projected token of Kubernetes at [`PROJECTED`]. The pod's own service account token is for the cluster's API server and is never
//! sent anywhere. A token is read or asked for anew for each request, and is never written or logged.

use std::path::{Path, PathBuf};

use wire::evidence::{JWT, JWT_AUDIENCE_OF_KEY, jwt_audience};

use super::program::{ANSWER_MAX, Leads, Method, curl, in_url, run, shell};
use super::{Binding, EvidenceError, Known, Prover, Proving};

/// Where the token is from: a file, `command:LINE`, `github-actions`, `gcp`, or `none`.
const VARIABLE: &str = "LYCHGATE_JWT";

/// The audience of a token that is asked for, if not [`JWT_AUDIENCE_OF_KEY`]; `{domain}` and `{key}` are filled in.
const AUDIENCE: &str = "LYCHGATE_JWT_AUDIENCE";

/// Where a pod has the token that was projected for this purpose.
const PROJECTED: &str = "/var/run/secrets/lychgate/token";

/// Where a job of GitHub Actions asks for a token, and with which secret.
const GITHUB_URL: &str = "ACTIONS_ID_TOKEN_REQUEST_URL";
const GITHUB_SECRET: &str = "ACTIONS_ID_TOKEN_REQUEST_TOKEN";

/// Where an instance of Google Cloud asks for a token.
const GCP_URL: &str = "http://metadata.google.internal/computeMetadata/v1/instance/service-accounts/default/identity";

/// What a machine without it is told.
pub const LACKS: &str = "no issuer of tokens is known here; `LYCHGATE_JWT` names one";

/// The prover, if there is a token to be had.
pub fn probe(_: Known<'_>) -> Option<Box<dyn Prover>> {
    let source = TokenSource::find(|name| std::env::var(name).ok(), Path::new(PROJECTED))?;
    let audience = std::env::var(AUDIENCE).ok().filter(|audience| !audience.is_empty());
    Some(Box::new(IssuedToken { source, audience: audience.unwrap_or_else(|| JWT_AUDIENCE_OF_KEY.to_owned()) }))
}

/// Where a token is from.
#[derive(Clone, PartialEq, Eq)]
enum TokenSource {
    /// A file with the token.
    File(PathBuf),
    /// A line for the shell, which prints the token. The audience is in [`AUDIENCE`].
    Command(String),
    /// The job of GitHub Actions that this is.
    GitHub { url: String, secret: String },
    /// The instance of Google Cloud that this is.
    Gcp,
    /// What was asked for cannot be.
    Unusable(&'static str),
}

impl TokenSource {
    fn find(variable: impl Fn(&str) -> Option<String>, projected: &Path) -> Option<Self> {
        let variable = |name: &str| variable(name).filter(|text| !text.is_empty());
        let github = || Some(Self::GitHub { url: variable(GITHUB_URL)?, secret: variable(GITHUB_SECRET)? });
        let Some(named) = variable(VARIABLE) else {
            return github().or_else(|| projected.exists().then(|| Self::File(projected.to_owned())));
        };
        match named.as_str() {
            "none" => None,
            "gcp" => Some(Self::Gcp),
            "github-actions" => {
                Some(github().unwrap_or(Self::Unusable(
                    "this is no job of GitHub Actions with the permission `id-token: write`",
                )))
            }
            named => Some(match named.strip_prefix("command:") {
                Some(line) => Self::Command(line.to_owned()),
                None => Self::File(named.into()),
            }),
        }
    }

    /// A token for this audience.
    async fn token(&self, audience: &str) -> Result<String, String> {
        let token = match self {
            Self::Unusable(why) => return Err((*why).to_owned()),
            Self::File(path) => file(path)?,
            Self::Command(line) => {
                let mut command = shell(line);
                command.env(AUDIENCE, audience);
                text(run(command, b"", "the command in LYCHGATE_JWT").await?)
            }
            Self::GitHub { url, secret } => {
                let parameter = if url.contains('?') { '&' } else { '?' };
                let url = format!("{url}{parameter}audience={}", in_url(audience));
                let answer = curl(Method::Get, &url, Leads::Out, &format!("Authorization: bearer {secret}")).await?;
                let answer: GitHubAnswer =
                    serde_json::from_slice(&answer).map_err(|_| "GitHub's answer has no token".to_owned())?;
                answer.value
            }
            Self::Gcp => {
                let url = format!("{GCP_URL}?audience={}&format=full", in_url(audience));
                text(curl(Method::Get, &url, Leads::Inside, "Metadata-Flavor: Google").await?)
            }
        };
        let token = token.trim_ascii();
        let is_part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if token.split('.').count() == 3 && token.bytes().all(is_part) {
            Ok(token.to_owned())
        } else {
            Err(format!("{} is no signed JWT", self.called()))
        }
    }

    /// What is called so in an error; never the token.
    fn called(&self) -> String {
        match self {
            Self::File(path) => format!("the content of {}", path.display()),
            Self::Command(_) => "what the command in LYCHGATE_JWT printed".to_owned(),
            Self::GitHub { .. } => "what GitHub gave".to_owned(),
            Self::Gcp => "what the metadata server gave".to_owned(),
            Self::Unusable(_) => "nothing".to_owned(),
        }
    }
}

/// GitHub's answer; it has other members, too.
#[derive(serde::Deserialize)]
struct GitHubAnswer {
    value: String,
}

/// Bytes that should be a token. What is no text is none.
fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_default()
}

/// The text of a file.
fn file(path: &Path) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    std::io::Read::read_to_string(&mut std::io::Read::take(file, ANSWER_MAX), &mut text).map_err(failed)?;
    Ok(text)
}

/// The prover.
struct IssuedToken {
    source: TokenSource,
    audience: String,
}

impl Prover for IssuedToken {
    fn kind(&self) -> &'static str {
        JWT
    }

    /// A token that has ended, or was used, may be all that there is.
    fn renews_without(&self, code: &str) -> bool {
        code.starts_with("jwt-")
    }

    fn body<'a>(&'a self, binding: Binding<'a>, _: Option<&'a str>) -> Proving<'a> {
        Box::pin(async move {
            let audience = jwt_audience(&self.audience, binding.domain.as_str(), &binding.new_key.hex());
            self.source.token(&audience).await.map_err(EvidenceError::Machine)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "eyJhbGciOiJFUzI1NiJ9.e30.AAAA";

    fn found(variables: &[(&str, &str)], projected: &Path) -> Option<TokenSource> {
        let variables: Vec<(String, String)> =
            variables.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        TokenSource::find(
            move |name| variables.iter().find(|(known, _)| known == name).map(|(_, text)| text.clone()),
            projected,
        )
    }

    #[test]
    fn sources() {
        let room = tempfile::tempdir().unwrap();
        let (there, nowhere) = (room.path().join("token"), room.path().join("nothing"));
        std::fs::write(&there, TOKEN).unwrap();
        let github = [(GITHUB_URL, "https://a.example/token?v=1"), (GITHUB_SECRET, "s3cret")];
        let job = || TokenSource::GitHub { url: github[0].1.to_owned(), secret: github[1].1.to_owned() };
        assert!(found(&[], &nowhere).is_none());
        assert!(found(&[], &there) == Some(TokenSource::File(there.clone())));
        assert!(found(&github, &there) == Some(job()));
        assert!(found(&github[..1], &nowhere).is_none(), "without the secret it may not ask");
        assert!(found(&[(VARIABLE, "none"), github[0], github[1]], &there).is_none());
        assert!(found(&[(VARIABLE, "")], &nowhere).is_none());
        assert!(found(&[(VARIABLE, "gcp")], &there) == Some(TokenSource::Gcp));
        assert!(found(&[(VARIABLE, "/a/b")], &there) == Some(TokenSource::File("/a/b".into())));
        assert!(found(&[(VARIABLE, "command:a b")], &there) == Some(TokenSource::Command("a b".to_owned())));
        assert!(found(&[(VARIABLE, "github-actions"), github[0], github[1]], &there) == Some(job()));
        assert!(matches!(found(&[(VARIABLE, "github-actions")], &there), Some(TokenSource::Unusable(_))));
    }

    #[tokio::test]
    async fn a_file_is_read_anew_and_trimmed() {
        let room = tempfile::tempdir().unwrap();
        let path = room.path().join("token");
        let source = TokenSource::File(path.clone());
        assert!(source.token("").await.unwrap_err().contains("token: No such file"));
        for (text, good) in [
            (format!("{TOKEN}\n"), true),
            (format!(" {TOKEN}\r\n"), true),
            (String::new(), false),
            (format!("{TOKEN}\n{TOKEN}"), false),
            ("not.a token.x".to_owned(), false),
        ] {
            std::fs::write(&path, &text).unwrap();
            match source.token("").await {
                Ok(token) => assert!(good && token == TOKEN, "{text}"),
                Err(why) => assert!(!good && why.ends_with("token is no signed JWT"), "{why}"),
            }
        }
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_command_is_told_the_audience() {
        let run = async |line: &str| TokenSource::Command(line.to_owned()).token("lychgate://td.example/00ff").await;
        let made = r#"[ "$LYCHGATE_JWT_AUDIENCE" = lychgate://td.example/00ff ] && echo eyJhbGciOiJFUzI1NiJ9.e30.AAAA"#;
        assert_eq!(run(made).await.as_deref(), Ok(TOKEN));
        let why = run("echo much; echo first >&2; echo last >&2; exit 3").await.unwrap_err();
        assert!(why.ends_with(": first") && why.contains("exit status: 3"), "{why}");
        assert!(run("exit 1").await.unwrap_err().ends_with("no reason was given"));
        // What a program prints when it is not a token is not told: it may be a secret.
        let why = run("echo s3cret").await.unwrap_err();
        assert!(!why.contains("s3cret"), "{why}");
    }
}
