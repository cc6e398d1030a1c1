"""Take Docker's repository out of apt's other files: apt reads no list at all when one address has two keys.

Prints the files that were changed. Entries of one line are commented out; in a file of paragraphs the address goes.
"""

import re
import sys
from pathlib import Path
from urllib.parse import urlsplit

ONE_LINE = re.compile(r"^\s*deb(?:-src)?\s+(?:\[[^\]]*\]\s+)?(\S+)", re.I)
FIELD = re.compile(r"^(\S+?):(.*)$")


def main(root: Path, address: str, keep: str, check: bool) -> None:
    """Take the address out of all files below `root` but the one named `keep`; with `check` only say of which."""
    folder = root / "etc/apt"
    for path in sorted([folder / "sources.list", *(folder / "sources.list.d").glob("*")]):
        if path.suffix not in {".list", ".sources"} or path.name == keep or not path.is_file():
            continue
        old = path.read_text(errors="surrogateescape")
        new = without_lines(old, address) if path.suffix == ".list" else without_paragraphs(old, address)
        if new != old:
            print(path)
            if not check:
                path.write_text(new, errors="surrogateescape")


def same(one: str, other: str) -> bool:
    """Tell whether two addresses are of one repository, whatever the protocol, the case and slashes at the end."""
    parts = [urlsplit(address) for address in (one, other)]
    return len({(part.netloc.lower(), re.sub(r"/+", "/", part.path).rstrip("/")) for part in parts}) == 1


def without_lines(text: str, address: str) -> str:
    """Comment out the lines `deb [options] address suite component`."""
    lines = text.splitlines(keepends=True)
    return "".join(
        f"# {line}" if (found := ONE_LINE.match(line)) and same(found[1], address) else line for line in lines
    )


def without_paragraphs(text: str, address: str) -> str:
    """Take the address out of `URIs:`; a paragraph without any other address goes."""
    return "".join(without_address(part, address) for part in re.split(r"(?m)((?:^[ \t]*\n)+)", text))


def without_address(paragraph: str, address: str) -> str:
    """The paragraph of a source without the address."""
    uris = [word for name, value in fields(paragraph) if name == "uris" for word in value.split()]
    others = [uri for uri in uris if not same(uri, address)]
    if others == uris:
        return paragraph
    return re.sub(r"(?im)^uris:.*\n(?:[ \t].*\n)*", f"URIs: {' '.join(others)}\n", paragraph) if others else ""


def fields(paragraph: str) -> list[tuple[str, str]]:
    """Names in lower case and values; a value goes on in lines that begin with a blank."""
    found: list[tuple[str, str]] = []
    for line in paragraph.splitlines():
        if line.startswith("#"):
            continue
        if line[:1].isspace() and found:
            found[-1] = (found[-1][0], f"{found[-1][1]} {line.strip()}")
        elif match := FIELD.match(line):
            found.append((match[1].lower(), match[2].strip()))
    return found


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4] == "True")
