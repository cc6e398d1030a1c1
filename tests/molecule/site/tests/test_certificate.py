"""The certificate: issued by the authority, renewed without a gap."""

import re
import threading
import time
from collections.abc import Callable

from testinfra.host import Host

from tests.molecule.hosts import Played

Play = Callable[..., Played]


def served(neighbour: Host) -> tuple[str, str]:
    """Issuer and serial of the certificate that clients get."""
    client = "openssl s_client -connect api.example.test:443 -servername api.example.test"
    text = neighbour.check_output(f"{client} </dev/null 2>/dev/null | openssl x509 -noout -issuer -serial")
    issuer, serial = re.fullmatch(r"issuer=(.*)\nserial=(\w+)", text.strip()).groups()  # type: ignore[union-attr]
    return issuer, serial


def test_certificate_is_the_authoritys(neighbour: Host) -> None:
    assert "Pebble" in served(neighbour)[0]


def test_timer_renews_nothing_that_is_not_due(server: Host, neighbour: Host) -> None:
    """The unit that the timer starts; the authority's advice (ARI) says that it is not time yet."""
    before = served(neighbour)
    assert server.run("systemctl start wearon-certificates.service").rc == 0
    assert served(neighbour) == before


def test_renewal_loses_no_request(play: Play, neighbour: Host) -> None:
    before, failed, stop = served(neighbour), [], threading.Event()

    def ask() -> None:
        while not stop.is_set():
            answer = neighbour.run(
                "curl -sS -o /dev/null -w '%{http_code}' --cacert /state/pebble-root.crt https://api.example.test/health"
            )
            if answer.stdout != "200":
                failed.append(answer.stderr)
            time.sleep(0.2)

    client = threading.Thread(target=ask)
    client.start()
    try:
        run = play("renew_certificates", "-e", "force=true")
    finally:
        stop.set()
        client.join()
    assert run.code == 0, run.text
    assert served(neighbour)[1] != before[1]
    assert failed == []
