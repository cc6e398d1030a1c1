"""Errors of Alloy in the stages of a pipeline, which it builds when it runs and not when it validates.

The selector of `stage.match` has a language of its own: Go's tokens, in which only a string in double quotes is a
string, and `{name="value", ...}` with line filters behind. Expressions are RE2.
"""

import re
from collections.abc import Iterator

_TEXT = r'"(?:[^"\\\n]|\\(?:[abfnrtv\\"]|[0-7]{3}|x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}))*"'
_CONFIG = re.compile(rf"(?P<text>{_TEXT}|`[^`]*`)|(?P<name>[A-Za-z_][\w.]*)|(?P<mark>[{{}}=])|//[^\n]*|.", re.S)
_SELECTOR = re.compile(
    rf"\s+|//[^\n]*|(?P<string>{_TEXT})|(?P<name>[A-Za-z_]\w*)|(?P<mark>!=|=~|!~|\|=|\|~|[{{}},.=])|(?P<other>`[^`]*`|.)",
    re.S,
)
#: The tokens as one word: s string, n name, x anything else.
_GRAMMAR = re.compile(r"\{n(=|!=|=~|!~)s(,n(=|!=|=~|!~)s)*\}((\|~|\|=|!~|!=)s)*")
#: Python's regular expressions have these, RE2 has not.
_NOT_RE2 = re.compile(r"(?<!\\)(?:\\\\)*(?:\\[1-9]|\(\?(?:[=!>(]|<[=!])|[*+?}]\+)")


def problems(configuration: str) -> list[str]:
    """Return what keeps a running Alloy from building the stages of this configuration."""
    found = []
    for block, name, value in attributes(configuration):
        if block == "stage.match" and name == "selector":
            found.append(selector_problem(value))
        elif block in {"stage.drop", "stage.regex", "stage.replace"} and name == "expression":
            found.append(expression_problem(value))
    return [problem for problem in found if problem]


def attributes(configuration: str) -> Iterator[tuple[str, str, str]]:
    """Yield block, name and value of each attribute that is a string; raises where a brace has no other one."""
    blocks: list[str] = []
    name, assigned = "", False
    for token in _CONFIG.finditer(configuration):
        if token["name"]:
            name, assigned = token["name"], False
        elif token["mark"] == "=":
            assigned = True
        elif token["mark"] == "{":
            blocks.append(f"{name} =" if assigned else name)
        elif token["mark"] == "}" and not blocks:
            raise ValueError("braces do not match")
        elif token["mark"] == "}":
            blocks.pop()
        elif token["text"] and assigned:
            yield blocks[-1] if blocks else "", name, unquoted(token["text"])
            assigned = False
    if blocks:
        raise ValueError("braces do not match")


def unquoted(text: str) -> str:
    """Return the value of a string of Go."""
    return text[1:-1] if text[0] == "`" else text[1:-1].encode("latin-1", "backslashreplace").decode("unicode_escape")


def selector_problem(selector: str) -> str | None:
    """Return Alloy's complaint about the selector of a `stage.match`."""
    word, strings = "", []
    for token in _SELECTOR.finditer(selector):
        if token["string"]:
            word += "s"
            strings.append((word[-3:-1], unquoted(token["string"])))
        else:
            word += "n" if token["name"] else token["mark"] or ("x" if token["other"] else "")
    if not _GRAMMAR.fullmatch(word):
        return f"invalid selector syntax for match stage: {selector}"
    return next(filter(None, (expression_problem(text) for before, text in strings if "~" in before)), None)


def expression_problem(expression: str) -> str | None:
    """Return why Go would not compile the expression."""
    if _NOT_RE2.search(expression):
        return f"error parsing regexp: not RE2: {expression}"
    try:
        re.compile(expression)
    except re.error as error:
        return f"error parsing regexp: {error}: {expression}"
    return None
