#!/usr/bin/env bash
# One would expect: names of hosts know no case, so `ssh EDGE-7` finds the block `Host edge-7`, as DNS would find the name.
# Really: ssh makes the name it connects to lower case, yet compares `Host` patterns with what was typed. The block with its
# ProxyCommand is passed over without a word, and ssh goes to the address that DNS has for the lower-case name.
# Software: OpenSSH client 1:9.2p1-2+deb12u10 (Debian 12).
# Source: ssh_config(5), `Host`: "the name is not converted to a canonicalized host name before matching".
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

unpack openssh-client=1:9.2p1-2+deb12u10
ssh=$dir/x/usr/bin/ssh

cat >config <<'END'
Host edge-7
    ProxyCommand /bin/false
END

"$ssh" -V 2>&1
for name in edge-7 EDGE-7; do
    "$ssh" -F config -T -G "$name" | grep -E '^(hostname|proxycommand) ' >"$name.out" || true
    echo "ssh $name:"
    sed 's/^/    /' "$name.out"
done

if grep -q '^proxycommand ' edge-7.out && ! grep -q '^proxycommand ' EDGE-7.out && grep -qx 'hostname edge-7' EDGE-7.out; then
    echo "as stated: the host is the same, the block is not found"
else
    echo "changed"
    exit 1
fi
