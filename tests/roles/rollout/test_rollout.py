"""The whole rollout on a host that is a folder: every release that can come, and a kill before every step."""

from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from tests.roles.rollout.conftest import Container, Host, Killed


def test_first_release_begins_in_the_recorded_colour(here: Host) -> None:
    here.assert_settled("v1")
    assert here.serving() == "blue"
    assert here.releases() == [("v1", "good")]


def test_next_release_takes_the_other_colour(here: Host) -> None:
    assert here.roll_out("v2") == ""
    here.assert_settled("v2")
    assert here.serving() == "green"
    assert all(here.served[1:]), "nginx was sent to a colour that does not answer"


def test_same_release_again_does_nothing(here: Host) -> None:
    before = {path: path.read_bytes() for path in here.folder.rglob("*") if path.is_file()}
    assert here.roll_out("v1") == ""
    assert {path: path.read_bytes() for path in here.folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ("unhealthy", "it did not become healthy: the container is unhealthy"),
        ("doctor", "its doctor found a fault: fail redis: away"),
        ("crash", "it did not stay up after the switch: the container ended and was started again (exit code 0)"),
    ],
)
def test_bad_release_leaves_the_old_one_serving(here: Host, wrong: str, sentence: str) -> None:
    fragment = (here.folder / "compose.d/worker.yml").read_text()
    here.wrong["v2"] = wrong
    assert (
        here.roll_out("v2")
        == f"registry/worker:v2 was not rolled out on here: {sentence}. blue serves on with registry/worker:v1."
    )
    log = next((here.folder / "worker/failures").iterdir())
    assert sentence in log.read_text()
    log.unlink()
    here.assert_settled("v1")
    assert here.releases() == [("v2", "failed"), ("v1", "good")]
    assert (here.folder / "compose.d/worker.yml").read_text() == fragment


def killed_runs(
    new_host: Callable[[], Host], tag: str, begin: Callable[[Host], object], every: int = 1
) -> Iterator[tuple[str, Host, list[Container]]]:
    """Hosts whose rollout was killed before each of its steps, and their containers of before; the last run ends."""
    for step in range(0, 1000, every):
        one = new_host()
        begin(one)
        old, killed = list(one.containers.values()), False
        try:
            one.roll_out(tag, die_at=step)
        except Killed:
            killed = True
        yield f"killed before step {step}", one, old
        if not killed:
            return


def test_kill_before_any_step_is_repaired_by_running_it_again(new_host: Callable[[], Host]) -> None:
    runs = 0
    for when, one, (old,) in killed_runs(new_host, "v2", lambda one: one.roll_out("v1")):
        assert one.roll_out("v2") == "", when
        one.assert_settled("v2")
        assert old.terms <= 1, f"{when}: a second SIGTERM cuts the drain short"
        assert all(one.served), f"{when}: no colour answered"
        runs += 1
    assert runs > 40


def test_kill_before_any_step_of_a_way_back_leaves_the_old_release(new_host: Callable[[], Host]) -> None:
    def begin(one: Host) -> None:
        one.roll_out("v1")
        one.wrong["v2"] = "crash"

    runs = 0
    for when, one, _ in killed_runs(new_host, "v2", begin):
        assert one.roll_out("v1") == "", when
        for log in one.folder.glob("worker/failures/*"):
            log.unlink()
        one.assert_settled("v1")
        runs += 1
    assert runs > 40


def test_kill_of_the_first_release_is_repaired(new_host: Callable[[], Host]) -> None:
    runs = 0
    for when, one, _ in killed_runs(new_host, "v1", lambda one: None):
        assert one.roll_out() == "", when
        one.assert_settled("v1")
        runs += 1
    assert runs > 20


def test_changed_setting_rolls_the_release_that_serves(here: Host) -> None:
    job = here.job()["services"]
    changed = {name: {**service, "pids_limit": 3} for name, service in job.items()}
    assert here.roll_out(services=changed) == ""
    here.assert_settled("v1")
    assert here.serving() == "green"
    assert here.releases() == [("v1", "good")]


def test_rollback_returns_to_the_last_good_release(here: Host) -> None:
    here.roll_out("v2")
    here.wrong["v3"] = "doctor"
    here.roll_out("v3")
    assert here.roll_out(back=True) == ""
    assert here.tag() == "v1"
    assert here.releases() == [("v1", "good"), ("v3", "failed"), ("v2", "rolled back")]
    assert here.roll_out(back=True, asked="v2") == "", "what was rolled back can be asked for by its name"
    assert here.tag() == "v2"


def test_late_failures_do_not_keep_the_next_rollout_from_ending(here: Host) -> None:
    """Each colour is told once, also after the other one crashed behind the switch or a play died in its drain."""
    for number, tag in enumerate(["bad", "v2", "bad", "v3", "v4"]):
        here.wrong["bad"] = "crash"
        old = here.containers[here.serving()]
        with suppress(Killed):
            here.roll_out(tag, die_at=None if number % 2 else 40)
        here.units.add(f"wearon-drain-{here.serving()}")
        sentence = here.roll_out(tag)
        assert bool(sentence) == (tag == "bad")
        assert old.terms <= 1
    for log in here.folder.glob("worker/failures/*"):
        log.unlink()
    here.assert_settled("v4")


def test_record_of_a_colour_that_does_not_run_gives_way_to_the_one_that_serves(here: Host) -> None:
    """A new server records blue for each worker; on another host green may have served for long."""
    here.roll_out("v2")
    here.upstream.write_text("server blue:8000; # blue\n")
    assert here.roll_out("v3") == ""
    here.assert_settled("v3")
    assert here.served[-3:] == [True] * 3, "no colour answered"
    assert here.serving() == "blue", "the old release served until the new one did"


def test_replicas_of_a_colour_come_and_go_together(here: Host) -> None:
    here.replicas = 2
    assert here.roll_out() == "", "a second replica is a new release"
    here.assert_settled("v1")
    assert (here.serving(), list(here.containers)) == ("green", ["green", "green-2"])

    old = list(here.containers.values())
    assert here.roll_out("v2") == ""
    here.assert_settled("v2")
    assert [one.terms for one in old] == [1, 1]
    assert all(here.served[1:]), "nginx was sent to a colour that does not answer"

    here.replicas = 1
    here.roll_out()
    here.assert_settled("v2")
    assert list(here.containers) == ["green"]


def test_replica_that_stopped_is_brought_back_by_a_rollout(here: Host) -> None:
    here.replicas = 2
    here.roll_out()
    here.containers["green-2"].running = False
    assert here.roll_out() == ""
    here.assert_settled("v1")
    assert here.serving() == "blue", "the replica that runs serves until then"


def test_replica_that_is_gone_is_brought_back_by_a_rollout(here: Host) -> None:
    """Otherwise each run fails, and names a doctor in a container that is not there."""
    here.replicas = 2
    here.roll_out()
    del here.containers["green-2"]
    assert here.roll_out() == ""
    here.assert_settled("v1")


def test_new_release_stays_when_the_replicas_change_after_a_kill(new_host: Callable[[], Host]) -> None:
    """The colour that serves is judged by the replicas that it has: those of the inventory are still to come."""
    watched = 0
    for when, one, _ in killed_runs(new_host, "v2", lambda one: one.roll_out("v1")):
        if "backup" in one.upstream.read_text():
            one.replicas = 2
            assert one.roll_out() == "", when
            one.assert_settled("v2")
            watched += 1
    assert watched > 3


@pytest.mark.parametrize("wrong", ["unhealthy", "doctor", "crash"])
def test_bad_release_leaves_all_old_replicas_serving(here: Host, wrong: str) -> None:
    here.replicas = 2
    here.roll_out()
    here.wrong["v2"] = wrong
    assert "green serves on with registry/worker:v1" in here.roll_out("v2")
    next((here.folder / "worker/failures").iterdir()).unlink()
    here.assert_settled("v1")


def test_kill_before_any_step_with_replicas_is_repaired(new_host: Callable[[], Host]) -> None:
    def begin(one: Host) -> None:
        one.replicas = 2
        one.roll_out("v1")

    for when, one, old in killed_runs(new_host, "v2", begin, every=3):
        assert one.roll_out("v2") == "", when
        one.assert_settled("v2")
        assert [it.terms <= 1 for it in old] == [True, True], f"{when}: a second SIGTERM"
