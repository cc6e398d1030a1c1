"""The decisions of a rollout on each state of a host."""

import json
import subprocess
from typing import Any

import host
import plan
import pytest
import releases

from tests.roles.rollout.conftest import Container, Host

REFERENCE = "registry/worker:v1@sha256:v1"


@pytest.mark.parametrize(
    ("upstream", "serving", "watching"),
    [
        ("", "blue", False),
        ("server a max_fails=0; # green\n", "green", False),
        ("server a max_fails=1; # green\nserver b backup; # blue\n", "green", True),
    ],
)
def test_upstream_file_says_which_colour_serves(here: Host, upstream: str, serving: str, watching: bool) -> None:
    assert plan.read_upstream(here.job(upstream=upstream)) == (serving, watching)


@pytest.mark.parametrize("upstream", ["server a; # red\n", "server a;\n", "broken", "# \n"])
def test_upstream_of_an_unknown_colour_is_refused(here: Host, upstream: str) -> None:
    with pytest.raises(SystemExit, match="names no colour but blue or green"):
        here.plan(upstream=upstream)


@pytest.mark.parametrize(
    ("job", "wanted"),
    [
        ({"asked": "v2"}, "v2"),
        ({"tag": "v3"}, "v3"),
        ({}, ""),
        ({"repository": "other/worker"}, "v1"),
        ({"asked": "v2", "tag": "v3"}, "v2"),
    ],
)
def test_wanted_is_what_was_asked_for_last(here: Host, job: dict[str, Any], wanted: str) -> None:
    assert here.roll_out() == "", "the inventory's tag is seen"
    assert here.plan(**job)["wanted"] == wanted


def test_inventory_counts_only_when_it_changes(here: Host) -> None:
    here.roll_out()
    here.roll_out("v2")
    assert here.plan()["wanted"] == "", "the inventory still says v1, which was seen"
    assert here.plan(tag="v3")["wanted"] == "v3"


def test_further_host_begins_with_what_the_first_one_got(new_host: Any) -> None:
    assert new_host().plan(first=REFERENCE)["wanted"] == "v1@sha256:v1"


def test_check_decides_without_an_image_and_without_a_host(new_host: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    one = new_host()
    monkeypatch.setattr(host, "run", lambda *_, **__: subprocess.CompletedProcess([], 127, "", "No such file: docker"))
    answer = one.plan(check=True, folder="/nonexistent", fragment="/nonexistent/worker.yml", secrets="/nonexistent")
    assert (answer["rolls"], answer["new"], answer["old"]) == (True, "blue", "")
    assert answer["sentence"] == "here: no colour serves, blue is going to: registry/worker:v1"


def test_engine_that_does_not_answer_is_not_an_empty_host(here: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    for code, error in ((1, "Cannot connect to the Docker daemon"), (124, "timed out after 60 seconds")):
        answer = subprocess.CompletedProcess([], code, "[]", error)
        monkeypatch.setattr(host, "run", lambda *_, answer=answer, **__: answer)
        with pytest.raises(SystemExit, match="the engine does not answer"):
            here.plan()


def test_colour_that_crashed_is_replaced_in_place(here: Host) -> None:
    here.containers["blue"].running = False
    answer = here.plan()
    assert (answer["rolls"], answer["new"], answer["old"], answer["reference"]) == (True, "blue", "", REFERENCE)


def test_colour_that_serves_but_never_passed_the_gate_goes_through_it(here: Host) -> None:
    (here.folder / "worker/blue/hold").touch()
    answer = here.plan()
    assert (answer["rolls"], answer["new"], answer["old"]) == (True, "blue", "")


@pytest.mark.parametrize("left", ["worker/green/hold", "worker/green/drain.json", "secrets/worker-green.key"])
def test_file_that_was_left_of_the_other_colour_is_settled(here: Host, left: str) -> None:
    (here.folder / left).touch()
    assert here.plan()["unfinished"]
    here.roll_out("v1")
    here.assert_settled("v1")


def test_container_that_was_left_of_the_other_colour_is_settled(here: Host) -> None:
    here.containers["green"] = Container("registry/worker:v0", running=False)
    here.roll_out("v1")
    here.assert_settled("v1")


@pytest.mark.parametrize("text", ["", "# a comment\n", '{"services": {}}', '{"services": null}', "{}"])
def test_fragment_without_colours_is_read(here: Host, text: str) -> None:
    (here.folder / "compose.d/worker.yml").write_text(text)
    assert here.plan()["present"] == REFERENCE, "the container says what runs"


@pytest.mark.parametrize("text", ["{", "services: [", '{"services": 3}', '{"services": {"worker-blue": 3}}'])
def test_fragment_that_is_none_is_refused(here: Host, text: str) -> None:
    (here.folder / "compose.d/worker.yml").write_text(text)
    with pytest.raises(SystemExit, match=r"worker.yml is no Compose fragment. Correct or remove it"):
        here.plan()


@pytest.mark.parametrize("text", ["{", "[]", "3", '{"releases": [{}]}', '{"releases": 3}'])
def test_history_that_is_none_is_refused(here: Host, text: str) -> None:
    (here.folder / "worker/releases.json").write_text(text)
    with pytest.raises(SystemExit, match=r"releases.json is no history of releases. Move it away"):
        here.plan()


def test_full_disk_is_one_sentence_and_changes_nothing(here: Host, full_disk: Any) -> None:
    before = {path: path.read_bytes() for path in here.folder.rglob("*") if path.is_file()}
    with full_disk:
        assert "worker-green.key cannot be written: No space left on device. blue serves on" in here.roll_out("v2")
    next((here.folder / "worker/failures").iterdir()).unlink()
    assert list(here.containers) == ["blue"]
    assert {path: path.read_bytes() for path in here.folder.rglob("*") if path.is_file()} == before


def test_history_keeps_five_good_releases_and_five_failures(here: Host) -> None:
    for number in range(2, 9):
        here.wrong[f"bad{number}"] = "doctor"
        here.roll_out(f"bad{number}")
        here.roll_out(f"v{number}")
    assert [tag for tag, result in here.releases() if result == "good"] == [f"v{number}" for number in range(8, 3, -1)]
    assert [tag for tag, result in here.releases() if result == "failed"] == [f"bad{n}" for n in range(8, 3, -1)]


@pytest.mark.parametrize("to", ["v1", "sha256:v1", "v1@sha256:v1"])
def test_release_is_found_by_each_of_its_names(here: Host, to: str) -> None:
    here.roll_out("v2")
    assert here.plan(back=True, asked=to)["wanted"] == "v1@sha256:v1"


def test_way_back_to_an_unknown_release_is_refused(here: Host) -> None:
    with pytest.raises(SystemExit, match="The history knows no release v0 on here"):
        here.plan(back=True, asked="v0")
    with pytest.raises(SystemExit, match="The history knows no earlier good release on here"):
        here.plan(back=True)


def test_first_host_chooses_the_way_back_for_all(here: Host) -> None:
    assert here.plan(back=True, first="registry/worker:v7@sha256:v7")["wanted"] == "v7@sha256:v7"


def test_fragment_names_the_secrets_of_its_colours(here: Host) -> None:
    text = (here.folder / "compose.d/worker.yml").read_text()
    fragment = json.loads(text.partition("\n")[2])
    assert fragment["secrets"] == {"worker-blue.key": {"file": f"{here.folder}/secrets/worker-blue.key"}}
    assert fragment["services"]["worker-blue"]["image"] == REFERENCE
    assert releases.tag(REFERENCE) == "v1"
