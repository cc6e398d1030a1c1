"""Stands in for the library neonize, where the outside world begins for the bridge: nobody can link a phone in a test.

Files in the folder of the session play the phone and WhatsApp: `scanned` scans the code (or types it in); `fate` holds
a word: no-network, outdated, logged-out, banned, refuse-code, no-receipt. `recorded.jsonl` gets what was sent.
As in the library, handlers run in another thread, `connect` blocks until `stop`, and a refused message raises. A failed
pairing says so only by its login status, and never returns; `stop` during a pairing ends the process.
"""

import ctypes
import json
import os
import sqlite3
import sys
import threading
import time
import types
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any

CODES, CODE_SECONDS = 3, float(os.environ.get("CODE_SECONDS", "20"))


class NeonizeError(Exception):
    pass


class Event:
    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)


NAMES = ("ClientOutdated", "Connected", "Disconnected", "LoggedOut", "StreamReplaced", "TemporaryBan")
EVENTS = {name: type(name, (Event,), {}) for name in (*NAMES, "ConnectFailure", "PairStatus", "Receipt", "Message")}


class ReceiptType:
    @staticmethod
    def Name(number: int) -> str:
        return {1: "DELIVERED", 2: "SENDER"}[number]


EVENTS["Receipt"].ReceiptType = ReceiptType  # type: ignore[attr-defined]


class ClientFactory:
    @staticmethod
    def get_all_devices_from_db(name: str) -> list[Any]:
        with sqlite3.connect(name) as session:
            session.execute("create table if not exists whatsmeow_device (jid text)")
            return session.execute("select jid from whatsmeow_device").fetchall()


class NewClient:
    def __init__(self, name: str, props: Any = None, uuid: str = "") -> None:
        self.name = name
        self.data = Path(name).parent
        self.handlers: dict[type, Callable[..., None]] = {}
        self.stopped = threading.Event()
        self.pairing = False

    def qr(self, handler: Callable[..., None]) -> None:
        self.show_qr = handler

    def event(self, kind: type) -> Callable[..., None]:
        return lambda handler: self.handlers.__setitem__(kind, handler)

    def connect(self) -> None:
        if self.fate("no-network"):
            raise NeonizeError("failed to dial whatsapp web websocket: no such host")
        if not ClientFactory.get_all_devices_from_db(self.name) and not self.pair():
            threading.Event().wait()
        if not self.refused():
            self.fire("Connected")
            while not self.stopped.wait(0.05) and not self.refused():
                pass
        self.stopped.wait()

    def refused(self) -> bool:
        for word, event in {"outdated": "ClientOutdated", "logged-out": "LoggedOut", "banned": "TemporaryBan"}.items():
            if self.fate(word):
                if word == "logged-out":
                    with sqlite3.connect(self.name) as session:
                        session.execute("delete from whatsmeow_device")
                self.fire(event)
                self.fire("Disconnected")
                return True
        return False

    def __onLoginStatus(self, _uuid: int, status: int) -> None:
        print(status)

    def end_login(self, word: bytes) -> bool:
        self.pairing = False
        buffer = ctypes.create_string_buffer(word)
        self.__onLoginStatus(0, ctypes.addressof(buffer))
        return word == b"success"

    def pair(self) -> bool:
        self.pairing = True
        if self.fate("outdated"):
            return self.end_login(b"err-client-outdated")
        for number in range(CODES):
            self.show_qr(self, b"2@code-%d,of,a,real,length,%s" % (number, b"x" * 150))
            end = time.monotonic() + CODE_SECONDS
            while time.monotonic() < end and not self.stopped.wait(0.05):
                if (self.data / "scanned").exists():
                    (self.data / "scanned").unlink()
                    with sqlite3.connect(self.name) as session:
                        session.execute("insert into whatsmeow_device values ('4900000000:1@s.whatsapp.net')")
                    self.fire("PairStatus", Error="")
                    return self.end_login(b"success")
        return self.end_login(b"timeout")

    def PairPhone(self, phone: str, _show: bool, _name: Any, _type: Any) -> str:
        if self.fate("refuse-code"):
            raise NeonizeError("info query returned status 429: rate-overlimit")
        return "ABCD-1234"

    def send_message(self, jid: tuple[str, str], text: str) -> Any:
        to, server = jid
        if to.startswith("0000"):
            raise NeonizeError(f"no LID found for {to}@{server} from server")
        line = {"to": to, "server": server, "message": text, "time": time.time()}
        with (self.data / "recorded.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
        answer: Any = Event(ID=f"3EB0{time.time_ns()}")
        if not self.fate("no-receipt"):
            source = Event(IsFromMe=False)
            fields = {"MessageIDs": [answer.ID], "Type": 1, "MessageSource": source}
            threading.Thread(target=self.fire, args=("Receipt",), kwargs=fields, daemon=True).start()
        return answer

    def stop(self) -> None:
        if self.pairing:
            os._exit(2)
        self.stopped.set()

    def fate(self, word: str) -> bool:
        path = self.data / "fate"
        return path.exists() and word in path.read_text()

    def fire(self, name: str, **fields: Any) -> None:
        kind = EVENTS[name]
        if handler := self.handlers.get(kind):
            thread = threading.Thread(target=handler, args=(self, kind(**fields)), daemon=True)
            thread.start()
            thread.join()


def module(name: str, **contents: Any) -> None:
    made = types.ModuleType(f"neonize.{name}")
    made.__dict__.update(contents)
    sys.modules[made.__name__] = made


class DeviceProps:
    CHROME = 1

    def __init__(self, **_: Any) -> None:
        pass


module("client", ClientFactory=ClientFactory, NewClient=NewClient)
module("events", **{f"{name}Ev": kind for name, kind in EVENTS.items()})
module("proto")
module("proto.waCompanionReg")
module("proto.waCompanionReg.WAWebProtobufsCompanionReg_pb2", DeviceProps=DeviceProps)
module("utils")
module("utils.enum", ClientName=Enum("ClientName", "LINUX"), ClientType=Enum("ClientType", "CHROME"))
module("utils.jid", build_jid=lambda number, server: (number, server))
