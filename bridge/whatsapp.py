"""The boundary to neonize (whatsmeow inside): the only module that imports the library.

No handler for incoming messages is registered, so that their text never reaches Python, and the library's own log,
which names phones and groups, is switched off.
"""

import ctypes
import itertools
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neonize.client import ClientFactory, NewClient
from neonize.events import (
    ClientOutdatedEv,
    ConnectedEv,
    ConnectFailureEv,
    DisconnectedEv,
    LoggedOutEv,
    PairStatusEv,
    ReceiptEv,
    StreamReplacedEv,
    TemporaryBanEv,
)
from neonize.proto.waCompanionReg.WAWebProtobufsCompanionReg_pb2 import DeviceProps
from neonize.utils.enum import ClientName, ClientType
from neonize.utils.jid import build_jid

from bridge.logs import log

if TYPE_CHECKING:
    from bridge.link import Link
    from bridge.pairing import Attempt

logging.disable(logging.CRITICAL)

#: The words of the library's Receipt.Type; a message that was read was delivered.
DELIVERED = {"DELIVERED", "READ", "PLAYED"}
#: Shown on the phone under its linked devices.
DEVICE = DeviceProps(os="WearOn alerts", platformType=DeviceProps.CHROME)
#: The library knows a client by this name, and stops the one of that name when an object of it is collected.
NUMBERS = itertools.count()


def database(data: Path) -> str:
    """The file of the session."""
    return str(data / "sqlite3.db")


def is_paired(data: Path) -> bool:
    """Tell whether the file holds a session."""
    return bool(ClientFactory.get_all_devices_from_db(database(data)))


class Library(NewClient):  # type: ignore[misc]
    """The library's client; tells how a pairing has ended, which the library itself only prints."""

    on_login_status: Callable[[str], None]

    def _NewClient__onLoginStatus(self, _: int, status: int) -> None:
        self.on_login_status(ctypes.string_at(status).decode())


class Client:
    """One connection, from its beginning to its end."""

    def __init__(self, data: Path, link: "Link", pairing: bool) -> None:
        self._link = link
        self._over = threading.Event()
        self._error: Exception | None = None
        #: A client that has not been linked yet cannot be stopped: the library would dereference nil. It is left alone.
        self._stoppable = not pairing
        self._asked = ""
        self._newest = b""
        self._library = Library(database(data), props=DEVICE, uuid=f"bridge-{next(NUMBERS)}")
        self._library.on_login_status = link.end_login
        self._library.qr(self._on_qr)
        handlers: dict[Any, Callable[..., None]] = {
            ConnectedEv: self._on_connected,
            DisconnectedEv: lambda *_: link.report("disconnected"),
            LoggedOutEv: lambda *_: link.report("logged_out"),
            ClientOutdatedEv: lambda *_: link.report("outdated"),
            StreamReplacedEv: lambda *_: link.report("replaced"),
            TemporaryBanEv: lambda *_: link.report("banned"),
            ConnectFailureEv: self._on_failure,
            PairStatusEv: self._on_pair_status,
            ReceiptEv: self._on_receipt,
        }
        for event, handler in handlers.items():
            self._library.event(event)(handler)

    def run(self) -> None:
        """Connect and stay so until `stop`."""
        threading.Thread(target=self._connect, name="whatsapp", daemon=True).start()
        self._over.wait()
        if self._error:
            raise self._error

    def stop(self) -> None:
        """End `run`."""
        self._over.set()
        if self._stoppable:
            self._library.stop()

    def _connect(self) -> None:
        try:
            self._library.connect()  # does not return from a pairing that has failed
        except Exception as error:
            self._error = error
        self._over.set()

    def send(self, kind: str, to: str, text: str) -> str:
        """Send a text to a phone or a group; the id of the message once WhatsApp's server has it."""
        jid = build_jid(to, server="g.us" if kind == "group" else "s.whatsapp.net")
        return str(self._library.send_message(jid, text).ID)

    def continue_pairing(self) -> None:
        """Serve another attempt with the connection of the last one."""
        self._asked = ""
        if self._newest:
            self._on_qr(None, self._newest)

    def _on_qr(self, _: Any, content: bytes) -> None:
        self._newest = content
        attempt = self._link.attempt
        if not attempt:
            return
        if not attempt.phone:
            attempt.show_qr(content)
        elif self._asked != attempt.phone:  # from the first QR code on, WhatsApp takes the request for a code
            self._asked = attempt.phone
            threading.Thread(target=self._ask_for_code, args=(attempt,), daemon=True).start()

    def _ask_for_code(self, attempt: "Attempt") -> None:
        try:
            attempt.show_code(self._library.PairPhone(attempt.phone, True, ClientName.LINUX, ClientType.CHROME))
        except Exception as error:
            log("pairing_refused", level="warning", error=str(error))
            attempt.refuse(str(error))

    def _on_connected(self, *_: Any) -> None:
        self._stoppable = True
        self._link.report("linked")

    def _on_pair_status(self, _: Any, event: Any) -> None:
        if event.Error:
            log("pairing_refused", level="warning", error=event.Error)
            if attempt := self._link.attempt:
                attempt.refuse(event.Error)
        else:
            self._link.report("connecting")

    def _on_failure(self, _: Any, event: Any) -> None:
        self._link.report("disconnected", event.Message)

    def _on_receipt(self, _: Any, event: Any) -> None:
        if type(event).ReceiptType.Name(event.Type) in DELIVERED and not event.MessageSource.IsFromMe:
            self._link.deliveries.delivered(event.MessageIDs)
