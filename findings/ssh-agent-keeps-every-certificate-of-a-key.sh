#!/usr/bin/env bash
# One would expect: adding a key again with its renewed certificate replaces the old certificate in the agent, as adding a
# plain key again replaces that; and `ssh-add -d` removes what belongs to the key.
# Really: the agent tells identities apart by the whole certificate. Each renewal adds one more; ssh offers the old ones first,
# and sshd ends the connection after six. `ssh-add -d` removes the key and the certificate that lies beside it now; older
# ones stay, each with a copy of the private key.
# Software: OpenSSH client 1:9.2p1-2+deb12u10 (Debian 12).
# Source: none; ssh-add(1) speaks of "the certificate" beside the key. Only a lifetime (-t) ends the old ones.
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
bin=$dir/x/usr/bin
export SSH_AUTH_SOCK=$dir/agent
"$bin/ssh-agent" -D -a "$SSH_AUTH_SOCK" >/dev/null &
pids+=($!)
for _ in $(seq 50); do
    [ ! -S "$SSH_AUTH_SOCK" ] || break
    sleep 0.1
done

"$bin/ssh" -V 2>&1
"$bin/ssh-keygen" -q -t ed25519 -N '' -C ca -f ca
"$bin/ssh-keygen" -q -t ed25519 -N '' -C alice -f id
for serial in 1 2 3; do
    "$bin/ssh-keygen" -q -s ca -I alice -z "$serial" -n alice -V -1h:+1h id.pub
    "$bin/ssh-add" -q id
done
count() { "$bin/ssh-add" -l | grep -c "$1" || true; }
echo "after one key was added three times, each time with a newer certificate:"
"$bin/ssh-add" -l | sed 's/^/    /'
plain=$(count '(ED25519)')
certificates=$(count '(ED25519-CERT)')
"$bin/ssh-add" -q -d id
echo "after ssh-add -d:"
"$bin/ssh-add" -l | sed 's/^/    /' || true
left=$(count '(ED25519-CERT)')

if [ "$plain $certificates $left" = "1 3 2" ]; then
    echo "as stated: one plain key, three certificates, two of them left"
else
    echo "changed: $plain plain, $certificates certificates, $left left"
    exit 1
fi
