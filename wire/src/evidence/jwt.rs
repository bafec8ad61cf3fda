//! Evidence of kind `jwt`: a token that an issuer trusted by the gateway gave to the machine. The body is the token, in compact
//! serialization (RFC 7515 3.1).

/// Evidence kind of a JWT by another issuer.
pub const JWT: &str = "jwt";

/// The audience of a token that is for one key: where the issuer lets whoever asks choose it. See [`jwt_audience`].
pub const JWT_AUDIENCE_OF_KEY: &str = "lychgate://{domain}/{key}";

/// The audience of a token that is for whichever key is shown first.
pub const JWT_AUDIENCE: &str = "lychgate://{domain}";

/// Stands for the trust domain in the template of an audience.
const DOMAIN: &str = "{domain}";

/// Stands for the digest of the key to be certified.
const KEY: &str = "{key}";

/// The audience by a template, in which `{domain}` is the trust domain, and `{key}` the digest of the key to be certified in hex.
#[must_use]
pub fn jwt_audience(template: &str, trust_domain: &str, key_hex: &str) -> String {
    template.replace(DOMAIN, trust_domain).replace(KEY, key_hex)
}

/// Whether tokens with an audience by this template are for one key.
#[must_use]
pub fn jwt_is_of_key(template: &str) -> bool {
    template.contains(KEY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates() {
        for (template, want, of_key) in [
            (JWT_AUDIENCE_OF_KEY, "lychgate://td.example/00ff", true),
            (JWT_AUDIENCE, "lychgate://td.example", false),
            ("https://gw.example", "https://gw.example", false),
            ("api://{key}", "api://00ff", true),
            ("{Key}", "{Key}", false),
        ] {
            assert_eq!(jwt_audience(template, "td.example", "00ff"), want);
            assert_eq!(jwt_is_of_key(template), of_key, "{template}");
        }
    }
}
