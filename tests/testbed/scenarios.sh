#!/usr/bin/env bash
# scenarios.sh LANE...: runs Molecule scenarios in lanes side by side. A lane is a list `one,two`, run one after the other.
# Each lane has a sandbox of its own; each line of output begins with its scenario. All lanes come to their end.
set -euo pipefail
cd "$(dirname "$0")/../.."

# Every run of a playbook, also those of the tests, takes Ansible's modules from here instead of building them anew.
export ANSIBLE_CALLBACK_PLUGINS=$PWD/tests/testbed/callback_plugins
export TESTBED_MODULES=$PWD/.cache/testbed/modules
rm -rf "$TESTBED_MODULES" .cache/molecule
mkdir -p .cache/molecule # SCENARIO.log: the tests of a scenario while they run

run_lane() { # number, scenarios
  bash tests/testbed/sandbox.sh "sandbox-$1"
  export TESTBED_SANDBOX=$PWD/.cache/testbed/state/sandbox-$1.json
  for scenario in ${2//,/ }; do
    molecule test --scenario-name "$scenario" 2>&1 | sed -u "s/^/$scenario | /"
  done
}

number=0 pids=() failed=()
for lane in "$@"; do
  number=$((number + 1))
  run_lane "$number" "$lane" &
  pids+=($!)
done
for index in "${!pids[@]}"; do
  wait "${pids[$index]}" || failed+=("${@:index+1:1}")
done
((${#failed[@]} == 0)) || { echo "Failed: ${failed[*]}" >&2; exit 1; }
