#!/usr/bin/env bash
# Deploys from a machine that has nothing: CI. All input is environment:
#   ACTION            deploy, rollback, provision, check (fails if the hosts differ from the repository) or rehearse (a restore)
#   VERSION           image tag or tag@sha256:...; for a rollback may be empty
#   BREAK_LOCK        true: breaks a rollout lock that a dead run left; default: false
#   SSH_KEY           private key that logs in to the hosts
#   SSH_KNOWN_HOSTS   their host keys; a host with another key, or none here, is not talked to
#   VAULT_PASSWORD    password of the inventory's vault files
#   DATABASE_URL      optional; deploy applies the worker's SQL functions with it, before the worker
#   BACKUP_IDENTITY   for rehearse: the age identity that opens the archives
#   INVENTORY         default: inventory/production
# Keys and passwords lie in a folder that only this process's user can read and that goes when it ends.
set -euo pipefail
cd "$(dirname "$0")/.."
for name in ACTION SSH_KEY SSH_KNOWN_HOSTS VAULT_PASSWORD; do
  [[ -n ${!name:-} ]] || { echo "$name is empty: docs/deploy.md, \"From GitHub\", says what to set where." >&2; exit 2; }
done
# Ansible takes a blank for the next variable and runs what stands in {{ }}.
[[ ${VERSION:-} =~ ^[A-Za-z0-9_.:@-]*$ ]] || { echo "VERSION is \"$VERSION\": it must be a tag or tag@sha256:..." >&2; exit 2; }
case $ACTION in
  deploy)
    : "${VERSION:?VERSION is empty: name the image tag to deploy.}"
    arguments=(${DATABASE_URL:+playbooks/database.yml} playbooks/provision_new.yml playbooks/update_worker.yml -e "worker_tag=$VERSION")
    [[ -n ${DATABASE_URL:-} ]] || echo "DATABASE_URL is empty: the SQL functions are not applied (docs/deploy.md, step 4)." >&2
    ;;
  rollback) arguments=(playbooks/rollback_worker.yml ${VERSION:+-e "to=$VERSION"}) ;;
  provision) arguments=(playbooks/site.yml) ;;
  check) arguments=(playbooks/site.yml --check) ;;
  rehearse) arguments=(playbooks/restore.yml -e check_only=true) ;;
  *) echo "ACTION is \"$ACTION\": deploy, rollback, provision, check and rehearse are known." >&2; exit 2 ;;
esac
if [[ ${BREAK_LOCK:-false} == true ]]; then arguments+=(-e break_lock=true); fi

umask 077
secrets=$(mktemp -d "${RUNNER_TEMP:-/tmp}/remote.XXXXXX")
trap 'rm -rf "$secrets"' EXIT
printf '%s\n' "$SSH_KEY" >"$secrets/key"
printf '%s\n' "$SSH_KNOWN_HOSTS" >"$secrets/known_hosts"
printf '%s\n' "$VAULT_PASSWORD" >"$secrets/vault"
if [[ $ACTION == rehearse ]]; then
  printf '%s\n' "${BACKUP_IDENTITY:?BACKUP_IDENTITY is empty: docs/deploy.md, \"Backups\".}" >"$secrets/identity"
  arguments+=(-e "identity=$secrets/identity")
fi
unset SSH_KEY VAULT_PASSWORD BACKUP_IDENTITY

export ANSIBLE_PRIVATE_KEY_FILE=$secrets/key ANSIBLE_VAULT_PASSWORD_FILE=$secrets/vault ANSIBLE_HOST_KEY_CHECKING=true
export ANSIBLE_SSH_COMMON_ARGS="-o UserKnownHostsFile=$secrets/known_hosts -o StrictHostKeyChecking=yes -o IdentitiesOnly=yes"
ansible-playbook --inventory "${INVENTORY:-inventory/production}" "${arguments[@]}" | tee "$secrets/output"
if [[ $ACTION == check ]] && grep -E 'changed=[1-9]' "$secrets/output" >&2; then
  echo "These hosts differ from the repository: \`make deploy ARGS='--check --diff'\` shows where, \`make deploy\` corrects it." >&2
  exit 1
fi
