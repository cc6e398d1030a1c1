#!/usr/bin/env bash
# Logs in to the server of the inventory as Ansible does, or runs a command there: INVENTORY=... scripts/ssh.sh [command]
set -euo pipefail
inventory=$(ansible-inventory --list ${INVENTORY:+-i "$INVENTORY"})
mapfile -t arguments < <(printf '%s' "$inventory" | python3 -c '
import json, sys
inventory = json.load(sys.stdin)
name = inventory["server"]["hosts"][0]
found = inventory["_meta"]["hostvars"].get(name, {})
for flag, variable in (("-p", "ansible_port"), ("-l", "ansible_user"), ("-i", "ansible_ssh_private_key_file")):
    if variable in found:
        print(flag, found[variable], sep="\n")
print(found.get("ansible_host", name))')
exec ssh -t "${arguments[@]}" "$@"
