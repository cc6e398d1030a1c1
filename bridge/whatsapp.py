"""The boundary to neonize (whatsmeow inside): the only module that imports the library.

No handler for incoming messages is registered, so that their text never reaches Python, and the library's own log,
which names phones and groups, is switched off.
"""

import itertools
import logging
import threading
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


class Client:
    """One connection, from its beginning to its end."""

    def __init__(self, data: Path, link: "Link") -> None:
        self._link = link
        self._asked = False
        self._library = NewClient(database(data), props=DEVICE, uuid=f"bridge-{next(NUMBERS)}")
        self._library.qr(self._on_qr)
        handlers = {
            ConnectedEv: lambda *_: link.report("linked"),
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
        self._library.connect()

    def stop(self) -> None:
        """End `run`."""
        self._library.stop()

    def send(self, kind: str, to: str, text: str) -> str:
        """Send a text to a phone or a group; the id of the message once WhatsApp's server has it."""
        jid = build_jid(to, server="g.us" if kind == "group" else "s.whatsapp.net")
        return str(self._library.send_message(jid, text).ID)

    def _on_qr(self, _: Any, content: bytes) -> None:
        attempt = self._link.attempt
        if not attempt:
            return
        if not attempt.phone:
            attempt.show_qr(content)
        elif not self._asked:  # from the first QR code on, WhatsApp takes the request for a code
            self._asked = True
            threading.Thread(target=self._ask_for_code, daemon=True).start()

    def _ask_for_code(self) -> None:
        attempt = self._link.attempt
        if not attempt:
            return
        try:
            attempt.show_code(self._library.PairPhone(attempt.phone, True, ClientName.LINUX, ClientType.CHROME))
        except Exception as error:
            log("pairing_refused", level="warning", error=str(error))
            attempt.refuse(str(error))

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
