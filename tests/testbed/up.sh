#!/usr/bin/env bash
# Starts what a test host finds around itself, on the network `testbed` (IPv4 and IPv6):
#   the image registries under their real names, Docker's apt repository (http://apt.test), an ACME authority
#   (https://pebble.test:14000/dir) and a neighbour that looks at the hosts from outside.
# Everything is built from Debian packages and PyPI. Safe to run again: what is there stays. down.sh removes it.
#   up.sh            with the real worker image
#   WORKER=standin up.sh    with a worker that only answers
set -euo pipefail
cd "$(dirname "$0")/../.."
here=tests/testbed
state=$PWD/.cache/testbed/state
port=5000
mkdir -p "$state"
say() { printf '%s testbed: %s\n' "$(date +%T)" "$*"; }

setting() { sed -n "s/^$2: *\"\{0,1\}\([^\"# ]*\).*/\1/p" "roles/$1/defaults/main.yml"; }
image_of() { # role, and the first part of the variables' names where it is another
  echo "$(setting "$1" "${2:-$1}_image"):$(setting "$1" "${2:-$1}_tag")"
}

bash $here/engine.sh
bash $here/base.sh bookworm trixie forky

# --- images, under the names that the roles' defaults give them
secrets=()
# A machine behind a proxy of its own authority: pip has to trust it while images are built.
[[ -n ${PIP_CERT:-} ]] && secrets=(--secret "id=ca,src=$PIP_CERT")
build() { docker build -q "${secrets[@]}" "$@" >/dev/null; }
certbot_tag=$(setting certbot certbot_tag)
worker=$(setting worker worker_image):test
build --target python -t testbed/python $here
if [[ ${WORKER:-} == standin ]]; then
  build --target worker-standin -t "$worker" $here &
else
  say "building the worker image"
  build --build-arg PYTHON_IMAGE=testbed/python -t "$worker" . & # the longest: beside the others
fi
worker_build=$!
build --target host --build-arg HOST_SUITE=bookworm -t testbed/host:bookworm $here
for target in host registry pebble apt neighbour; do build --target $target -t "testbed/$target" $here; done
# A published image that is on this machine (make images) is taken as it is. Grafana and the bridge are always stand-ins:
# the scenarios look at what these have been sent.
pulled() { docker image inspect --format '{{range .RepoDigests}}{{println .}}{{end}}' "$1" 2>/dev/null | grep -q "^${1%:*}@"; }
images=() real=() standins=()
provide() { # target of the Dockerfile, image
  images+=("$2")
  if [[ $1 != grafana && $1 != whatsapp-bridge ]] && pulled "$2"; then real+=("$2") && return; fi
  build --target "$1" --build-arg "CERTBOT=${certbot_tag#v}" --build-context bridge=bridge -t "$2" $here
  [[ $(docker image inspect --format '{{.Config.Labels.testbed}}' "$2") == package ]] || standins+=("$2")
}
for service in redis nginx certbot; do provide $service "$(image_of $service)"; done
while read -r target role prefix; do
  provide "$target" "$(image_of "$role" "$prefix")"
done <<'LIST'
prometheus prometheus prometheus
node-exporter prometheus prometheus_node_exporter
redis-exporter redis redis_exporter
celery-exporter celery_exporter celery_exporter
grafana grafana grafana
loki loki loki
alloy alloy alloy
whatsapp-bridge whatsapp_bridge whatsapp_bridge
LIST
wait "$worker_build"
images+=("$worker")

# --- network and certificates of a throw-away authority
docker network inspect testbed >/dev/null 2>&1 || docker network create --ipv6 --subnet fd00:7e57::/64 testbed >/dev/null
if ! openssl x509 -in "$state/ca.crt" -noout -checkend 86400 >/dev/null 2>&1; then
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj "/CN=testbed CA" \
    -addext "keyUsage=critical,keyCertSign,cRLSign" -keyout "$state/ca.key" -out "$state/ca.crt" 2>/dev/null
  rm -f "$state"/*.san
fi
remove() { # container, if there is one
  docker ps -aq --filter "name=^/$1\$" | xargs -r docker rm -f >/dev/null
}

certificate() { # file name, DNS names
  local san
  san=$(printf 'DNS:%s,' "${@:2}")IP:127.0.0.1
  [[ $(cat "$state/$1.san" 2>/dev/null) == "$san" ]] && return
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$1" -keyout "$state/$1.key" 2>/dev/null |
    openssl x509 -req -CA "$state/ca.crt" -CAkey "$state/ca.key" -CAcreateserial -days 30 -out "$state/$1.crt" \
      -extfile <(printf 'subjectAltName=%s\nextendedKeyUsage=serverAuth\n' "$san") 2>/dev/null
  echo "$san" >"$state/$1.san"
  remove "testbed-$1"
}
# The default registry's own name, as the engine knows it.
hub=$(docker info --format '{{.IndexServerAddress}}' | sed 's|^https\{0,1\}://index\.\([^/]*\)/.*|registry-1.\1|')
registries=("$hub" ghcr.io)
certificate registry "${registries[@]}"
certificate pebble pebble.test
certificate managed managed.test # Redis of the scenario `workers`

start() { # name, aliases (comma separated), docker run options and command
  local name=testbed-$1 aliases
  # Another checkout's state has other certificates.
  local seen='{{.State.Running}} {{.Image}} {{range .Mounts}}{{if eq .Destination "/state"}}{{.Source}}{{end}}{{end}}'
  [[ $(docker inspect -f "$seen" "$name" 2>/dev/null) == "true $(docker image inspect -f '{{.Id}}' "testbed/$1") $state" ]] && return
  remove "$name"
  aliases=$(tr , '\n' <<<"$2" | sed 's/^./--network-alias &/')
  # shellcheck disable=SC2086
  docker run -d --name "$name" --network testbed $aliases -v "$state:/state:ro" "${@:3}" >/dev/null
}

# --- registry
cat >"$state/registry.yml" <<'YML'
version: 0.1
log: {level: warn}
storage: {filesystem: {rootdirectory: /var/lib/registry}, delete: {enabled: true}}
http: {addr: ":443", tls: {certificate: /state/registry.crt, key: /state/registry.key}}
YML
start registry "$(IFS=,; echo "${registries[*]}")" -v testbed-registry:/var/lib/registry -p 127.0.0.1:$port:443 testbed/registry
for _ in $(seq 60); do curl -fsS --cacert "$state/ca.crt" https://127.0.0.1:$port/v2/ >/dev/null 2>&1 && break; sleep 0.25; done
for image in "${images[@]}"; do
  path=$image
  case $image in ghcr.io/*) path=${image#*/} ;; */*) ;; *) path=library/$image ;; esac
  docker tag "$image" "127.0.0.1:$port/$path"
  docker push -q "127.0.0.1:$port/$path" >/dev/null
  docker rmi "127.0.0.1:$port/$path" >/dev/null
done

# --- the rest
start apt apt.test testbed/apt
start neighbour neighbour.test testbed/neighbour
cat >"$state/pebble.json" <<JSON
{"pebble": {"listenAddress": "0.0.0.0:14000", "managementListenAddress": "0.0.0.0:15000", "httpPort": 80, "tlsPort": 443,
  "certificate": "/state/pebble.crt", "privateKey": "/state/pebble.key", "ocspResponderURL": "",
  "externalAccountBindingRequired": false, "certificateValidityPeriod": 7776000}}
JSON
start pebble pebble.test -p 127.0.0.1:15000:15000 testbed/pebble
for _ in $(seq 60); do
  curl -fsS --cacert "$state/ca.crt" https://127.0.0.1:15000/roots/0 -o "$state/pebble-root.crt" 2>/dev/null && break
  sleep 0.25
done

bash $here/sandbox.sh sandbox
[[ -f $state/backup-identity.txt ]] || docker exec testbed-neighbour age-keygen >"$state/backup-identity.txt" 2>/dev/null
[[ -f $state/id_ed25519 ]] || ssh-keygen -q -t ed25519 -N '' -C testbed -f "$state/id_ed25519"
say "up: $(IFS=' '; echo "${images[*]}")"
say "stand-ins: $(IFS=' '; echo "${standins[*]:-none}"); published images: $(IFS=' '; echo "${real[*]:-none}"); the others: Debian's programs"
