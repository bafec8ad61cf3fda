#!/usr/bin/env bash
# One would expect: a machine named `1234` or `0x10` (asset tags look so) reaches ProxyCommand as %h under that name.
# Really: ssh reads such a name as an IPv4 address in the old notation of inet_aton(3) and hands on 0.0.4.210, while %n and
# %k keep the name. One that is too big for 32 bits, such as 4294967296, stays a name. `HostName %h.example` is expanded
# before that and is safe.
# Software: OpenSSH client 1:9.2p1-2+deb12u10 (Debian 12).
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

cat >config <<END
Host *
    ProxyCommand sh -c 'echo "%h %n %k" >>$dir/seen'
END

"$ssh" -V 2>&1
for name in 1234 0x10 4294967296 edge-7; do
    "$ssh" -F config -T -o BatchMode=yes "$name" </dev/null >/dev/null 2>&1 || true
done
echo "%h %n %k as ProxyCommand saw them:"
sed 's/^/    /' seen
printf 'Host *\n    HostName %%h.machine.example\n' >suffix
with_suffix=$("$ssh" -F suffix -T -G 1234 | grep '^hostname ')
echo "with HostName %h.machine.example: $with_suffix"

cat >want <<'END'
0.0.4.210 1234 1234
0.0.0.16 0x10 0x10
4294967296 4294967296 4294967296
edge-7 edge-7 edge-7
END
if cmp -s want seen && [ "$with_suffix" = "hostname 1234.machine.example" ]; then
    echo "as stated: a numeric name becomes an address"
else
    echo "changed"
    exit 1
fi
