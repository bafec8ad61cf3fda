#!/usr/bin/env bash
# One would expect: `apt-get update` run by root reads the key named by Acquire::https::SslKey as root, so mode 0600 is right.
# Really: the process that fetches has given up root for the user `_apt` before it reads the key: "Error while reading file". The
# key must be readable by that user, who is told nothing better than the name of the file.
# Software: apt 2.6.2 (Debian 12). Wants root, and the user `_apt` that every Debian has.
# Source: apt.conf(5), `APT::Sandbox::User`; the text on SslKey in apt-transport-https(1) does not name it.
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

if [ "$(id -u)" != 0 ] || ! id _apt >/dev/null 2>&1; then
    echo "not run: it wants root and the user _apt" >&2
    exit 2
fi
unpack apt=2.6.2 libapt-pkg6.0=2.6.2 openssl=3.0.22-1~deb12u2 libssl3=3.0.22-1~deb12u2
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
"${new[@]}" -CA ca.pem -CAkey ca.key -keyout server.key -out server.pem -subj /CN=localhost -set_serial 0x1008 -days 20 \
    -addext basicConstraints=critical,CA:FALSE -addext subjectAltName=DNS:localhost -addext extendedKeyUsage=serverAuth \
    -addext subjectKeyIdentifier=hash -addext authorityKeyIdentifier=keyid 2>log
umask 022
mkdir repository state state/lists cache
: >repository/Packages
cat >server.py <<'END'
import http.server
import os
import ssl

context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("server.pem", "server.key")
context.load_verify_locations("ca.pem")
context.verify_mode = ssl.CERT_REQUIRED


class Handler(http.server.SimpleHTTPRequestHandler):
    def __init__(self, *args):
        super().__init__(*args, directory="repository")


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
with open("port.new", "w") as file:
    file.write(str(server.server_port))
os.rename("port.new", "port")
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
server.serve_forever()
END
python3 server.py >server.log 2>&1 &
pids+=($!)
for _ in $(seq 100); do
    [ ! -f port ] || break
    sleep 0.1
done

# Everything of apt's lies here; the system's own lists are not touched.
chmod 755 "$dir"
echo "deb [trusted=yes] https://localhost:$(cat port) ./" >sources.list
cat >apt.conf <<END
Dir "$dir/";
Dir::State "state";
Dir::State::status "$dir/status";
Dir::Cache "cache";
Dir::Etc::SourceList "$dir/sources.list";
Dir::Etc::SourceParts "/dev/null";
Dir::Etc::Parts "/dev/null";
Dir::Bin::methods "$dir/x/usr/lib/apt/methods";
Acquire::Retries "0";
Acquire::https::Proxy "DIRECT";
Acquire::https::CAInfo "$dir/public.pem";
Acquire::https::SslCert "$dir/shown.pem";
Acquire::https::SslKey "$dir/leaf.key";
END
: >status
cp ca.pem public.pem
cp leaf.pem shown.pem
chmod 644 public.pem shown.pem
apt_get() {
    env -u http_proxy -u https_proxy APT_CONFIG="$dir/apt.conf" LD_LIBRARY_PATH="$libraries" "$dir/x/usr/bin/apt-get" "$@" 2>&1
}

apt_get --version | sed -n 1p
chmod 600 leaf.key
apt_get update >root.out || true
chown _apt leaf.key
apt_get update >apt.out || true
echo "key of root, mode 0600:"
sed -n 's/.*\(Could not load client certificate\).*, SslKey option): \([^.]*\).*/    \1 or key: \2/p' root.out | sort -u
echo "key of _apt, mode 0600:"
grep '^Get:' apt.out | sed 's/^/    /' || sed 's/^/    /' apt.out

if grep -q 'Could not load client certificate.*Error while reading file' root.out && grep -q '^Get:.* Packages' apt.out &&
    ! grep -q 'Could not load' apt.out; then
    echo "as stated: apt reads the key as the user _apt"
else
    echo "changed"
    cat root.out
    exit 1
fi
