#!/usr/bin/env bash
# Removes what up.sh started; images stay for the next time.
set -euo pipefail
docker ps -aq --filter network=testbed | xargs -r docker rm -fv >/dev/null
docker network rm testbed >/dev/null 2>&1 || true
