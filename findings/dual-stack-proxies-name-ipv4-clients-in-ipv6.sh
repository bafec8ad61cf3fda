#!/usr/bin/env bash
# One would expect: a client that comes by IPv4 is named `TCP4 192.0.2.7` in the PROXY protocol, on whatever socket it came.
# Really: on a listener for both families haproxy and nginx pass on what the socket says: `TCP6 ::ffff:127.0.0.1`. A receiver
# that compares it with IPv4 networks, or counts an IPv6 /64 as one client, takes all of IPv4 for one address or for none.
# Software: haproxy 2.6.12-1+deb12u4, nginx 1.22.1-9+deb12u11 with libnginx-mod-stream (Debian 12).
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

unpack haproxy=2.6.12-1+deb12u4 nginx=1.22.1-9+deb12u11 libnginx-mod-stream=1.22.1-9+deb12u11

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
free() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
of_haproxy=$(free)
of_nginx=$(free)

# An IPv6 socket that only loopback reaches; with `:::` and `[::]` it is the same.
cat >haproxy.cfg <<END
defaults
    mode tcp
    timeout connect 3s
    timeout client 3s
    timeout server 3s
listen l
    bind ::ffff:127.0.0.1:$of_haproxy v4v6
    server s 127.0.0.1:$port send-proxy
END
"$dir/x/usr/sbin/haproxy" -db -f haproxy.cfg >haproxy.log 2>&1 &
pids+=($!)

cat >nginx.conf <<END
load_module $dir/x/usr/lib/nginx/modules/ngx_stream_module.so;
daemon off;
master_process off;
pid $dir/nginx.pid;
error_log $dir/nginx.log;
events {}
stream {
    server {
        listen [::ffff:127.0.0.1]:$of_nginx ipv6only=off;
        proxy_pass 127.0.0.1:$port;
        proxy_protocol on;
    }
}
END
"$dir/x/usr/sbin/nginx" -p "$dir" -e nginx.log -c nginx.conf >nginx.out 2>&1 &
pids+=($!)

# What the receiver is told about a client that comes to 127.0.0.1 on this port.
told() {
    python3 - "$1" <<'END'
import socket
import sys
import time

for _ in range(100):
    try:
        client = socket.create_connection(("127.0.0.1", int(sys.argv[1])), 5)
        break
    except OSError:
        time.sleep(0.1)
client.sendall(b"\r\n\r\n")
client.recv(100)
END
    tail -n 1 seen | sed 's/\\r\\n.*//'
}
haproxy=$(told "$of_haproxy")
nginx=$(told "$of_nginx")
echo "haproxy: $haproxy"
echo "nginx:   $nginx"

mapped='PROXY TCP6 ::ffff:127.0.0.1 ::ffff:127.0.0.1 '
if [[ $haproxy == "$mapped"* && $nginx == "$mapped"* ]]; then
    echo "as stated: an IPv4 client is named in IPv6"
else
    echo "changed"
    exit 1
fi
