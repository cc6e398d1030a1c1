#!/usr/bin/env bash
# Deploys from a machine that has nothing: CI. All input is environment:
#   ACTION            deploy, rollback or provision
#   VERSION           image tag or tag@sha256:...; for a rollback may be empty
#   BREAK_LOCK        true: breaks a rollout lock that a dead run left; default: false
#   SSH_KEY           private key that logs in to the hosts
#   SSH_KNOWN_HOSTS   their host keys; a host with another key, or none here, is not talked to
#   VAULT_PASSWORD    password of the inventory's vault files
#   INVENTORY         default: inventory/production
# Keys and passwords lie in a folder that only this process's user can read and that goes when it ends.
set -euo pipefail
cd "$(dirname "$0")/.."
for name in ACTION SSH_KEY SSH_KNOWN_HOSTS VAULT_PASSWORD; do
  [[ -n ${!name:-} ]] || { echo "$name is empty: docs/deploy.md, \"From GitHub\", says what to set where." >&2; exit 2; }
done
case $ACTION in
  deploy)
    : "${VERSION:?VERSION is empty: name the image tag to deploy.}"
    arguments=(playbooks/provision_new.yml playbooks/update_worker.yml -e "worker_tag=$VERSION")
    ;;
  rollback) arguments=(playbooks/rollback_worker.yml ${VERSION:+-e "to=$VERSION"}) ;;
  provision) arguments=(playbooks/site.yml) ;;
  *) echo "ACTION is \"$ACTION\": deploy, rollback and provision are known." >&2; exit 2 ;;
esac
if [[ ${BREAK_LOCK:-false} == true ]]; then arguments+=(-e break_lock=true); fi

umask 077
secrets=$(mktemp -d "${RUNNER_TEMP:-/tmp}/remote.XXXXXX")
trap 'rm -rf "$secrets"' EXIT
printf '%s\n' "$SSH_KEY" >"$secrets/key"
printf '%s\n' "$SSH_KNOWN_HOSTS" >"$secrets/known_hosts"
printf '%s\n' "$VAULT_PASSWORD" >"$secrets/vault"
unset SSH_KEY VAULT_PASSWORD

export ANSIBLE_PRIVATE_KEY_FILE=$secrets/key ANSIBLE_VAULT_PASSWORD_FILE=$secrets/vault ANSIBLE_HOST_KEY_CHECKING=true
export ANSIBLE_SSH_COMMON_ARGS="-o UserKnownHostsFile=$secrets/known_hosts -o StrictHostKeyChecking=yes -o IdentitiesOnly=yes"
ansible-playbook --inventory "${INVENTORY:-inventory/production}" "${arguments[@]}"
