#!/usr/bin/env bash
# One would expect: a client that says `CONNECT ssh.node.example:22 HTTP/1.1` sends `Host: ssh.node.example:22` with it, as RFC
# 9112 3.2 demands ("identical to that authority component").
# Really: proxytunnel sends the name of the proxy as Host, without a port. A proxy that compares the two refuses it, and its
# option -H adds a second Host field instead of replacing the first.
# Software: proxytunnel 1.10.20210604-2 (Debian 12).
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

unpack proxytunnel=1.10.20210604-2
program=$dir/x/usr/bin/proxytunnel

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

"$program" --version 2>&1 | sed -n 1p
timeout 10 "$program" -q -p "127.0.0.1:$port" -d ssh.node.example:22 </dev/null >out 2>&1 || true
timeout 10 "$program" -q -p "127.0.0.1:$port" -d ssh.node.example:22 -H 'Host: ssh.node.example:22' </dev/null >out 2>&1 || true
for _ in $(seq 50); do
    [ "$(wc -l <seen)" -lt 2 ] || break
    sleep 0.1
done
cat seen

plain=$(sed -n 1p seen)
with=$(sed -n 2p seen)
if [[ $plain == 'CONNECT ssh.node.example:22 HTTP/1.1\r\nHost: 127.0.0.1\r\n'* ]] &&
    [ "$(grep -o 'Host: ' <<<"$with" | wc -l)" = 2 ]; then
    echo "as stated: Host names the proxy, and -H adds a second one"
else
    echo "changed"
    exit 1
fi
