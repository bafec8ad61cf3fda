#!/usr/bin/env bash
# One would expect: sshd reads its host keys and HostCertificate when it starts, so a renewed certificate needs a reload.
# Really: the process that serves a connection reads the files again, so the next connection is shown the new certificate,
# and even a new host key with it. (Series from 9.8 on hand the keys over from the listener, by their source: keep reloading.)
# Software: OpenSSH server and client 1:9.2p1-2+deb12u10 (Debian 12).
# Source: none; sshd(8) says only that SIGHUP makes it read its configuration again.
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

unpack openssh-client=1:9.2p1-2+deb12u10 openssh-server=1:9.2p1-2+deb12u10
bin=$dir/x/usr/bin
as=()
if [ "$(id -u)" = 0 ]; then
    # As root sshd wants a user and a folder of the installed package; it needs neither to show its key.
    chmod 755 "$dir"
    as=(setpriv --reuid 65534 --regid 65534 --clear-groups)
fi

"$bin/ssh-keygen" -q -t ed25519 -N '' -C ca -f ca
"$bin/ssh-keygen" -q -t ed25519 -N '' -C host -f host
sign() { "$bin/ssh-keygen" -q -s ca -h -I "certificate-$1" -z "$1" -n node -V -1h:+1h host.pub; }
sign 1
echo "@cert-authority node $(cat ca.pub)" >known_hosts

port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
cat >sshd_config <<END
Port $port
ListenAddress 127.0.0.1
HostKey $dir/host
HostCertificate $dir/host-cert.pub
PidFile none
UsePAM no
AuthorizedKeysFile none
END
[ ${#as[@]} = 0 ] || chown -R 65534:65534 "$dir"
"${as[@]}" "$dir/x/usr/sbin/sshd" -D -e -f "$dir/sshd_config" >sshd.log 2>&1 &
pids+=($!)

shown() {
    "$bin/ssh" -v -F none -p "$port" -o UserKnownHostsFile=known_hosts -o GlobalKnownHostsFile=none -o HostKeyAlias=node \
        -o BatchMode=yes -o IdentityFile=none nobody@127.0.0.1 true </dev/null 2>&1 |
        sed -n 's/.*Server host certificate: .*, serial \([0-9]*\) .*/\1/p' || true
}

"$bin/ssh" -V 2>&1
first=
for _ in $(seq 50); do
    first=$(shown)
    [ -z "$first" ] || break
    sleep 0.1
done
sign 2
second=$(shown)
echo "serial shown before the new certificate was written: $first"
echo "serial shown after, to the same sshd without a signal: $second"

if [ "$first" = 1 ] && [ "$second" = 2 ]; then
    echo "as stated: the next connection is shown the new certificate"
else
    echo "changed"
    exit 1
fi
