//! Examples at the end of a command's `--help` and in its man page.

/// Of `join`.
pub const JOIN: &str = "Examples:\n\
\x20 lychgate join https://gw.example:8443 --pin PIN --name edge-7\n\
\x20 lychgate join - < token\n\
\x20 lychgate join https://gw.example:8443 --pin PIN --attest tpm --key tpm";

/// Of `run`.
pub const RUN: &str = "Examples:\n\
\x20 lychgate run --expose ssh=22\n\
\x20 lychgate run --expose db=unix:/run/db.sock,sealed,allow=group/dba --reach puppet=puppet@infra:8140";

/// Of `connect`.
pub const CONNECT: &str = "Examples:\n\
\x20 lychgate connect metrics@edge-7\n\
\x20 lychgate connect dump@edge-7 < /dev/null > dump.sql\n\
It exits with 0 only when all of it came.";

/// Of `forward`.
pub const FORWARD: &str = "Examples:\n\
\x20 lychgate forward web@edge-7 --listen 8080\n\
\x20 lychgate --json forward db@edge-7      prints where it listens";

/// Of `ssh`.
pub const SSH: &str = "Examples:\n\
\x20 lychgate ssh root@edge-7\n\
\x20 lychgate ssh -L 5432:127.0.0.1:5432 root@edge-7 uptime\n\
\x20 rsync -a -e 'lychgate ssh' site/ root@edge-7:/var/www/\n\
\x20 GIT_SSH_COMMAND='lychgate ssh' git clone ssh://root@edge-7/var/lib/site.git\n\
\x20 scp -S lychgate-ssh notes root@edge-7:      with a link of that name to this program";

/// Of `ssh-config`.
pub const SSH_CONFIG: &str = "Examples:\n\
\x20 lychgate ssh-config --install\n\
\x20 lychgate ssh-config > machines.conf && ssh -F machines.conf root@edge-7";

/// Of `tpm info`.
pub const TPM_INFO: &str = "Environment:\n\
\x20 LYCHGATE_TPM  the TPM to use, here and when joining and renewing: a device, by default /dev/tpmrm0 or\n\
\x20               /dev/tpm0; unix:/PATH or tcp:HOST:PORT for an emulator; none for no TPM\n\
\x20 LYCHGATE_TPM_LOG  the file with the event log of the boot, by default that of Linux";

/// Of `tpm fetch`.
pub const TPM_FETCH: &str = "Examples:\n\
\x20 lychgate tpm fetch && lychgate join https://gw.example:8443 --pin PIN\n\
\x20 lychgate tpm fetch --maker amd --from https://mirror.example/pki/aia\n\
Environment:\n\
\x20 SSL_CERT_FILE  the CAs to trust for the server, instead of the system's";

/// Of `audit`.
pub const AUDIT: &str = "Examples:\n\
\x20 lychgate audit --event lock --since 2h\n\
\x20 lychgate audit --follow --event session\n\
\x20 lychgate audit --subject spiffe://lab.example/machine/edge-7 --limit 1000";

/// Of `can-i`.
pub const CAN_I: &str = "Examples:\n\
\x20 lychgate can-i connect ssh@edge-7 --explain\n\
\x20 lychgate can-i login";

/// Of `requests approve`.
pub const APPROVE: &str = "Examples:\n\
\x20 lychgate requests approve 3e3828feba73 --code ABCD-EFGH --name edge-7 --label site=lab --owner carol\n\
\x20 lychgate requests approve 3e38      shows the request and asks for the code";

/// Of `requests wait`.
pub const REQUESTS_WAIT: &str = "Examples:\n\
\x20 lychgate requests wait 3e3828feba73 --timeout 10min && lychgate machines list";

/// Of `machines wait`.
pub const MACHINES_WAIT: &str = "Examples:\n\
\x20 lychgate machines wait edge-7 --online --timeout 5min && lychgate ssh root@edge-7";

/// Of `tokens create`.
pub const TOKENS_CREATE: &str = "Examples:\n\
\x20 lychgate tokens create --name edge-7 --label site=lab --owner carol\n\
\x20 lychgate tokens create --name 'rack7-*' --uses 40 --ttl 2d";

/// Of `people invite`.
pub const INVITE: &str = "Examples:\n\
\x20 lychgate people invite --name bob --group admins";
