"""The rendered stack of every inventory, checked by the programs that will read it."""

import json
import re
import subprocess
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
import yaml

from tests.programs import command, on_this_machine, runs_image_of
from tests.render import FULL, SPARSE
from tests.roles.conftest import ROOT, Rendered, program
from tests.roles.test_roles import LAYOUT
from worker.clients import REDIS_CONNECTIONS

#: A 4 GB host, without what the system itself needs; during a rollout its swap (roles/base) counts, too.
STEADY_LIMIT_MB, ROLLOUT_LIMIT_MB = 3400, 4300
#: More than Celery's own in a worker: its pool has 2 (worker/generation/celery/app.py).
CELERY_CONNECTIONS = 20
#: Of the supervisor, of the generations, of their leases (worker/generation/bootstrap.py).
POOLS = 3
#: 1.8 GB; while a rollout runs two workers, the swap file helps.
SMALL_LIMIT_MB = 1716


def megabytes(limit: str) -> int:
    number, unit = re.fullmatch(r"(\d+)([mg])", limit).groups()  # type: ignore[union-attr]
    return int(number) * (1024 if unit == "g" else 1)


def test_numbers_in_quotation_marks_mean_the_same(render: Callable[..., Rendered]) -> None:
    """Ansible takes them for numbers as it checks them, and gives templates the text; `-e` gives all values as text."""
    ports = {"base_public_ports": [443, 8443], "base_public_udp_ports": [443]}  # 443 is a role's, too
    texts: dict[str, str | list[str]] = {name: [str(port) for port in each] for name, each in ports.items()}
    for path in (ROOT / "roles").glob("*/meta/argument_specs.yml"):
        for name, option in yaml.safe_load(path.read_text())["argument_specs"]["main"].get("options", {}).items():
            default, kinds = option.get("default", "{{"), {option["type"], option.get("elements")}
            if kinds & {"int", "float"} and "{{" not in str(default) and name not in ports:
                texts[name] = [str(each) for each in default] if isinstance(default, list) else str(default)
    numbers, quoted = (render("local", **FULL, **more).folder for more in (ports, texts))
    for path in numbers.rglob("*"):
        if path.is_file() and path.name != "alerts.json":  # of the tests: with the values as they were given
            other = quoted / path.relative_to(numbers)
            assert other.read_text().replace(str(quoted), str(numbers)) == path.read_text(), path


#: With the server eight hosts; the play of the second run takes one more out (playbooks/remove_worker.yml).
WORKERS = ["beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta"]


@pytest.fixture(scope="module")
def two_runs(render: Callable[..., Rendered]) -> list[Path]:
    """Files of a server with further workers, rendered by two runs whose sets have different orders."""
    folders = []
    for seed, workers, leaving in (("1", WORKERS, ""), ("2", [*WORKERS, "leaver"], "leaver")):
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("PYTHONHASHSEED", seed)
            hosts = {"further_workers": workers, "server_address": "10.0.0.1", "leaving_host": leaving}
            stack = render("production", **hosts, worker_replicas=2, redis_maxclients=3000)
            folders.append(stack.folder)
    return folders


def test_two_runs_render_the_same_bytes_and_nothing_of_a_host_that_left(two_runs: list[Path]) -> None:
    """Sets have another order in each run; without a sort a second site.yml changes files now and then."""
    runs = []
    for folder in two_runs:
        files = {path.relative_to(folder): path.read_text() for path in folder.rglob("*") if path.is_file()}
        runs.append({name: text.replace(str(folder), "") for name, text in files.items()})
    assert "delta" in str(runs[0])
    assert runs[0] == runs[1]


def test_eight_hosts_with_two_workers_each_are_routed_to_and_scraped(two_runs: list[Path]) -> None:
    folder, addresses = two_runs[0], [f"10.0.1.{number}" for number in range(1, 8)]
    places = {name: (f"{address}:8001", f"{address}:8011") for name, address in zip(WORKERS, addresses, strict=True)}
    places["wearon-1"] = ("172.30.250.11:8000", "172.30.250.21:8000")
    for name, servers in places.items():
        upstream = (folder / f"nginx/upstreams/worker/{name}.conf").read_text()
        assert re.findall(r"^server (\S+) max_fails=2 fail_timeout=5s; # blue$", upstream, re.M) == [*servers], name

    groups = yaml.safe_load((folder / "prometheus/targets.d/worker.yml").read_text())
    scraped = {tuple(one["labels"][it] for it in ("host", "colour", "replica")): one["targets"][0] for one in groups}
    assert len(scraped) == len(groups) == 8 * 2 * 2
    assert scraped["wearon-1", "green", "2"] == "worker-green-2:8000"
    assert scraped["theta", "green", "2"] == "10.0.1.7:8012"


def test_firewall_is_open_to_the_replicas_that_a_rollout_may_still_start_or_stop(two_runs: list[Path]) -> None:
    """site.yml writes it before a rollout, and update_worker.yml not at all."""
    opened = re.findall(
        r"ip saddr { 10\.0\.1\.1,.* tcp dport { (.*) } accept", (two_runs[0] / "etc/wearon/firewall.nft").read_text()
    )
    ports = {str(port) for number in range(8) for port in (8001 + 10 * number, 8002 + 10 * number)}
    assert ports | {"6379"} <= set(opened[0].split(", "))


def test_replicas_differ_in_nothing_but_their_place(two_runs: list[Path]) -> None:
    services = yaml.safe_load((two_runs[0] / "compose.d/worker.yml").read_text())["services"]
    assert [*services] == ["worker-blue", "worker-green", "worker-blue-2", "worker-green-2"]
    second = json.dumps(services["worker-blue-2"]).replace("worker-blue-2-", "worker-blue-").replace("250.21", "250.11")
    assert second == json.dumps(services["worker-blue"])


def test_redis_has_connections_for_eight_hosts_in_the_middle_of_a_rollout() -> None:
    needed = int(re.search(r"2 \* (\d+) \* workers", (ROOT / "roles/redis/tasks/preflight.yml").read_text())[1])  # type: ignore[index]
    assert needed >= POOLS * REDIS_CONNECTIONS + CELERY_CONNECTIONS
    defaults = yaml.safe_load((ROOT / "roles/redis/defaults/main.yml").read_text())
    assert defaults["redis_maxclients"] >= 8 * 2 * needed


def test_every_service_is_confined(rendered: Rendered) -> None:
    for name, service in rendered.services().items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert "cap_add" not in service, name
        assert "privileged" not in service, name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["user"].split(":")[0] not in {"0", "root"}, name
        assert service["pids_limit"] > 0, name
        assert service["logging"]["options"]["max-size"], name
        assert service.get("restart") == "unless-stopped" or service["profiles"], name
        assert service["healthcheck"].get("test") or service["profiles"], name
        assert ":" in service["image"], name
        assert not any("docker.sock" in volume for volume in service.get("volumes", [])), name


def test_only_nginx_publishes_ports(rendered: Rendered) -> None:
    assert {name for name, service in rendered.services().items() if service.get("ports")} == {"nginx"}


def test_memory_limits_fit_a_small_host(rendered: Rendered) -> None:
    limits = {name: megabytes(one["mem_limit"]) for name, one in rendered.services().items()}
    assert {"worker-blue", "worker-green"} <= set(limits)  # both run while one takes over from the other
    passing = limits["worker-green"] + limits["certbot"]  # certbot runs for a minute
    assert sum(limits.values()) - passing < STEADY_LIMIT_MB
    assert sum(limits.values()) <= ROLLOUT_LIMIT_MB
    assert limits["grafana"] >= 768  # its plugins are programs of their own; up to 603 MB have been seen
    assert rendered.services()["grafana"]["pids_limit"] >= 512


def test_up_leaves_the_colours_to_the_rollout(rendered: Rendered) -> None:
    """`up` and site.yml neither start nor stop a worker, even at the same time."""
    colours = {name: one for name, one in rendered.services().items() if name.startswith("worker-")}
    assert [one["profiles"] for one in colours.values()] == [["worker"], ["worker"]]
    assert all(int(one["stop_grace_period"].rstrip("s")) > 310 for one in colours.values())


def test_colours_differ_in_nothing_but_their_place(rendered: Rendered) -> None:
    blue, green = (json.dumps(rendered.services()[f"worker-{colour}"]) for colour in ("blue", "green"))
    address = {colour: LAYOUT["worker_colours"][colour]["address"] for colour in ("blue", "green")}
    assert blue.replace("blue", "green").replace(address["blue"], address["green"]) == green


def test_serving_colour_is_the_first_one_of_the_upstream(rendered: Rendered) -> None:
    """After the switch the old colour stands behind the new one; what was a rollout is read back from this file."""
    folder = rendered.folder / "nginx/upstreams/worker"
    assert re.findall(r"^server \S+ (\w+).*# (\w+)$", (folder / "rolling.conf").read_text(), re.M) == [
        ("max_fails", "blue"),
        ("backup", "green"),
    ]
    assert re.findall(r"# (\w+)$", (folder / "first.conf").read_text(), re.M) == ["blue"]


def test_redis_data_fits_its_container_with_room_to_save(rendered: Rendered) -> None:
    limit = re.search(r"^maxmemory (\d+)mb$", (rendered.folder / "redis/conf/redis.conf").read_text(), re.M)
    assert limit
    assert int(limit[1]) <= 0.65 * megabytes(rendered.services()["redis"]["mem_limit"])


def test_no_secret_stands_in_a_fragment(rendered: Rendered) -> None:
    for path in rendered.folder.rglob("*"):
        if path.is_file() and path.parent.name != "tls":
            assert not re.search("dummy-dummy|CHANGE_ME", path.read_text()), path


def test_api_keys_reach_the_worker_as_hashes_and_get_a_limit_of_their_own(render: Callable[..., Rendered]) -> None:
    """The limit per address without a key stays."""
    with_keys, without = render("local"), render("production")
    keys = json.loads(with_keys.services()["worker-blue"]["environment"]["SIZING_API_KEYS"])
    limits = [(one.folder / "nginx").rglob("worker.conf") for one in (with_keys, without)]
    texts = ["".join(path.read_text() for path in found) for found in limits]

    assert keys == {"app": {"sha256": sha256(b"-".join([b"dummy"] * 7)).hexdigest(), "per_minute": 600}}
    assert ["zone=worker_estimate_key:" in text for text in texts] == [True, False]
    assert all("zone=worker_estimate:" in text for text in texts)


def test_managed_redis_leaves_no_own_one_and_needs_no_password_of_ours(render: Callable[..., Rendered]) -> None:
    assert "redis" not in render("local", **SPARSE).services()


def test_archive_names_the_queue_of_a_managed_redis_as_missing(render: Callable[..., Rendered], tmp_path: Path) -> None:
    hook = render("local", **SPARSE).folder / "backup.d/redis"
    for verb in ("save", "restore", "check"):
        said = subprocess.run(["sh", hook, verb, tmp_path], capture_output=True, text=True, check=True).stdout
        assert ("The queue is not in this archive" in said) is (verb != "check")
    assert "its provider makes the backups" in (tmp_path / "managed.txt").read_text()
    own = render("local").folder / "backup.d/redis"
    assert subprocess.run(["sh", own, "restore", tmp_path], check=False).returncode == 0, "the queue stays as it is"


def test_compose_accepts_the_project(rendered: Rendered) -> None:
    is_accepted(on_this_machine("docker-compose"), "-f", rendered.project(), "config", "--quiet")


def test_nginx_accepts_its_configuration(rendered: Rendered) -> None:
    folder = rendered.folder / "nginx"
    key, certificate = folder / "tls/privkey.pem", folder / "tls/fullchain.pem"
    request = [
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-subj",
        "/CN=x",
        "-days",
        "1",
    ]
    is_accepted(on_this_machine("openssl"), *request, "-keyout", key, "-out", certificate)
    configuration = folder / "staged/nginx.conf"
    if not runs_image_of("nginx"):
        configuration = with_own_types(configuration)
    is_accepted(*command("nginx", folder), "-t", "-q", "-e", "stderr", "-c", configuration)


def with_own_types(configuration: Path) -> Path:
    """Copy the configuration for an nginx without the file of media types that its image and its package have."""
    types, copy = configuration.with_name("types"), configuration.with_name("own.conf")
    types.write_text("types { text/html html; }")
    copy.write_text(configuration.read_text().replace("/etc/nginx/mime.types", str(types)))
    return copy


def is_accepted(*command: str | Path) -> None:
    result = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_small_stack_fits_a_host_of_2_gb(render: Callable[..., Rendered]) -> None:
    small = render("local", stack_size="small", **FULL)
    included = {Path(one["path"]).stem for one in yaml.safe_load(small.project().read_text())["include"]}
    assert {"loki", "alloy"} & included == set()
    fragments = [yaml.safe_load((small.folder / f"compose.d/{name}.yml").read_text()) for name in included]
    services = {name: one for fragment in fragments for name, one in fragment["services"].items() if name != "certbot"}
    limits = {name: megabytes(one["mem_limit"]) for name, one in services.items()}
    assert {"grafana", "prometheus", "redis", "nginx", "whatsapp-bridge", "worker-blue"} < set(limits)
    assert sum(limits.values()) - limits["worker-green"] <= SMALL_LIMIT_MB
    redis = re.search(r"^maxmemory (\d+)mb$", (small.folder / "redis/conf/redis.conf").read_text(), re.M)
    assert redis
    assert int(redis[1]) <= 0.65 * limits["redis"]


@pytest.mark.parametrize(("size", "memory"), [("full", 3700), ("small", 1850)])
def test_preflight_knows_the_limits_and_lets_usual_hosts_pass(
    render: Callable[..., Rendered], size: str, memory: int
) -> None:
    """A server with 4 GB reports some 3800 MB, one with 2 GB some 1900."""
    stack = render("local", **{**FULL, **({"stack_size": "small"} if size == "small" else {})})
    included = [stack.folder / one["path"] for one in yaml.safe_load(stack.project().read_text())["include"]]
    services = {k: v for path in included for k, v in yaml.safe_load(path.read_text())["services"].items()}
    limits = {name: megabytes(one["mem_limit"]) for name, one in services.items() if name != "worker-green"}
    roles = {path.stem for path in included}
    specs = [(ROOT / f"roles/{role}/meta/argument_specs.yml").read_text() for role in sorted(roles)]
    known = program("preflight", "memory", "filter_plugins").memory_limits(specs, {}, size == "small")
    assert sorted(known.values()) == sorted(limits.values())
    assert sum(known.values()) - known["certbot_memory_limit"] <= memory


def test_small_stack_asks_loki_nothing(render: Callable[..., Rendered]) -> None:
    """A rule or a data source without a Loki would be an alert for ever."""
    small = render("local", stack_size="small", **FULL)
    provisioning = small.folder / "grafana/staged/provisioning"
    for path in provisioning.rglob("*.yml"):
        assert "datasourceUid: loki" not in path.read_text(), path
        assert "url: http://loki" not in path.read_text(), path
    assert "loki-down" not in (provisioning / "alerting/rules.yml").read_text()


def test_small_stack_deletes_the_rules_of_the_full_one(render: Callable[..., Rendered]) -> None:
    """Grafana keeps a rule that is no longer in its files; without Loki and Alloy such a rule fires for ever."""
    rules = "grafana/staged/provisioning/alerting/rules.yml"
    full, small = (
        yaml.safe_load((render("local", **FULL, **size).folder / rules).read_text())
        for size in ({}, {"stack_size": "small"})
    )
    before, after = ({rule["uid"] for group in one["groups"] for rule in group["rules"]} for one in (full, small))
    assert {"logs-missing", "logs-dropped", "nginx-errors", "worker-log-errors"} == before - after
    assert before - after == {rule["uid"] for rule in small["deleteRules"]}
