"""Stands in for WhatsApp's Business Cloud API: `POST /v<version>/<number id>/messages` with a bearer.

Refuses what Meta refuses, with Meta's codes: a wrong token (190), an unknown number (100), a template that was not
approved (132001), another number of texts (132000), a text with a newline, a tab or five blanks (132018), an empty text
(131008), a message that becomes too long (132005).
"""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MESSAGE_CHARACTERS = 1024
#: As docs/whatsapp.md has it approved.
BODY = "WearOn alerts: {{1}}.\n{{2}}\nYou get this because your number is on the alert list of WearOn."


@dataclass
class Account:
    """Meta's records: the token that may send, the number, the approved templates."""

    token: str
    number_id: str
    templates: dict[tuple[str, str], str]
    delivered: list[tuple[str, str]] = field(default_factory=list)

    def answer(self, path: str, authorization: str, body: str) -> tuple[int, dict[str, Any]]:
        """The status and the JSON for one request."""
        if authorization != f"Bearer {self.token}":
            return refusal(401, 190, "Invalid OAuth access token - Cannot parse access token")
        if not re.fullmatch(rf"/v\d+\.\d/{self.number_id}/messages", path):
            return refusal(400, 100, f"Unsupported post request. Object with path {path} does not exist")
        try:
            request = json.loads(body)
        except ValueError:
            return refusal(400, 100, "The request is no JSON")
        return self._send(request)

    def _send(self, request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if request.get("messaging_product") != "whatsapp" or request.get("type") != "template":
            return refusal(400, 100, "The parameter messaging_product is required")
        if not re.fullmatch(r"\+?[1-9]\d{6,14}", request.get("to", "")):
            return refusal(400, 100, "The parameter to is required")
        template = request["template"]
        body = self.templates.get((template["name"], template["language"]["code"]))
        if body is None:
            return refusal(404, 132001, "Template name does not exist in the translation")
        texts = [one.get("text", "") for part in template.get("components", []) for one in part["parameters"]]
        if problem := complaint(body, texts):
            return refusal(400, *problem)
        to = request["to"].removeprefix("+")
        self.delivered.append((to, filled(body, texts)))
        message = {"id": f"wamid.{len(self.delivered)}", "message_status": "accepted"}
        contact = {"input": request["to"], "wa_id": to}
        return 200, {"messaging_product": "whatsapp", "contacts": [contact], "messages": [message]}


def complaint(body: str, texts: list[str]) -> tuple[int, str] | None:
    """Meta's code and sentence for texts that do not fit into the template."""
    if len(texts) != len(set(re.findall(r"\{\{\d\}\}", body))):
        return 132000, "Number of parameters does not match the expected number of params"
    if not all(text.strip() for text in texts):
        return 131008, "Parameter of type text is missing text value"
    if any(re.search(r"[\n\t\r]| {5}", text) for text in texts):
        return 132018, "Param text cannot have new-line/tab characters or more than 4 consecutive spaces"
    if len(filled(body, texts).encode("utf-16-le")) // 2 > MESSAGE_CHARACTERS:
        return 132005, "Translated text too long"
    return None


def filled(body: str, texts: list[str]) -> str:
    """The template with the texts in its places."""
    for number, text in enumerate(texts, 1):
        body = body.replace(f"{{{{{number}}}}}", text)
    return body


def refusal(status: int, code: int, message: str) -> tuple[int, dict[str, Any]]:
    """Meta's form of an error."""
    return status, {"error": {"message": f"(#{code}) {message}", "type": "OAuthException", "code": code}}


@contextmanager
def serving(account: Account) -> Iterator[str]:
    """The address at which this account is served."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
            status, answer = account.answer(self.path, self.headers.get("Authorization", ""), body)
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
