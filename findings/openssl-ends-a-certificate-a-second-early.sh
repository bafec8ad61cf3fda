#!/usr/bin/env bash
# One would expect: a certificate is good "through" its notAfter, inclusive (RFC 5280 4.1.2.5), and so up to and with that second.
# Really: OpenSSL calls it expired in the second that notAfter names; Python's cryptography (and Go 1.26, GnuTLS 3.7) has it
# good for that second too. With a CRL's nextUpdate OpenSSL does the same: "CRL has expired" in that second.
# Software: openssl 3.0.22-1~deb12u2 (Debian 12), cryptography 50.0.2 (PyPI).
# Source: X509_cmp_time(3): "earlier than or equal to" the time compared with is -1.
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

unpack openssl=3.0.22-1~deb12u2 libssl3=3.0.22-1~deb12u2
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check cryptography==50.0.2
echo "cryptography==50.0.2"
libraries=$(dirname "$(find "$dir/x" -name libcrypto.so.3)")
openssl() { LD_LIBRARY_PATH=$libraries OPENSSL_CONF=$dir/openssl.cnf "$dir/x/usr/bin/openssl" "$@"; }

cat >openssl.cnf <<'END'
[req]
distinguished_name = dn
[dn]
[ca]
default_ca = ca
[ca]
database = index
crlnumber = number
certificate = ca.pem
private_key = ca.key
default_md = sha256
crl_extensions = crl
[crl]
authorityKeyIdentifier = keyid
END
umask 077
new=(openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes)
"${new[@]}" -keyout ca.key -out ca.pem -subj '/CN=test CA' -days 30 -addext basicConstraints=critical,CA:TRUE \
    -addext keyUsage=critical,keyCertSign,cRLSign -addext subjectKeyIdentifier=hash 2>log
"${new[@]}" -CA ca.pem -CAkey ca.key -keyout leaf.key -out leaf.pem -subj /CN=m-1 -set_serial 0x1007 -days 20 \
    -addext subjectAltName=DNS:m-1 -addext basicConstraints=critical,CA:FALSE \
    -addext keyUsage=critical,digitalSignature -addext extendedKeyUsage=clientAuth \
    -addext subjectKeyIdentifier=hash -addext authorityKeyIdentifier=keyid 2>log

stamp() { date -u -d "$1" +%Y%m%d%H%M%SZ; }
# FILE ROW NUMBER FROM UNTIL: a CRL whose entries are ROW, a row of openssl's index or nothing.
crl() {
    printf '%s\n' "$2" | sed '/^$/d' >index
    echo "$3" >number
    openssl ca -gencrl -crl_lastupdate "$4" -crl_nextupdate "$5" -out "$1" 2>>log
}
cat >at.py <<'END'
import datetime
import sys

from cryptography import x509
from cryptography.x509 import verification

ca, leaf = (x509.load_pem_x509_certificate(open(name, "rb").read()) for name in ("ca.pem", "leaf.pem"))
time = datetime.datetime.fromtimestamp(int(sys.argv[1]), datetime.timezone.utc)
verifier = verification.PolicyBuilder().store(verification.Store([ca])).time(time).build_client_verifier()
try:
    verifier.verify(leaf, [])
    print("OK")
except verification.VerificationError as error:
    print(error)
END

end=$(date -d "$(openssl x509 -in leaf.pem -noout -enddate | cut -d= -f2)" +%s)
result() { sed -n 's/^leaf.pem: //p; s/.*lookup: //p' | sed -n 1p; }
leaf_at() { openssl verify -attime "$1" -CAfile ca.pem leaf.pem 2>&1 | result; }
until=$(date -d '+2 days' +%s)
crl one.crl '' 01 "$(stamp '-1 hour')" "$(stamp "@$until")"
crl_at() { openssl verify -attime "$1" -crl_check -CRLfile one.crl -CAfile ca.pem leaf.pem 2>&1 | result; }

for from in -1 0 1; do
    printf 'notAfter %+d s, openssl: %s\n' "$from" "$(leaf_at $((end + from)))"
    printf 'notAfter %+d s, cryptography: %s\n' "$from" "$(venv/bin/python at.py $((end + from)))"
done | tee found
for from in -1 0; do printf 'nextUpdate %+d s, openssl: %s\n' "$from" "$(crl_at $((until + from)))"; done | tee -a found

cat >want <<'END'
notAfter -1 s, openssl: OK
notAfter -1 s, cryptography: OK
notAfter +0 s, openssl: certificate has expired
notAfter +0 s, cryptography: OK
notAfter +1 s, openssl: certificate has expired
nextUpdate -1 s, openssl: OK
nextUpdate +0 s, openssl: CRL has expired
END
if cmp -s want <(grep -v '+1 s, cryptography' found) && grep -q '+1 s, cryptography: validation failed' found; then
    echo "as stated: to OpenSSL the last second is past"
else
    echo "changed"
    exit 1
fi
