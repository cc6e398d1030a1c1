"""One attempt to link a phone: the newest QR code as text and picture, or the code that the phone asks for."""

from pathlib import Path
from typing import Any

import segno

#: Two rows of a QR code in one line of text, light on dark: most terminals are dark.
HALVES = {(0, 0): "█", (0, 1): "▀", (1, 0): "▄", (1, 1): " "}
REFUSALS = {
    "429": "WhatsApp has had too many attempts from this number; wait an hour.",
    "rate-overlimit": "WhatsApp has had too many attempts from this number; wait an hour.",
    "400": "WhatsApp does not know this number; give it with the country code, like +491701234567.",
    "bad-request": "WhatsApp does not know this number; give it with the country code, like +491701234567.",
    "405": "WhatsApp refuses this version of the bridge; a newer image is needed (whatsapp_bridge_tag).",
    "403": "WhatsApp has blocked this account.",
}


class Attempt:
    """The state of one pairing, as `GET /pair` shows it."""

    def __init__(self, phone: str, picture: Path) -> None:
        self.phone = phone
        self.picture = picture
        self.number = 0
        self.lines: list[str] = []
        self.code = ""
        self.refusal = ""

    def show_qr(self, content: bytes) -> None:
        """Take the newest QR code."""
        code = segno.make_qr(content)
        rows = [tuple(int(bool(module)) for module in row) for row in code.matrix_iter(border=2)]
        rows += [(0,) * len(rows[0])] * (len(rows) % 2)
        pairs = zip(rows[::2], rows[1::2], strict=True)
        self.lines = ["".join(HALVES[pair] for pair in zip(upper, lower, strict=True)) for upper, lower in pairs]
        self.number += 1
        if self.picture.parent.is_dir():
            code.save(str(self.picture), scale=8, border=4)

    def show_code(self, code: str) -> None:
        """Take the code that has to be typed in on the phone."""
        self.code = code

    def refuse(self, reason: str) -> None:
        """End without a link, for this reason; what WhatsApp's codes mean is said in words."""
        known = next((text for sign, text in REFUSALS.items() if sign in reason), "")
        self.refusal = f"{known} ({reason})" if known else reason
        self.end()

    def end(self) -> None:
        """Forget the codes; each was a way into the account."""
        self.lines = []
        self.code = ""
        self.picture.unlink(missing_ok=True)

    def view(self) -> dict[str, Any]:
        """The attempt for the playbook."""
        return {"number": self.number, "lines": self.lines, "code": self.code, "refusal": self.refusal}
