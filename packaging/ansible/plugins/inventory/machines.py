# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The machines of a Lychgate gateway as an inventory.

The plugin runs `lychgate inventory --list` and adds Ansible's constructed groups and cache. It does not connect to the
gateway itself, so that paging, verification of the gateway, group names and escaping of self-reported text are the same
as with the inventory script.
"""

from __future__ import annotations

DOCUMENTATION = r"""
name: machines
short_description: Machines of a Lychgate gateway
description:
  - Reads the machines that a person may see from a Lychgate gateway, by running C(lychgate inventory --list).
  - The groups are C(label_KEY_VALUE), C(owner_NAME), C(os_NAME), C(assurance_LEVEL) and C(state_NAME).
  - The source is a YAML file whose name ends in C(lychgate.yml) or C(lychgate.yaml).
author:
  - The Lychgate maintainers
extends_documentation_fragment:
  - constructed
  - inventory_cache
options:
  plugin:
    description: Marks the file as a source of this plugin.
    required: true
    choices: [lychgate.gateway.machines]
  dir:
    description:
      - The folder of the identity to use; the default of C(lychgate) when absent.
    type: path
    env:
      - name: LYCHGATE_DIR
  lychgate:
    description: The C(lychgate) program, by its path or as the search path finds it.
    type: str
    default: lychgate
  states:
    description:
      - Machines in these states. The others cannot be reached, so a play would only fail on them.
    type: list
    elements: str
    choices: [active, expired, locked, reserved]
    default: [active]
  timeout:
    description: Seconds to wait for the gateway.
    type: int
    default: 60
"""

EXAMPLES = r"""
# site.lychgate.yml
plugin: lychgate.gateway.machines
dir: ~/.lychgate

# Groups by a label of your own choice, and by whether a machine has ever been configured.
keyed_groups:
  - prefix: rack
    key: lychgate_labels.rack
groups:
  never_configured: lychgate_convergence is none
compose:
  ansible_user: "'deploy'"
"""

import json
import os
import subprocess

from ansible.errors import AnsibleError, AnsibleParserError
from ansible.plugins.inventory import BaseInventoryPlugin, Cacheable, Constructable
from ansible.utils.unsafe_proxy import wrap_var


def _plain(fields):
    """Removes the markers with which the program marks unsafe text for Ansible's inventory script plugin."""
    if set(fields) == {"__ansible_unsafe"}:
        return fields["__ansible_unsafe"]
    return fields


class InventoryModule(BaseInventoryPlugin, Constructable, Cacheable):
    """The inventory plugin."""

    NAME = "lychgate.gateway.machines"

    def verify_file(self, path):
        return super().verify_file(path) and path.endswith(("lychgate.yml", "lychgate.yaml"))

    def parse(self, inventory, loader, path, cache=True):
        super().parse(inventory, loader, path, cache)
        self._read_config_data(path)
        self.load_cache_plugin()
        key = self.get_cache_key(path)
        listing = None
        if cache and self.get_option("cache"):
            listing = self._cache.get(key)
        if listing is None:
            listing = self._listing()
            if self.get_option("cache"):
                self._cache[key] = listing
        self._populate(listing)

    def _listing(self):
        command = [os.path.expanduser(self.get_option("lychgate"))]
        if self.get_option("dir"):
            command += ["--dir", self.get_option("dir")]
        command += ["inventory", "--list"]
        for state in self.get_option("states"):
            command += ["--state", state]
        # The folder is passed as an option, whether it comes from the environment or from the file.
        environment = {name: value for name, value in os.environ.items() if name != "LYCHGATE_DIR"}
        try:
            ended = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                env=environment,
                timeout=self.get_option("timeout"),
                check=False,
            )
        except OSError as error:
            raise AnsibleError(f"cannot run `{command[0]}`: {error}") from error
        except subprocess.TimeoutExpired as error:
            raise AnsibleError(f"`{command[0]} inventory` took longer than {error.timeout} s") from error
        if ended.returncode != 0:
            said = ended.stderr.decode(errors="replace").strip()
            raise AnsibleError(f"`{command[0]} inventory` failed with exit code {ended.returncode}: {said}")
        try:
            return json.loads(ended.stdout)
        except ValueError as error:
            raise AnsibleParserError(f"`{command[0]} inventory` printed no JSON: {error}") from error

    def _populate(self, listing):
        # Encoded and decoded again: a cache may return the object it was given, or a converted one.
        listing = json.loads(json.dumps(listing), object_hook=_plain)
        for name, group in listing.items():
            if name in ("_meta", "all"):
                continue
            self.inventory.add_group(name)
            for host in group.get("hosts", []):
                self.inventory.add_host(host, group=name)
        strict = self.get_option("strict")
        for host, variables in listing["_meta"]["hostvars"].items():
            self.inventory.add_host(host)
            # Machines report arbitrary text, and Ansible renders variables as templates: mark these as unsafe.
            variables = {name: wrap_var(value) for name, value in variables.items()}
            for name, value in variables.items():
                self.inventory.set_variable(host, name, value)
            self._set_composite_vars(self.get_option("compose"), variables, host, strict=strict)
            self._add_host_to_composed_groups(self.get_option("groups"), variables, host, strict=strict)
            self._add_host_to_keyed_groups(self.get_option("keyed_groups"), variables, host, strict=strict)
