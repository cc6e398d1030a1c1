"""Recall of the quality gate: `python -m tests.bench.gate FOLDER` prints recall and false refusals."""

from collections import Counter
from pathlib import Path

import click
import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import track
from rich.table import Table

from tests.bench.bodies import bodies
from tests.bench.spoiled import SPOILED, Good
from worker.photos.decode import decode
from worker.sizing.photo import reduce
from worker.sizing.pose import Landmarker
from worker.sizing.quality import check
from worker.sizing.refusals import PhotoRefused


@click.command()
@click.argument("folder", type=click.Path(exists=True, path_type=Path))
@click.option("--every", default=30, show_default=True, help="Spoil every n-th picture; all are judged unspoiled.")
def gate(folder: Path, every: int) -> None:
    """Print the reasons that good and spoiled pictures get."""
    console = Console(width=150)
    paths = [body.path for body in bodies(folder)]
    with Landmarker() as landmarker:
        fine = Counter(
            verdict(decode(path.read_bytes()), landmarker)
            for path in track(paths, "Good", console=console, transient=True)
        )
        table = Table(
            "made by", "expected", "strength", "share refused so", "refused at all", "as", title="Spoiled pictures"
        )
        for reason, spoil, strengths in SPOILED:
            for strength in strengths:
                found: Counter[str] = Counter()
                for index in range(0, len(paths), every):
                    picture, other = (decode(paths[i % len(paths)].read_bytes()) for i in (index, index + 7))
                    good = Good(picture, landmarker.detect(np.asarray(picture))[0], other)
                    found[verdict(spoil(good, strength), landmarker)] += 1
                total = found.total()
                others = ", ".join(f"{name} {count}" for name, count in found.items() if name != reason)
                shares = (found[reason] / total, 1 - found["accepted"] / total)
                table.add_row(spoil.__name__, reason, f"{strength:g}", *(f"{share:.2f}" for share in shares), others)
    console.print(table)
    refused = {name: count for name, count in fine.items() if name != "accepted"}
    console.print(f"Good pictures: {len(paths)}, refused {sum(refused.values())} {refused or ''}")


def verdict(picture: Image.Image, landmarker: Landmarker) -> str:
    """The reason of the refusal, or `accepted`."""
    try:
        check(reduce(picture), landmarker)
    except PhotoRefused as refusal:
        return refusal.reason
    return "accepted"


if __name__ == "__main__":
    gate()
