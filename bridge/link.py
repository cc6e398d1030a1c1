"""The link to WhatsApp: connects, follows the reports of the library, pairs; the server reads `state` and `reason`."""

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from bridge.delivery import Deliveries
from bridge.logs import log
from bridge.pairing import Attempt
from bridge.states import REASONS, SETTLED, State

if TYPE_CHECKING:
    from bridge.whatsapp import Client

#: Pause before the next try after a refusal, and after a lost network.
REFUSED_RETRY_SECONDS = 600.0
LOST_RETRY_SECONDS = 15.0
#: Codes of one attempt run out after 160 s; a code that is typed in lives a little longer.
PAIRING_SECONDS = 180.0
#: Grafana gives up after 30 s.
SEND_TIMEOUT_SECONDS = 20.0


class NotLinkedError(Exception):
    """The bridge cannot send now; the text is the reason."""


class Link:
    """One account, at most one connection. Safe to use from several threads."""

    def __init__(self, data: Path, deliveries: Deliveries) -> None:
        self.data = data
        self.deliveries = deliveries
        self.state: State = "starting"
        self.reason = REASONS["starting"]
        self.attempt: Attempt | None = None
        self._client: Client | None = None
        self._wake = threading.Event()
        self._ended = threading.Event()
        self._lock = threading.RLock()
        self._sender = ThreadPoolExecutor(1, thread_name_prefix="send")

    def start(self) -> None:
        """Begin to connect, in a thread of its own."""
        threading.Thread(target=self._keep_connected, name="link", daemon=True).start()

    def stop(self) -> None:
        """Close the connection in order; the session stays."""
        self._ended.set()
        self._wake.set()
        self._sender.shutdown(wait=False, cancel_futures=True)
        self._disconnect()

    def send(self, kind: str, to: str, text: str) -> None:
        """Send one message and wait until WhatsApp's server has it."""
        client = self._client
        if self.state != "linked" or client is None:
            raise NotLinkedError(self.reason)
        job: Future[str] = self._sender.submit(client.send, kind, to, text)
        job.add_done_callback(self._count)
        try:
            job.result(timeout=SEND_TIMEOUT_SECONDS)
        except TimeoutError:
            job.cancel()  # Grafana sends it again; what has begun goes on
            raise

    def pair(self, phone: str = "") -> None:
        """Begin a pairing by QR, or by the code that the phone asks for."""
        with self._lock:
            if self.state in {"linked", "connecting", "disconnected"}:
                raise NotLinkedError("The bridge is linked already; remove that link first (-e forget=true).")
            running = self._client if self.state == "pairing" else None
            self.attempt = Attempt(phone.lstrip("+"), self.data.parent / "out" / "qr.png")
            self.report("pairing")
        if running:
            running.continue_pairing()  # the library must not be stopped between two codes
        else:
            self._wake.set()

    def report(self, state: State, detail: str = "") -> None:
        """Take over what the library has reported."""
        with self._lock:
            if self.state in SETTLED and state == "disconnected":
                return
            if state != self.state:
                log("state_changed", level="info" if state in {"linked", "connecting"} else "warning", state=state)
            self.state = state
            self.reason = f"{REASONS[state]} {detail}".strip()
            if state == "linked" and self.attempt:
                self.attempt.end()
        if state in SETTLED:
            threading.Thread(target=self._disconnect, daemon=True).start()  # not from the library's own thread

    def end_login(self, word: str) -> None:
        """Take over how a pairing has ended, in whatsmeow's words."""
        log("login_ended", word=word)
        if word == "success":
            self.report("connecting")
        elif word == "err-client-outdated":
            self.report("outdated")
        else:
            self._end_pairing("No phone was linked within 3 minutes." if word == "timeout" else word)
            self._disconnect()

    def _keep_connected(self) -> None:
        while not self._ended.is_set():
            pause = self._connect_once()
            self._wake.wait(pause)
            self._wake.clear()

    def _connect_once(self) -> float | None:
        """Connect and stay so; the pause before the next connection, None: until a pairing begins."""
        from bridge.whatsapp import Client, is_paired  # noqa: PLC0415 (2 s, in which the server already answers)

        pairing = self.state == "pairing"
        try:
            if not pairing and not is_paired(self.data):
                if self.state not in SETTLED:
                    self.report("unlinked")
                return None
            if not pairing and self.state not in SETTLED:
                self.report("connecting")
            self._client = Client(self.data, self, pairing)
            timer = self._expire_pairing() if pairing else None
            self._client.run()
            if timer:
                timer.cancel()
        except Exception as error:
            log("connection_failed", level="warning", error=str(error))
            if pairing:
                self._end_pairing(f"WhatsApp cannot be reached: {error}")
            else:
                self.report("disconnected", str(error))
        if self.state == "pairing" and not self._wake.is_set():
            self._end_pairing("The connection to WhatsApp ended before the phone was linked.")
        return REFUSED_RETRY_SECONDS if self.state in SETTLED else LOST_RETRY_SECONDS

    def _expire_pairing(self) -> threading.Timer:
        client = self._client

        def expire() -> None:
            if self.state == "pairing" and self._client is client:
                self._end_pairing("No phone was linked within 3 minutes.")
                self._disconnect()

        timer = threading.Timer(PAIRING_SECONDS, expire)
        timer.daemon = True
        timer.start()
        return timer

    def _end_pairing(self, reason: str) -> None:
        if self.attempt:
            self.attempt.refuse(reason)
        self.report("unlinked")

    def _disconnect(self) -> None:
        if client := self._client:
            client.stop()

    def _count(self, job: "Future[str]") -> None:
        if job.cancelled() or job.exception():
            self.deliveries.failed()
        else:
            self.deliveries.sent(job.result())
