#!/usr/bin/env bash
# One would expect: OpenSSH reads keys in PKCS#8 files of every kind that it has itself, Ed25519 no less than P-256.
# Really: of the two files that openssl makes it reads the P-256 key, and calls the Ed25519 one `invalid format`; nor does it
# read or write an Ed25519 public key as SubjectPublicKeyInfo. An Ed25519 key made for TLS cannot become one for SSH.
# Software: OpenSSH client 1:9.2p1-2+deb12u10, openssl 3.0.22-1~deb12u2 (Debian 12).
# Source: ssh-keygen(1) names PKCS8 as a format of -m and no exception.
set -euo pipefail

dir=$(mktemp -d)
pids=()
finish() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    rm -rf "$dir"
}
trap finish EXIT
cd "$dir"

# Unpacks Debian packages NAME=VERSION below ./x; nothing is installed.
unpack() {
    if ! apt-get download "$@" >apt.log 2>&1; then
        cat apt.log >&2
        echo "not run: $* cannot be had" >&2
        exit 2
    fi
    echo "$*"
    for package in ./*.deb; do dpkg-deb -x "$package" x; done
    rm ./*.deb
}

unpack openssh-client=1:9.2p1-2+deb12u10 openssl=3.0.22-1~deb12u2 libssl3=3.0.22-1~deb12u2
keygen=$dir/x/usr/bin/ssh-keygen
libraries=$(dirname "$(find "$dir/x" -name libcrypto.so.3)")
openssl() { LD_LIBRARY_PATH=$libraries OPENSSL_CONF=/dev/null "$dir/x/usr/bin/openssl" "$@"; }

"$dir/x/usr/bin/ssh" -V 2>&1
openssl version
umask 077
openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out p256.pem 2>/dev/null ||
    openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out p256.pem
openssl genpkey -algorithm ED25519 -out ed25519.pem

held=yes
try() {
    local want=$1 found=fails
    shift
    if "$@" >out 2>&1 </dev/null; then found=works; fi
    echo "$found: ${*##*/}"
    sed 's/^/    /' out | cut -c1-100
    [ "$found" = "$want" ] || held=no
}
for kind in p256 ed25519; do
    want=works
    [ "$kind" = p256 ] || want=fails
    openssl pkey -in "$kind.pem" -pubout -out "$kind.pub.pem"
    try "$want" "$keygen" -y -f "$kind.pem"
    try "$want" "$keygen" -i -m PKCS8 -f "$kind.pub.pem"
done

if [ "$held" = yes ]; then
    echo "as stated: P-256 is read, Ed25519 is not"
else
    echo "changed"
    exit 1
fi
