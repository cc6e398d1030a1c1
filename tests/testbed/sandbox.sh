#!/usr/bin/env bash
# sandbox.sh NAME: starts Supabase, OpenAI and photos as the hosts reach them; addresses and keys are in <state>/NAME.json.
# Stacks that run at the same time need one each. Safe to run again; down.sh stops all of them.
set -euo pipefail
cd "$(dirname "$0")/../.."
state=$PWD/.cache/testbed/state
name=$1
if kill -0 "$(cat "$state/$name.pid" 2>/dev/null)" 2>/dev/null && [[ -f $state/$name.json ]]; then exit; fi

rm -f "$state/$name.json"
gateway=$(docker network inspect -f '{{range .IPAM.Config}}{{.Gateway}} {{end}}' testbed | tr ' ' '\n' | grep -F . | head -n 1)
setsid nohup .venv/bin/python -m tests.testbed.sandbox "$gateway" "$state/$name.json" >"$state/$name.log" 2>&1 </dev/null &
echo $! >"$state/$name.pid"
for _ in $(seq 240); do [[ -f $state/$name.json ]] && exit; sleep 0.25; done
tail -n 20 "$state/$name.log" >&2
exit 1
