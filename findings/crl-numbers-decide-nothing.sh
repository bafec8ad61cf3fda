#!/usr/bin/env bash
# One would expect: of two CRLs of one issuer with the same thisUpdate the one with the higher CRL number counts; the number
# is there to tell "when a particular CRL supersedes another" (RFC 5280 5.2.3), and a time has whole seconds only.
# Really: nobody looks at it. OpenSSL goes by the first in its file, certtool by the last, and NSS, which has one already,
# refuses the other: "New CRL is not later than the current one".
# Software: openssl 3.0.22-1~deb12u2, gnutls-bin 3.7.9-2+deb12u7, libnss3 2:3.87.1-1+deb12u4 (Debian 12).
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

unpack openssl=3.0.22-1~deb12u2 libssl3=3.0.22-1~deb12u2 gnutls-bin=3.7.9-2+deb12u7 \
    libgnutls30=3.7.9-2+deb12u7 libnss3=2:3.87.1-1+deb12u4 libnss3-tools=2:3.87.1-1+deb12u4
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
    -addext basicConstraints=critical,CA:FALSE -addext keyUsage=critical,digitalSignature -addext extendedKeyUsage=clientAuth \
    -addext subjectKeyIdentifier=hash -addext authorityKeyIdentifier=keyid 2>log

stamp() { date -u -d "$1" +%Y%m%d%H%M%SZ; }
# FILE ROW NUMBER FROM UNTIL: a CRL whose entries are ROW, a row of openssl's index or nothing.
crl() {
    printf '%s\n' "$2" | sed '/^$/d' >index
    echo "$3" >number
    openssl ca -gencrl -crl_lastupdate "$4" -crl_nextupdate "$5" -out "$1" 2>>log
}
# DATE[,REASON]: the row that revokes the leaf.
row() { printf 'R\t491231235959Z\t%s\t1007\tunknown\t/CN=m-1' "$1"; }
of_openssl() {
    openssl verify -crl_check -CRLfile "$1" -CAfile ca.pem leaf.pem 2>&1 |
        sed -n 's/^leaf.pem: //p; s/.*lookup: //p' | sed -n 1p
}
certtool() { LD_LIBRARY_PATH=$libraries "$dir/x/usr/bin/certtool" "$@"; }
of_gnutls() {
    certtool --verify --load-ca-certificate ca.pem --load-crl "$1" --infile leaf.pem 2>&1 |
        sed -n 's/^\tOutput: //p' | tail -n 1
}
nss() { LD_LIBRARY_PATH=$libraries:$libraries/nss "$dir/x/usr/bin/$1" "${@:2}"; }
# What NSS says of the leaf once it has been given these CRLs, and what it said of the last of them.
of_nss() {
    rm -rf db
    mkdir db
    nss certutil -N -d db --empty-password
    nss certutil -A -d db -n ca -t CT,, -i ca.pem
    nss certutil -A -d db -n leaf -t ,, -i leaf.pem
    local file
    for file in "$@"; do
        openssl crl -in "$file" -outform DER -out given.der
        nss crlutil -I -B -d db -i given.der >imported 2>&1 || true
    done
    nss certutil -V -d db -n leaf -u C 2>&1 | sed 's/^certutil: //'
}

# Number 8 holds the certificate, number 9 lifts the hold in the same second.
second=$(stamp '-1 hour')
crl 8.crl "$(row "$(date -u -d '-3 hours' +%y%m%d%H%M%SZ),certificateHold")" 08 "$second" "$(stamp '+1 hour')"
crl 9.crl '' 09 "$second" "$(stamp '+1 hour')"
cat 8.crl 9.crl >8-9.crl
cat 9.crl 8.crl >9-8.crl
cat >found <<END
8 then 9, openssl: $(of_openssl 8-9.crl)
9 then 8, openssl: $(of_openssl 9-8.crl)
8 then 9, gnutls: $(of_gnutls 8-9.crl)
9 then 8, gnutls: $(of_gnutls 9-8.crl)
8 then 9, nss: $(of_nss 8.crl 9.crl)
END
sed -i 's/ *$//' found
cat found
sed -n 's/^crlutil: /    nss of number 9: /p' imported
cat >want <<'END'
8 then 9, openssl: certificate revoked
9 then 8, openssl: OK
8 then 9, gnutls: Verified. The certificate is trusted.
9 then 8, gnutls: Not verified. The certificate is NOT trusted. The certificate chain is revoked.
8 then 9, nss: certificate is invalid: Peer's Certificate has been revoked.
END
if cmp -s want found && grep -q SEC_ERROR_OLD_CRL imported; then
    echo "as stated: the number decides nothing"
else
    echo "changed"
    exit 1
fi
