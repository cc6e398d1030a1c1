"""One set of partners for all tests of a process, and the sender that reaches them."""

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.sandbox.partner import Partner
from worker.webhooks.sender import Sender


@pytest.fixture(scope="session")
def partners() -> Iterator[Partner]:
    """The servers, with whatever earlier tests sent them: use `partner`."""
    with Partner() as partner:
        yield partner


@pytest.fixture
def partner(partners: Partner, monkeypatch: pytest.MonkeyPatch) -> Partner:
    """The partners' servers, whose authority is trusted, with nothing received."""
    partners.received.clear()
    partners.answers.clear()
    partners.most.clear()
    for name, value in partners.environment().items():
        monkeypatch.setenv(name, value)
    return partners


@pytest.fixture
async def sender(partner: Partner) -> AsyncIterator[Sender]:
    """A sender that may reach the partners' private address."""
    sender = Sender(trusted_origins=frozenset({partner.origin}), connections=16)
    yield sender
    await sender.aclose()
