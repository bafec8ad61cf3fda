#!/usr/bin/env bash
# One would expect: git runs the command in GIT_SSH_COMMAND once for a fetch, with `-p` for the port of a URL.
# Really: when its first word is not `ssh` (`gw ssh`, a wrapper) git runs it twice: first with -G and all options, to see whether it
# is OpenSSH. If that fails git takes it for a "simple" one and refuses any port; a wrapper that opens a connection opens two.
# Software: git 1:2.39.5-0+deb12u3 (Debian 12).
# Source: git-config(1), `ssh.variant`: auto runs the command "with the -G (print configuration) option".
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

unpack git=1:2.39.5-0+deb12u3
git() { GIT_EXEC_PATH=$dir/x/usr/lib/git-core HOME=$dir "$dir/x/usr/bin/git" "$@"; }

# Stands for `gw ssh`: notes how it was called and has no connection to give; with -G it ends as told.
cat >gw <<END
#!/bin/sh
echo "\$@" >>"$dir/calls"
case "\$*" in *-G*) exit "\$(cat "$dir/answer")" ;; esac
exit 1
END
chmod +x gw
fetch() {
    : >calls
    echo "$1" >answer
    GIT_SSH_COMMAND="$dir/gw ssh" git ls-remote "$2" >out 2>&1 || true
    sed 's/ -o SendEnv=GIT_PROTOCOL//; s/^/    /' calls
    grep '^fatal: ssh variant' out | sed 's/^/    /' || true
}
git --version
{
    echo "-G works:"
    fetch 0 ssh://edge-7:2222/repository
    echo "-G fails:"
    fetch 1 ssh://edge-7:2222/repository
} | tee found

cat >want <<'END'
-G works:
    ssh -G -p 2222 edge-7
    ssh -p 2222 edge-7 git-upload-pack '/repository'
-G fails:
    ssh -G -p 2222 edge-7
    fatal: ssh variant 'simple' does not support setting port
END
if cmp -s want found; then
    echo "as stated: two calls, and no port without -G"
else
    echo "changed"
    exit 1
fi
