"""`make bench`: measure the worker against the sandbox, part by part."""

import argparse
import sys
from dataclasses import fields, replace
from importlib import import_module
from pathlib import Path

from rich.console import Console

from tests.bench import machine, saved
from tests.bench.figures import Figure, as_json, as_text
from tests.bench.options import Options
from tests.bench.progress import Progress

#: Each takes as long as all others together.
ONLY_WHEN_NAMED = ("growth", "outage", "backlog", "lanes", "bucket", "scaling")
USUAL = ("generation", "burst", "images", "sizing", "start", "rest")
PARTS = (*USUAL, *ONLY_WHEN_NAMED)


def main(arguments: list[str] | None = None) -> int:
    """Run the parts; returns 1 when a target was missed."""
    chosen = _parser().parse_args(arguments)
    options = Options(**{field.name: getattr(chosen, field.name) for field in fields(Options)})
    options = options.quickly() if options.quick else options
    unknown = set(chosen.parts) - set(PARTS)
    if unknown:
        print(f"no such part: {', '.join(sorted(unknown))}; there are: {', '.join(PARTS)}", file=sys.stderr)
        return 2
    console = Console()
    described = machine.describe()
    if not chosen.json:
        console.print("\n".join(f"{name:14} {value}" for name, value in described.items()), "", highlight=False)
    before = saved.read(chosen.against)
    results: dict[str, list[Figure]] = {}
    for part in chosen.parts or USUAL:
        with Progress(part) as progress:
            figures: list[Figure] = import_module(f"tests.bench.{part}").run(options, progress)
        # Targets mean nothing for a load that is none.
        results[part] = [replace(figure, target=None) for figure in figures] if options.quick else figures
        if not chosen.json:
            as_text(part, results[part], console, before.get(part, {}))
        if chosen.save:
            saved.write(chosen.save, as_json(described, results))
    if chosen.json:
        print(as_json(described, results))
    missed = any(figure.met is False for figures in results.values() for figure in figures)
    return 1 if missed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make bench ARGS=...", description=__doc__)
    named = " and ".join(sorted(ONLY_WHEN_NAMED))
    parser.add_argument("parts", nargs="*", help=f"any of {', '.join(PARTS)}; all but {named} when none is named")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of tables")
    parser.add_argument("--save", type=Path, metavar="FILE", help="put the parts into this file and draw its curves")
    parser.add_argument(
        "--against", type=Path, metavar="FILE", default=saved.LAST, help="compare with this file [%(default)s]"
    )
    parser.add_argument("--quick", action="store_true", help="a few seconds each: only to see that it works")
    known = {field.name: field for field in fields(Options)}
    for name, text in (
        ("per-minute", "messages offered per minute (generation, outage)"),
        ("minutes", "for how long (generation, outage)"),
        ("latency", "seconds OpenAI takes (generation)"),
        ("sigma", "log-normal spread of that latency, e.g. 0.3; 0: none"),
        ("concurrency", "the worker's WORKER_CONCURRENCY"),
        ("megapixels", "of each of the two photos"),
        ("burst", "messages at once (burst, lanes)"),
        ("waiting", "messages behind a paused intake (backlog)"),
        ("objects", "objects of the storage (bucket)"),
        ("purge-rate", "the worker's DATA_LIFE_REQUESTS_PER_SECOND (bucket)"),
        ("profile", "write a py-spy profile of the Celery process to this file"),
    ):
        field = known[name.replace("-", "_")]
        parser.add_argument(f"--{name}", type=field.type, default=field.default, help=f"{text} [{field.default}]")
    return parser


if __name__ == "__main__":
    sys.exit(main())
