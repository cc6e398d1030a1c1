"""The packaged prompt versions, and the names of texts that come with messages."""

import re
import unicodedata

import pytest

from worker.generation.message import GenerationMessage
from worker.prompts import catalogue

TEXT = "Virtual try-on: dress the model\n- in the (first) outfit\n- and the hat"


@pytest.mark.parametrize("version", catalogue.versions().values(), ids=lambda version: version.id)
def test_a_version_has_an_id_that_a_label_may_hold_and_a_text_that_a_message_may_hold(
    version: catalogue.Prompt,
) -> None:
    assert re.fullmatch(r"[a-z0-9-]{1,30}", version.id)
    rules = GenerationMessage.model_fields["prompt"].metadata
    (limit,) = (rule.max_length for rule in rules if hasattr(rule, "max_length"))
    assert 100 < len(version.text) <= limit
    assert catalogue.name(version.text).startswith("message-")


def test_no_two_versions_have_the_same_text() -> None:
    assert len({catalogue.name(version.text) for version in catalogue.versions().values()}) == len(catalogue.versions())


def test_a_message_without_a_prompt_has_the_workers_own() -> None:
    assert {catalogue.name(blank) for blank in ("", " ", "\n\t", "\ufeff", "\u00a0\u200b")} == {catalogue.DEFAULT}


@pytest.mark.parametrize(
    "variant",
    [
        TEXT.replace("\n", "\r\n"),
        f"\ufeff  {TEXT}\n\n",
        TEXT.replace(" ", "\u00a0"),
        TEXT.replace("try-on", "try\u200b-on"),
        TEXT.upper(),
        TEXT.replace("first", "\ufb01rst"),
        TEXT.replace("(", "\uff08"),
        unicodedata.normalize("NFD", TEXT),
    ],
    ids=["crlf", "bom", "nbsp", "zero width", "upper", "ligature", "full width", "decomposed"],
)
def test_a_difference_that_no_reader_sees_is_the_same_text(variant: str) -> None:
    assert catalogue.name(variant) == catalogue.name(TEXT)


@pytest.mark.parametrize("other", [f"{TEXT}.", TEXT.replace("first", "second"), TEXT[:-1], f"{TEXT} in red"])
def test_another_text_has_another_name(other: str) -> None:
    assert catalogue.name(other) != catalogue.name(TEXT)


@pytest.mark.parametrize("odd", ["\ud800", "\x00", "a" * 32_000, "\u0344" * 32_000], ids=repr)
def test_any_text_has_a_name(odd: str) -> None:
    assert re.fullmatch(r"message-[0-9a-f]{8}", catalogue.name(odd))
