#!/usr/bin/env bash
# Removes what up.sh started; images stay for the next time.
set -euo pipefail
cd "$(dirname "$0")/../.."
for pid in .cache/testbed/state/sandbox*.pid; do
  if [[ -f $pid ]]; then kill "$(cat "$pid")" 2>/dev/null || true; rm -f "$pid"; fi
done
docker ps -aq --filter network=testbed | xargs -r docker rm -fv >/dev/null
docker network ls -q --filter name=^testbed\$ | xargs -r docker network rm >/dev/null
