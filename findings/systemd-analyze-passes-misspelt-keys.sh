#!/usr/bin/env bash
# One would expect: `systemd-analyze verify` in a build fails for a unit with a misspelt key, since it complains of it.
# Really: it says `Unknown key ... ignoring` and ends with 0, so a `ProtectSystm=strict` passes. It ends with 1 for a program in
# ExecStart that is not there. Only `--recursive-errors=no` (or yes, or one), which by its name is about other units, makes
# a complaint count.
# Software: systemd 252.39-1~deb12u2 (Debian 12).
# Source: systemd-analyze(1) at --recursive-errors: without it "zero is returned as the exit status regardless" of warnings.
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

unpack systemd=252.39-1~deb12u2 libsystemd-shared=252.39-1~deb12u2
libraries=$(dirname "$(find "$dir/x" -name 'libsystemd-core-*.so')"):$(dirname "$(find "$dir/x" -name 'libsystemd-shared-*.so')")
analyze() { LD_LIBRARY_PATH=$libraries "$dir/x/usr/bin/systemd-analyze" "$@"; }

printf '[Service]\nExecStart=/bin/sh -c true\nProtectSystem=strict\n' >right.service
printf '[Service]\nExecStart=/bin/sh -c true\nProtectSystm=strict\n' >misspelt.service
printf '[Service]\nExecStart=/no/such/program\n' >absent.service

ask() {
    local rc=0
    analyze verify "${@:2}" "./$1.service" >out 2>&1 || rc=$?
    echo "verify ${*:2} $1.service: exit $rc" | tr -s ' '
}
analyze --version | sed -n 1p
{
    ask right
    ask misspelt
    sed -n 's/^/    /p' out | grep -i unknown | sed "s|$dir/||" >&2
    ask absent
    ask right --recursive-errors=no
    ask misspelt --recursive-errors=no
} | tee found

cat >want <<'END'
verify right.service: exit 0
verify misspelt.service: exit 0
verify absent.service: exit 1
verify --recursive-errors=no right.service: exit 0
verify --recursive-errors=no misspelt.service: exit 1
END
if cmp -s want found; then
    echo "as stated: the misspelt key passes"
else
    echo "changed"
    exit 1
fi
