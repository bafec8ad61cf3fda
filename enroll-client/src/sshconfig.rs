//! `ssh-config` and `ssh`: stock OpenSSH, led to machines by their names.
