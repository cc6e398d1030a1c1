"""The states of the link to WhatsApp, and the sentence that each has for the operator."""

from typing import Literal

State = Literal[
    "starting",
    "unlinked",
    "pairing",
    "connecting",
    "linked",
    "disconnected",
    "logged_out",
    "outdated",
    "banned",
    "replaced",
]

PAIR = "run: ansible-playbook playbooks/pair_whatsapp.yml"
REASONS: dict[State, str] = {
    "starting": "The bridge starts.",
    "unlinked": f"No WhatsApp account is linked; {PAIR}",
    "pairing": "The bridge waits for the phone to be linked.",
    "connecting": "The bridge connects to WhatsApp.",
    "linked": "",
    "disconnected": "The connection to WhatsApp is lost; the bridge connects again by itself.",
    "logged_out": f"WhatsApp ended the link (removed on the phone, or the account was banned); {PAIR}",
    "outdated": "WhatsApp refuses this version of the bridge; a newer image is needed (whatsapp_bridge_tag).",
    "banned": "WhatsApp has blocked this account for some time.",
    "replaced": "Another program uses the same session; there must be only one bridge for it.",
}
#: Only a new connection ends these; the loss of the connection that follows from them does not.
SETTLED: set[State] = {"logged_out", "outdated", "banned", "replaced"}
