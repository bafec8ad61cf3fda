#!/usr/bin/env bash
# One would expect: `option httpchk GET /readyz` and Nagios' `check_http -I address` ask as clients of this century do, in
# HTTP/1.1 with a Host field.
# Really: both say HTTP/1.0 and send no Host; haproxy until the line names a version and a Host field (`http-check send meth GET
# uri /readyz ver HTTP/1.1 hdr Host name`), check_http until -H gives a name. A service that wants HTTP/1.1 is down for them.
# Software: haproxy 2.6.12-1+deb12u4, monitoring-plugins-basic 2.3.3-5+deb12u2 (Debian 12).
# Source: haproxy's configuration manual, `option httpchk`: the version is optional and "defaults to HTTP/1.0".
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

unpack haproxy=2.6.12-1+deb12u4 monitoring-plugins-basic=2.3.3-5+deb12u2

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

# Runs a backend with these lines until its check has been heard.
check() {
    : >seen
    {
        printf 'defaults\n    mode http\n    timeout check 3s\n'
        printf '    timeout %s 3s\n' connect client server
        printf 'frontend f\n    bind unix@%s/front\n    default_backend b\nbackend b\n' "$dir"
        printf '    %s\n' "$@"
        printf '    server s 127.0.0.1:%s check inter 500ms\n' "$port"
    } >haproxy.cfg
    "$dir/x/usr/sbin/haproxy" -db -f haproxy.cfg >haproxy.log 2>&1 &
    local pid=$!
    pids+=("$pid")
    for _ in $(seq 100); do
        [ ! -s seen ] || break
        sleep 0.1
    done
    kill "$pid"
    wait "$pid" || true
    head -n 1 seen
}
plain=$(check 'option httpchk GET /readyz')
told=$(check 'option httpchk' 'http-check send meth GET uri /readyz ver HTTP/1.1 hdr Host gw.example')
: >seen
"$dir/x/usr/lib/nagios/plugins/check_http" -I 127.0.0.1 -p "$port" -u /readyz >out 2>&1 || true
"$dir/x/usr/lib/nagios/plugins/check_http" -H gw.example -I 127.0.0.1 -p "$port" -u /readyz >out 2>&1 || true
for _ in $(seq 50); do
    [ "$(wc -l <seen)" -lt 2 ] || break
    sleep 0.1
done
nagios=$(sed -n 1p seen)
named=$(sed -n 2p seen)
printf 'haproxy, httpchk GET /readyz\t%s\nhaproxy, with ver and hdr\t%s\n' "$plain" "$told"
printf 'check_http -I\t%s\ncheck_http -H\t%s\n' "$nagios" "$named"

old() { [[ $1 == 'GET /readyz HTTP/1.0\r\n'* && $1 != *Host:* ]]; }
new() { [[ $1 == 'GET /readyz HTTP/1.1\r\n'* && ${1,,} == *'host: gw.example'* ]]; }
if old "$plain" && new "$told" && old "$nagios" && new "$named"; then
    echo "as stated: HTTP/1.0 without Host until told otherwise"
else
    echo "changed"
    exit 1
fi
