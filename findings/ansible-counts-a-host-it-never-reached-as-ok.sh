#!/usr/bin/env bash
# One would expect: a play with `ignore_unreachable: true` goes on past a host that cannot be reached, and still counts it so.
# Really: for such a host each task that never ran counts as ok, `unreachable` stays 0, and ansible-playbook ends with 0. Who reads
# the counts (a callback plugin at v2_playbook_on_stats, or the recap) sees a run that went well, with `ignored` alone to
# tell; v2_runner_on_unreachable is called all the same.
# Software: ansible-core 2.19.14 (PyPI), OpenSSH client as installed.
# Source: Ansible's guide on error handling shows the keyword and says nothing of the counts.
set -euo pipefail

dir=$(mktemp -d)
pids=()
finish() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    rm -rf "$dir"
}
trap finish EXIT
cd "$dir"

python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check ansible-core==2.19.14

mkdir callbacks
cat >callbacks/counts.py <<'END'
DOCUMENTATION = """
name: counts
type: aggregate
short_description: Prints the counts
description: Prints what a callback plugin is told.
"""

from ansible.plugins.callback import CallbackBase


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "counts"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self):
        super().__init__()
        self.calls = 0

    def v2_runner_on_unreachable(self, result):
        self.calls += 1

    def v2_playbook_on_stats(self, stats):
        count = stats.summarize("gone")
        names = ("ok", "unreachable", "failures", "ignored")
        print("counts:", f"calls={self.calls}", *(f"{name}={count[name]}" for name in names))
END
cat >ansible.cfg <<'END'
[defaults]
callback_plugins = ./callbacks
callbacks_enabled = counts
[ssh_connection]
ssh_args = -F none
END
# A port where nobody listens.
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
echo "gone ansible_host=127.0.0.1 ansible_port=$port" >inventory
play() {
    cat >play.yml <<END
- hosts: gone
  gather_facts: false
  ignore_unreachable: $1
  tasks:
    - command: "true"
    - command: "true"
END
    local rc=0
    HOME=$dir ANSIBLE_CONFIG=$dir/ansible.cfg venv/bin/ansible-playbook -i inventory play.yml >out 2>&1 || rc=$?
    echo "ignore_unreachable: $1: exit $rc, $(grep '^counts:' out)"
}
venv/bin/ansible-playbook --version | sed -n 1p
{ play false && play true; } | tee found

cat >want <<'END'
ignore_unreachable: false: exit 4, counts: calls=1 ok=0 unreachable=1 failures=0 ignored=0
ignore_unreachable: true: exit 0, counts: calls=2 ok=2 unreachable=0 failures=0 ignored=2
END
if cmp -s want found; then
    echo "as stated: two tasks ok on a host that was never reached"
else
    echo "changed"
    exit 1
fi
