#!/usr/bin/env bash
# One would expect: of two CRLs of one issuer that are both in force, Java's path validation goes by the newer.
# Really: it asks one of them, and which one hangs on a hash of their bytes: neither date nor number nor order counts. A
# certificate whose hold the newer CRL lifts is let in with some pairs of files and refused with others of the same content.
# Software: openjdk-17 17.0.21.1+2-1~deb12u1 (Debian 12).
# Source: RFC 5280 6.3.3 lets any CRL in force count; the Java PKI guide promises no order. Give it one CRL of each issuer.
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

unpack openssl=3.0.22-1~deb12u2 libssl3=3.0.22-1~deb12u2 openjdk-17-jre-headless=17.0.21.1+2-1~deb12u1 \
    openjdk-17-jdk-headless=17.0.21.1+2-1~deb12u1
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

held=$(row "$(date -u -d '-3 hours' +%y%m%d%H%M%SZ),certificateHold")
questions=()
for i in $(seq 40); do
    crl "older-$i.crl" "$held" "$(printf '1%03d' "$i")" "$(stamp "-2 hours -$i min")" "$(stamp '+1 hour')"
    crl "newer-$i.crl" '' "$(printf '2%03d' "$i")" "$(stamp "-1 hour +$i min")" "$(stamp '+1 hour')"
    questions+=("older-$i.crl+newer-$i.crl")
done
"$java_home/bin/java" -version 2>&1 | sed -n 1p
of_java "${questions[@]}" | sort | uniq -c | tee counts
alone=$(of_java newer-1.crl)
echo "the newer alone: $alone"

if [ "$alone" = OK ] && grep -q ' OK$' counts && grep -q ' Certificate has been revoked$' counts; then
    echo "as stated: now the older counts, now the newer"
else
    echo "changed"
    exit 1
fi
