#!/usr/bin/env bash
# One would expect: a library for OpenSSH certificates reads what `ssh-keygen -s` makes without an option about time.
# Really: such a certificate is valid for ever, which OpenSSH writes as the largest 64-bit number, and the Rust crate refuses
# any end beyond what fits a signed one. With an end (-V) it reads the same certificate.
# Software: ssh-key 0.6.7 (crates.io); OpenSSH client 1:9.2p1-2+deb12u10 (Debian 12).
# Source: OpenSSH's PROTOCOL.certkeys calls `valid before` a uint64; ssh-keygen(1), -V, says that the default is always valid.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

if ! apt-get download openssh-client=1:9.2p1-2+deb12u10 >apt.log 2>&1; then
    cat apt.log >&2
    echo "not run: openssh-client=1:9.2p1-2+deb12u10 cannot be had" >&2
    exit 2
fi
dpkg-deb -x ./*.deb x
keygen=$dir/x/usr/bin/ssh-keygen

mkdir -p reads/src
cat >reads/Cargo.toml <<'TOML'
[package]
name = "reads"
version = "0.0.0"
edition = "2021"

[dependencies]
ssh-key = { version = "=0.6.7", default-features = false, features = ["alloc"] }

[workspace]
TOML
cat >reads/src/main.rs <<'RUST'
fn main() {
    for path in std::env::args().skip(1) {
        let line = std::fs::read_to_string(&path).unwrap();
        match ssh_key::Certificate::from_openssh(line.trim()) {
            Ok(cert) => println!("{path}: read, until {}", cert.valid_before()),
            Err(error) => println!("{path}: refused: {error}"),
        }
    }
}
RUST
if ! cargo build --quiet --manifest-path reads/Cargo.toml 2>cargo.log; then
    cat cargo.log >&2
    echo "not run: ssh-key 0.6.7 cannot be built" >&2
    exit 2
fi

"$keygen" -q -t ed25519 -N '' -C ca -f ca
for name in forever year; do "$keygen" -q -t ed25519 -N '' -C host -f $name; done
"$keygen" -q -s ca -h -I host -n edge-1 forever.pub
"$keygen" -q -s ca -h -I host -n edge-1 -V +52w year.pub

echo "ssh-key 0.6.7, OpenSSH 9.2p1-2+deb12u10"
"$keygen" -L -f forever-cert.pub | grep Valid:
reads/target/debug/reads forever-cert.pub year-cert.pub | tee read.txt
if grep -q '^forever-cert.pub: refused' read.txt && grep -q '^year-cert.pub: read' read.txt; then
    echo "as stated"
else
    echo "it has changed"
    exit 1
fi
