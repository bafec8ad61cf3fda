#!/usr/bin/env bash
# One would expect: everybody takes a CRL that says by its issuingDistributionPoint that it is about leaves only
# (onlyContainsUserCerts); the extension is critical by RFC 5280 5.2.5, and so every reader of CRLs knows it.
# Really: NSS refuses to take the CRL in ("unknown critical extension"). OpenSSL, GnuTLS and Java take it.
# With a URL in it (distributionPoint) OpenSSL and Java want the same URL in the leaf, else: "different CRL scope", no status.
# Software: openssl 3.0.22-1~deb12u2, gnutls-bin 3.7.9-2+deb12u7, openjdk-17 17.0.21.1+2-1~deb12u1, libnss3 2:3.87.1-1+deb12u4.
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
    libgnutls30=3.7.9-2+deb12u7 libnss3=2:3.87.1-1+deb12u4 libnss3-tools=2:3.87.1-1+deb12u4 \
    openjdk-17-jre-headless=17.0.21.1+2-1~deb12u1 openjdk-17-jdk-headless=17.0.21.1+2-1~deb12u1
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
java_home=$(dirname "$(dirname "$(find "$dir/x" -path '*/bin/javac')")")
# In the package its settings are links to the place where it would be installed.
find "$java_home" -type l | while read -r link; do
    target=$(readlink "$link")
    if [ -f "x$target" ]; then cp --remove-destination "x$target" "$link"; fi
done
cat >Ask.java <<'END'
import java.io.FileInputStream;
import java.security.cert.*;
import java.util.*;

public class Ask {
    public static void main(String[] files) throws Exception {
        CertificateFactory factory = CertificateFactory.getInstance("X.509");
        X509Certificate ca = (X509Certificate) factory.generateCertificate(new FileInputStream("ca.pem"));
        Certificate leaf = factory.generateCertificate(new FileInputStream("leaf.pem"));
        // One question for each argument; the CRLs of one question are joined by a plus sign.
        for (String question : files) {
            List<CRL> crls = new ArrayList<>();
            for (String file : question.split("\\+")) crls.add(factory.generateCRL(new FileInputStream(file)));
            PKIXParameters parameters = new PKIXParameters(Set.of(new TrustAnchor(ca, null)));
            parameters.addCertStore(CertStore.getInstance("Collection", new CollectionCertStoreParameters(crls)));
            try {
                CertPathValidator.getInstance("PKIX").validate(factory.generateCertPath(List.of(leaf)), parameters);
                System.out.println("OK");
            } catch (CertPathValidatorException e) {
                System.out.println(e.getMessage().split(",")[0]);
            }
        }
    }
}
END
of_java() { "$java_home/bin/java" Ask.java "$@"; }

crl plain.crl '' 01 "$(stamp '-1 hour')" "$(stamp '+1 hour')"
cp openssl.cnf before.cnf
printf 'issuingDistributionPoint = critical, @idp\n[idp]\nonlyuser = TRUE\n' >>openssl.cnf
crl leaves.crl '' 02 "$(stamp '-1 hour')" "$(stamp '+1 hour')"
cp before.cnf openssl.cnf
printf 'issuingDistributionPoint = critical, @idp\n[idp]\nfullname = URI:http://127.0.0.1/ca.crl\n' >>openssl.cnf
crl url.crl '' 03 "$(stamp '-1 hour')" "$(stamp '+1 hour')"

of_java plain.crl leaves.crl url.crl >java
{ read -r java_plain && read -r java_leaves && read -r java_url; } <java
nss_given() {
    of_nss "$1" >nss.out
    if grep -q SEC_ERROR_CRL_UNKNOWN_CRITICAL_EXTENSION imported; then
        echo "not taken, unknown critical extension"
    else
        cat nss.out
    fi
}
cat >found <<END
plain, openssl: $(of_openssl plain.crl)
plain, gnutls: $(of_gnutls plain.crl)
plain, java: $java_plain
plain, nss: $(nss_given plain.crl)
leaves only, openssl: $(of_openssl leaves.crl)
leaves only, gnutls: $(of_gnutls leaves.crl)
leaves only, java: $java_leaves
leaves only, nss: $(nss_given leaves.crl)
with a URL, openssl: $(of_openssl url.crl)
with a URL, gnutls: $(of_gnutls url.crl)
with a URL, java: $java_url
with a URL, nss: $(nss_given url.crl)
END
sed -i 's/ *$//' found
cat found
cat >want <<'END'
plain, openssl: OK
plain, gnutls: Verified. The certificate is trusted.
plain, java: OK
plain, nss: certificate is valid
leaves only, openssl: OK
leaves only, gnutls: Verified. The certificate is trusted.
leaves only, java: OK
leaves only, nss: not taken, unknown critical extension
with a URL, openssl: different CRL scope
with a URL, gnutls: Verified. The certificate is trusted.
with a URL, java: Could not determine revocation status
with a URL, nss: not taken, unknown critical extension
END
if cmp -s want found; then
    echo "as stated: nss takes no CRL with an issuing distribution point"
else
    echo "changed"
    exit 1
fi
