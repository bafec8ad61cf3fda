//! Parses a command line of ssh as ssh does: which options take a value, which argument is the host, where the remote command
//! begins. So `lychgate ssh` can replace ssh, also in `rsync -e`, `scp -S` and `GIT_SSH_COMMAND`.

use std::ffi::{OsStr, OsString};

use crate::text::report::{Complaint, Exit};

/// The options of ssh(1) that take a value, of all versions up to 10.
const WITH_VALUE: &str = "BDEFIJLOPQRSWbceilmopw";

/// The keywords of `-o` by which ssh would bypass our configuration.
const ELSEWHERE: [&str; 6] =
    ["proxycommand", "proxyjump", "hostname", "canonicalizehostname", "include", "proxyusefdpass"];

/// A parsed command line of ssh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SshLine {
    args: Vec<OsString>,
    host: Option<Host>,
    /// From `-l`, or else from `-o User`.
    login: Option<String>,
}

/// The argument that names the host.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Host {
    /// Index of the argument.
    at: usize,
    /// The text before the name: a login with its `@`, or the beginning of an `ssh://` URI.
    before: String,
    name: String,
    /// The text after the name in a URI.
    after: String,
}

fn usage(what: String) -> Complaint {
    Complaint::new(Exit::Usage, "usage", what)
}

fn refused(option: &str) -> Complaint {
    usage(format!("`{option}` cannot be given: `lychgate ssh` goes through the gateway, by a configuration of its own"))
        .hint("run `ssh` itself, with `lychgate ssh-config`, for anything else")
}

impl SshLine {
    /// Parses the arguments of `ssh`.
    ///
    /// # Errors
    /// When an option would bypass the gateway or lacks its value.
    pub fn read(args: &[OsString]) -> Result<Self, Complaint> {
        let mut line = Self { args: args.to_vec(), host: None, login: None };
        let mut at = 0;
        // Options may precede and follow the host; the second argument that is not an option begins the command.
        while let Some(word) = args.get(at) {
            let text = word.to_string_lossy();
            if text == "--" {
                at += 1;
                let Some(word) = args.get(at).filter(|_| line.host.is_none()) else { return Ok(line) };
                line.host = Some(Host::read(at, word)?);
                at += 1;
            } else if text.starts_with('-') && text.len() > 1 {
                at = line.options(at, &text)?;
            } else if line.host.is_some() {
                return Ok(line);
            } else {
                line.host = Some(Host::read(at, word)?);
                at += 1;
            }
        }
        Ok(line)
    }

    /// Parses an argument of options, and the next argument if it is their value. Returns the index of the next one.
    fn options(&mut self, at: usize, word: &str) -> Result<usize, Complaint> {
        let Some((place, letter)) = word.char_indices().skip(1).find(|(_, letter)| WITH_VALUE.contains(*letter)) else {
            return Ok(at + 1);
        };
        let rest = word.get(place + 1..).unwrap_or_default();
        let (value, next) = match (rest, self.args.get(at + 1)) {
            ("", Some(value)) => (value.to_string_lossy().into_owned(), at + 2),
            ("", None) => return Err(usage(format!("`-{letter}` lacks its value"))),
            (rest, _) => (rest.to_owned(), at + 1),
        };
        self.option(letter, &value)?;
        Ok(next)
    }

    fn option(&mut self, letter: char, text: &str) -> Result<(), Complaint> {
        match letter {
            'F' | 'J' => Err(refused(&format!("-{letter}"))),
            'l' => {
                self.login = Some(text.to_owned());
                Ok(())
            }
            'o' => {
                let text = text.trim_start();
                let end = text.find(|c: char| c == '=' || c.is_whitespace()).unwrap_or(text.len());
                let (keyword, rest) = text.split_at(end);
                let keyword = keyword.trim_matches('"').to_ascii_lowercase();
                if ELSEWHERE.contains(&keyword.as_str()) {
                    return Err(refused(&format!("-o {}", text.split(['=', ' ']).next().unwrap_or_default())));
                }
                if keyword == "user" && self.login.is_none() {
                    let login = rest.trim_start_matches(|c: char| c == '=' || c.is_whitespace());
                    self.login = Some(login.trim_matches('"').to_owned());
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The host's name as written; `None` for a command line without host, such as `-V`.
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        self.host.as_ref().map(|host| host.name.as_str())
    }

    /// The login name, if there is one: `-l` and `-o User` take precedence over that in the host argument, as in ssh.
    #[must_use]
    pub fn login(&self) -> Option<&str> {
        let of_host = || {
            let before = self.host.as_ref()?.before.trim_start_matches("ssh://");
            before.strip_suffix('@')
        };
        self.login.as_deref().or_else(of_host)
    }

    /// All arguments, with another name for the host.
    #[must_use]
    pub fn with_host(&self, name: &str) -> Vec<OsString> {
        let mut args = self.args.clone();
        if let Some(host) = &self.host
            && let Some(word) = args.get_mut(host.at)
        {
            *word = format!("{}{name}{}", host.before, host.after).into();
        }
        args
    }
}

impl Host {
    fn read(at: usize, word: &OsStr) -> Result<Self, Complaint> {
        let text = word.to_str().ok_or_else(|| usage(format!("`{}` is no name", word.display())))?;
        let (scheme, rest) = match text.strip_prefix("ssh://") {
            Some(rest) => ("ssh://", rest),
            None => ("", text),
        };
        let (rest, path) = match rest.split_once('/').filter(|_| !scheme.is_empty()) {
            Some((rest, path)) => (rest, format!("/{path}")),
            None => (rest, String::new()),
        };
        // The last `@`, as in ssh: a login name may contain one.
        let (login, name) = match rest.rsplit_once('@') {
            Some((login, name)) => (format!("{login}@"), name),
            None => (String::new(), rest),
        };
        let (name, port) = match name.rsplit_once(':').filter(|_| !scheme.is_empty()) {
            Some((name, port)) => (name, format!(":{port}")),
            None => (name, String::new()),
        };
        Ok(Self { at, before: format!("{scheme}{login}"), name: name.to_owned(), after: format!("{port}{path}") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(text: &str) -> Vec<OsString> {
        text.split_whitespace().map(OsString::from).collect()
    }

    #[track_caller]
    fn check(text: &str, host: Option<&str>, login: Option<&str>, with: &str) {
        let line = SshLine::read(&args(text)).unwrap();
        assert_eq!((line.host(), line.login()), (host, login), "{text}");
        assert_eq!(line.with_host("FULL"), args(with), "{text}");
    }

    #[test]
    fn the_host_is_found_as_ssh_finds_it() {
        check("m", Some("m"), None, "FULL");
        check("root@m", Some("m"), Some("root"), "root@FULL");
        check("-v m uptime", Some("m"), None, "-v FULL uptime");
        check("-l root m -v ls -l", Some("m"), Some("root"), "-l root FULL -v ls -l");
        check("-lroot -p 22 m", Some("m"), Some("root"), "-lroot -p 22 FULL");
        check("-vvTl root m", Some("m"), Some("root"), "-vvTl root FULL");
        check("-L 1:localhost:2 m", Some("m"), None, "-L 1:localhost:2 FULL");
        check("-D1080 -N m", Some("m"), None, "-D1080 -N FULL");
        check("m -L 1:h:2 -v true -L x", Some("m"), None, "FULL -L 1:h:2 -v true -L x");
        check("-- m -v", Some("m"), None, "-- FULL -v");
        check("-- m -l root -- -v", Some("m"), Some("root"), "-- FULL -l root -- -v");
        check("m -- -v", Some("m"), None, "FULL -- -v");
        check("a@b@m", Some("m"), Some("a@b"), "a@b@FULL");
        check("ssh://root@m:22/x ls", Some("m"), Some("root"), "ssh://root@FULL:22/x ls");
        check("ssh://m", Some("m"), None, "ssh://FULL");
        check("-o User=bob root@m", Some("m"), Some("bob"), "-o User=bob root@FULL");
        check("-V", None, None, "-V");
        check("-Q cipher", None, None, "-Q cipher");
        check("-W db:5432 m", Some("m"), None, "-W db:5432 FULL");
        check("-G m", Some("m"), None, "-G FULL");
        check("", None, None, "");
    }

    /// Command lines recorded from these programs.
    #[test]
    fn as_rsync_scp_and_git_call_it() {
        check(
            "-l root m rsync --server -vlogDtpre.iLsfxCIvu . dst/",
            Some("m"),
            Some("root"),
            "-l root FULL rsync --server -vlogDtpre.iLsfxCIvu . dst/",
        );
        check(
            "-x -oPermitLocalCommand=no -oClearAllForwardings=yes -oRemoteCommand=none -oRequestTTY=no -oForwardAgent=no -l root -s -- m sftp",
            Some("m"),
            Some("root"),
            "-x -oPermitLocalCommand=no -oClearAllForwardings=yes -oRemoteCommand=none -oRequestTTY=no -oForwardAgent=no -l root -s -- FULL sftp",
        );
        check(
            "-o SendEnv=GIT_PROTOCOL -p 22 root@m git-upload-pack",
            Some("m"),
            Some("root"),
            "-o SendEnv=GIT_PROTOCOL -p 22 root@FULL git-upload-pack",
        );
        check(
            "-C -o ControlMaster=auto -o ControlPersist=60s -o User=root m sh",
            Some("m"),
            Some("root"),
            "-C -o ControlMaster=auto -o ControlPersist=60s -o User=root FULL sh",
        );
    }

    #[test]
    fn what_would_lead_past_the_gateway_is_refused() {
        for text in [
            "-F x m",
            "-Fx m",
            "-J hop m",
            "-oProxyCommand=none m",
            "-o ProxyJump=x m",
            "m -o HostName=x",
            "-vo proxycommand=x m",
            "-o CanonicalizeHostname=yes m",
            "-o Include=x m",
            "-- m -J x",
        ] {
            let complaint = SshLine::read(&args(text)).unwrap_err();
            assert_eq!(complaint.exit, Exit::Usage);
            assert!(complaint.what.contains("goes through the gateway"), "{text}: {complaint}");
        }
        let quoted = [OsString::from("-o"), OsString::from(" ProxyCommand nc %h 22"), OsString::from("m")];
        assert!(SshLine::read(&quoted).is_err());
        assert!(SshLine::read(&args("m -l")).unwrap_err().what.contains("lacks its value"));
        // The remote command is not parsed.
        check("m -- ssh -J x y", Some("m"), None, "FULL -- ssh -J x y");
        check("m ssh -J x y", Some("m"), None, "FULL ssh -J x y");
    }
}
