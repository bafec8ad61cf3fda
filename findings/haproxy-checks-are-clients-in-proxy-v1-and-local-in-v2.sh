#!/usr/bin/env bash
# One would expect: the health check of a server with `send-proxy` says that nobody stands behind it: UNKNOWN in version 1 of
# the PROXY protocol, LOCAL in version 2, as the protocol has it for connections of the proxy's own.
# Really: in version 2 it says LOCAL, in version 1 `TCP4` with its own address: one more client, again and again, which rates,
# logs and lists of addresses then count. Only that the named address is haproxy's own tells it from others.
# Software: haproxy 2.6.12-1+deb12u4 (Debian 12).
# Source: the PROXY protocol's text, 2.1 and 2.2 (LOCAL "such as health-checks").
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

unpack haproxy=2.6.12-1+deb12u4

# Notes the first bytes of each connection to two ports, a file each.
cat >recorder.py <<'END'
import os
import socket
import threading


def note(listener, name):
    while True:
        connection, _ = listener.accept()
        connection.settimeout(5)
        try:
            heard = connection.recv(4096)
        except OSError:
            heard = b""
        if heard:
            with open(name, "a") as file:
                file.write(heard.hex() + "\n")
        connection.close()


with open("ports.new", "w") as file:
    for name in ("v1", "v2"):
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        file.write(f"{listener.getsockname()[1]}\n")
        threading.Thread(target=note, args=(listener, name)).start()
os.rename("ports.new", "ports")
END
python3 recorder.py &
pids+=($!)
for _ in $(seq 100); do
    [ ! -f ports ] || break
    sleep 0.1
done
{ read -r one && read -r two; } <ports

cat >haproxy.cfg <<END
defaults
    mode tcp
    timeout connect 3s
    timeout client 3s
    timeout server 3s
    timeout check 3s
frontend f
    bind unix@$dir/front
    default_backend b
backend b
    server v1 127.0.0.1:$one check inter 500ms send-proxy
    server v2 127.0.0.1:$two check inter 500ms send-proxy-v2
END
"$dir/x/usr/sbin/haproxy" -db -f haproxy.cfg >haproxy.log 2>&1 &
pids+=($!)
for _ in $(seq 100); do
    [ ! -s v1 ] || [ ! -s v2 ] || break
    sleep 0.1
done

version1=$(head -n 1 v1 | sed 's/../\\x&/g')
version1=$(printf '%b' "$version1" | sed -n 1p | tr -d '\r')
version2=$(head -n 1 v2)
echo "version 1: $version1"
echo "version 2: $version2"
# Twelve bytes of signature, then version 2 and command 0 (LOCAL), no family, no addresses.
if [[ $version1 == 'PROXY TCP4 127.0.0.1 127.0.0.1 '*" $one" ]] && [[ $version2 == 0d0a0d0a000d0a515549540a20* ]]; then
    echo "as stated: a client in version 1, LOCAL in version 2"
else
    echo "changed"
    exit 1
fi
