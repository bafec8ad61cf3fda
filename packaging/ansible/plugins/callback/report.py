# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Reports the result of a playbook on each machine to a Lychgate gateway.

Uses one connection, opened after the playbook has ended, with the certificate that is then in the identity folder: a
playbook may run longer than a certificate is valid. No error here fails a playbook.
"""

from __future__ import annotations

DOCUMENTATION = r"""
name: report
type: aggregate
short_description: Report the results of playbooks to a Lychgate gateway
description:
  - When a playbook has ended, reports to the gateway for each machine how many tasks succeeded, changed something,
    failed or were skipped, and how often the machine could not be reached. C(lychgate machines show) shows it as the
    last convergence.
  - A machine is a host with the variable C(lychgate_identity), which the inventory sets. Other hosts are ignored.
  - Runs in check mode and single tasks of C(ansible) are not reported, because they do not converge a machine.
  - A report that cannot be made is a warning and never fails the playbook.
author:
  - The Lychgate maintainers
requirements:
  - enable it by C(callbacks_enabled = lychgate.gateway.report) in the section C([defaults]) of ansible.cfg
options:
  dir:
    description: The folder of the identity that reports; the default of C(lychgate) when absent.
    type: path
    env:
      - name: LYCHGATE_DIR
    ini:
      - section: callback_lychgate_report
        key: dir
  manage:
    description: HOST:PORT of the gateway's manage face; the address in the folder when absent.
    type: str
    env:
      - name: LYCHGATE_MANAGE
    ini:
      - section: callback_lychgate_report
        key: manage
  timeout:
    description: Seconds to wait for one answer.
    type: int
    default: 10
    env:
      - name: LYCHGATE_REPORT_TIMEOUT
    ini:
      - section: callback_lychgate_report
        key: timeout
  deadline:
    description: Seconds that all reports of a playbook may take together.
    type: int
    default: 60
    env:
      - name: LYCHGATE_REPORT_DEADLINE
    ini:
      - section: callback_lychgate_report
        key: deadline
"""

import http.client
import json
import os
import re
import ssl
import time
import uuid

from ansible import context
from ansible.plugins.callback import CallbackBase
from ansible.release import __version__ as ansible_version

# Longest name of a playbook that the gateway accepts, in bytes.
PLAY_MAX = 255

# Longest reply that is read, in bytes: a problem document has some hundred.
ANSWER_MAX = 64 * 1024

IDENTITY = re.compile(r"spiffe://([a-z0-9.-]+)/machine/([a-z0-9-]+)")


class Refused(Exception):
    """The gateway refused one report."""


def default_folder():
    """The default folder of `lychgate`."""
    return "/var/lib/lychgate" if os.geteuid() == 0 else os.path.expanduser("~/.lychgate")


def split_address(text):
    """Splits HOST:PORT or [HOST]:PORT."""
    host, _, port = text.rpartition(":")
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not host or not port.isdigit():
        raise ValueError(f"`{text}` is not HOST:PORT")
    return host, int(port)


class Gateway:
    """The manage face, with the identity in a folder."""

    def __init__(self, folder, manage, timeout, deadline):
        self.timeout = timeout
        self.until = time.monotonic() + deadline
        with open(os.path.join(folder, "state.json"), encoding="utf-8") as file:
            state = json.load(file)
        self.domain = state["trust_domain"]
        self.address = split_address(manage or state["manage"])
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_3
        self.context.load_verify_locations(cafile=os.path.join(folder, "bundle.pem"))
        # Resolved once, so that a renewal at this moment cannot pair a certificate with another key.
        current = os.path.realpath(os.path.join(folder, "current"))
        self.context.load_cert_chain(os.path.join(current, "cert.pem"), os.path.join(current, "key.pem"))
        self.connection = None

    def remaining(self):
        """Time limit of the next operation, in seconds."""
        left = self.until - time.monotonic()
        if left <= 0:
            raise TimeoutError("the time for reports is over")
        return min(self.timeout, left)

    def is_open(self):
        """Whether there is a connection for the next request. http.client would open a new one by itself, without our check
        of the gateway's identity."""
        return self.connection is not None and self.connection.sock is not None

    def close(self):
        """Closes the connection."""
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def _connect(self):
        host, port = self.address
        connection = http.client.HTTPSConnection(host, port, timeout=self.remaining(), context=self.context)
        connection.connect()
        # The ssl module has checked root, host name, validity and extended key usage.
        names = connection.sock.getpeercert().get("subjectAltName", ())
        uris = [name for kind, name in names if kind == "URI"]
        if len(uris) != 1 or not uris[0].startswith(f"spiffe://{self.domain}/gateway/"):
            connection.close()
            raise ssl.SSLCertVerificationError(f"{host}:{port} is not a gateway of {self.domain}")
        self.connection = connection

    def _exchange(self, path, body):
        if not self.is_open():
            self._connect()
        self.connection.sock.settimeout(self.remaining())
        self.connection.request("POST", path, body, {"Content-Type": "application/json"})
        answer = self.connection.getresponse()
        return answer.status, answer.headers, answer.read(ANSWER_MAX)

    def report(self, machine, run):
        """Sends one report. Sending it twice has no effect, because it has an id."""
        path, body = f"/v1/machines/{machine}/reports", json.dumps(run).encode()
        kept = self.is_open()
        while True:
            try:
                status, headers, answer = self._exchange(path, body)
            except (http.client.HTTPException, ConnectionError):
                self.close()
                if not kept:
                    raise
                # The gateway may have closed an idle connection: retry with a new one. A new connection is not retried.
                kept = False
                continue
            if status == 429:
                wait = headers.get("Retry-After", "1")
                time.sleep(min(int(wait) if wait.isdigit() else 1, self.until_end()))
                continue
            if status != 200:
                raise Refused(words(status, answer))
            return

    def until_end(self):
        """Time until the deadline, in seconds."""
        self.remaining()
        return self.until - time.monotonic()


def words(status, answer):
    """The text of a problem document (RFC 9457)."""
    try:
        problem = json.loads(answer)
        return f"{problem['title']}: {problem['detail']} (the gateway knows this as {problem['instance']})"
    except (ValueError, KeyError, TypeError):
        return f"HTTP status {status}"


class CallbackModule(CallbackBase):
    """The callback plugin."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "lychgate.gateway.report"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, display=None):
        super().__init__(display=display)
        # One id for each run of ansible-playbook, also with several playbooks: their counts are added, and a later report
        # replaces the earlier one.
        self.run_id = str(uuid.uuid4())
        self.started = int(time.time())
        self.playbooks = []
        self.machines = {}
        # How often a host could not be reached. With `ignore_unreachable` Ansible counts the task that did not run as
        # successful.
        self.unreached = {}
        self.why_not = None

    def v2_playbook_on_start(self, playbook):
        name = getattr(playbook, "_file_name", None)
        if name == "__adhoc_playbook__":
            self.why_not = "a single task"
        elif name:
            self.playbooks.append(os.path.basename(name))
        if context.CLIARGS.get("check"):
            self.why_not = "check mode"

    def v2_playbook_on_play_start(self, play):
        if getattr(play, "check_mode", None) is True:
            self.why_not = "check mode"

    def v2_runner_on_start(self, host, task):
        # From the inventory only: facts come from the machine, which must not choose whose report this is.
        match = IDENTITY.fullmatch(str(host.get_vars().get("lychgate_identity", "")))
        if match:
            self.machines[host.get_name()] = match.groups()

    def v2_runner_on_unreachable(self, result):
        host = result._host.get_name()  # pylint: disable=protected-access
        self.unreached[host] = self.unreached.get(host, 0) + 1

    def v2_playbook_on_stats(self, stats):
        took_part = {host: machine for host, machine in self.machines.items() if host in stats.processed}
        if self.why_not or not took_part:
            self._display.vv(f"lychgate: nothing to report: {self.why_not or 'no machine of a gateway took part'}")
            return
        try:
            done, refused = self._report_all(stats, took_part)
        except Exception as error:  # pylint: disable=broad-except
            # No error here may fail the playbook, which has ended.
            self._display.warning(f"lychgate: the results were not reported: {error or type(error).__name__}")
            return
        if refused:
            first = "; ".join(refused[:3])
            self._display.warning(f"lychgate: {len(refused)} of {done + len(refused)} results were not taken: {first}")
        self._display.v(f"lychgate: reported the results of {done} machines")

    def _report_all(self, stats, took_part):
        gateway = Gateway(
            os.path.abspath(os.path.expanduser(self.get_option("dir") or default_folder())),
            self.get_option("manage"),
            self.get_option("timeout"),
            self.get_option("deadline"),
        )
        play = ", ".join(self.playbooks).encode()[:PLAY_MAX].decode(errors="ignore")
        done, refused = 0, []
        try:
            for host, (domain, machine) in sorted(took_part.items()):
                if domain != gateway.domain:
                    # A machine of another gateway. Ours may have another machine of that name.
                    continue
                count = stats.summarize(host)
                passed_over = max(0, self.unreached.get(host, 0) - count["unreachable"])
                run = {
                    "tool": "ansible",
                    "version": ansible_version,
                    "run_id": self.run_id,
                    "started": self.started,
                    "finished": max(self.started, int(time.time())),
                    "ok": max(0, count["ok"] - passed_over),
                    "changed": count["changed"],
                    "failed": count["failures"],
                    "unreachable": count["unreachable"] + passed_over,
                    "skipped": count["skipped"],
                }
                if play:
                    run["play"] = "".join(c if c.isprintable() else "?" for c in play)
                try:
                    gateway.report(machine, run)
                    done += 1
                except Refused as error:
                    refused.append(f"{host}: {error}")
        finally:
            gateway.close()
        return done, refused
