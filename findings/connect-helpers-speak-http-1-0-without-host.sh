#!/usr/bin/env bash
# One would expect: the programs that people put into ProxyCommand ask a proxy as curl does: `CONNECT name:port HTTP/1.1`, with
# a Host field (RFC 9110 9.3.6, RFC 9112 3.2).
# Really: `openssl s_client -proxy`, socat, nc, ncat, connect-proxy and corkscrew all say HTTP/1.0 and no Host. None of them has
# an option for another version, so a proxy that insists on HTTP/1.1 shuts all of them out.
# Software: openssl 3.0.22-1~deb12u2, socat 1.7.4.4-2, netcat-openbsd 1.219-1, ncat 7.93+dfsg1-1, connect-proxy 1.105-1.3,
# corkscrew 2.0-14; beside them curl 7.88.1-10+deb12u15 (Debian 12).
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

unpack openssl=3.0.22-1~deb12u2 libssl3=3.0.22-1~deb12u2 socat=1.7.4.4-2 netcat-openbsd=1.219-1 ncat=7.93+dfsg1-1 \
    connect-proxy=1.105-1.3 corkscrew=2.0-14 curl=7.88.1-10+deb12u15
bin=$dir/x/usr/bin
libraries=$(dirname "$(find "$dir/x" -name libcrypto.so.3)")

# Notes the first bytes of each connection, a line each, and answers 403.
cat >recorder.py <<'END'
import os
import socket

listener = socket.socket()
listener.bind(("127.0.0.1", 0))
listener.listen()
with open("port.new", "w") as file:
    file.write(str(listener.getsockname()[1]))
os.rename("port.new", "port")
while True:
    connection, _ = listener.accept()
    connection.settimeout(5)
    heard = b""
    try:
        while b"\r\n\r\n" not in heard:
            piece = connection.recv(4096)
            if not piece:
                break
            heard += piece
        connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    except OSError:
        pass
    with open("seen", "a") as file:
        file.write(repr(heard)[2:-1] + "\n")
    connection.close()
END
: >seen
python3 recorder.py &
pids+=($!)
for _ in $(seq 100); do
    [ ! -f port ] || break
    sleep 0.1
done
port=$(cat port)

ask() {
    local name=$1
    shift
    : >seen
    timeout 10 "$@" </dev/null >out 2>&1 || true
    for _ in $(seq 50); do
        [ ! -s seen ] || break
        sleep 0.1
    done
    printf '%s\t%s\n' "$name" "$(head -n 1 seen)" | tee -a all
}
ask openssl env "LD_LIBRARY_PATH=$libraries" OPENSSL_CONF=/dev/null "$bin/openssl" s_client \
    -proxy "127.0.0.1:$port" -connect node.example:22
ask socat "$bin/socat" - "PROXY:127.0.0.1:node.example:22,proxyport=$port"
ask nc "$dir/x/bin/nc.openbsd" -X connect -x "127.0.0.1:$port" node.example 22
ask ncat "$bin/ncat" --proxy "127.0.0.1:$port" --proxy-type http node.example 22
ask connect-proxy "$bin/connect-proxy" -H "127.0.0.1:$port" node.example 22
ask corkscrew "$bin/corkscrew" 127.0.0.1 "$port" node.example 22
ask curl env -u no_proxy -u NO_PROXY "$bin/curl" -s -x "http://127.0.0.1:$port" https://node.example:22

old=$(grep -c 'CONNECT node.example:22 HTTP/1\.0' all || true)
hosts=$(grep 'HTTP/1\.0' all | grep -ci 'host:' || true)
if [ "$old" = 6 ] && [ "$hosts" = 0 ] && grep -q '^curl.*HTTP/1\.1' all; then
    echo "as stated: six speak HTTP/1.0 without Host, curl HTTP/1.1"
else
    echo "changed"
    exit 1
fi
