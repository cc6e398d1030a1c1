"""The end of the scenario: after all that the other files did no secret stands in a log, on the host or in Loki."""

import time

import pytest
from testinfra.host import Host

from tests.molecule.hosts import SECRETS, ask_loki

LOG = "docker logs wearon-celery-exporter-1 2>&1"


def test_exporter_keeps_the_password_to_itself_while_redis_is_away(server: Host) -> None:
    """Its tracebacks could show variables, and with them the broker's address."""
    server.check_output("docker stop wearon-redis-1")
    try:
        end = time.monotonic() + 60
        while "celery-exporter exception" not in (log := server.run(LOG).stdout):
            assert time.monotonic() < end, "the exporter has not noticed"
            time.sleep(1)
        assert SECRETS[0] not in log
    finally:
        server.check_output("docker start wearon-redis-1")


def test_no_log_of_the_host_shows_a_secret(server: Host) -> None:
    pattern = "|".join(SECRETS)
    found = server.run(f"grep -rlE '{pattern}' /var/lib/docker/containers --include '*-json.log*'")
    assert (found.rc, found.stdout) == (1, "")


@pytest.mark.parametrize("secret", SECRETS)
def test_loki_was_sent_no_secret(server: Host, secret: str) -> None:
    def lines(text: str) -> int:
        answer = ask_loki(server, "query_range", since="3h", limit="10", query=f'{{service=~".+"}} |= "{text}"')
        return sum(len(stream["values"]) for stream in answer["result"])

    assert lines("request_served") > 0
    assert lines(secret) == 0
