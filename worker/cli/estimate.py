"""`wearon-worker estimate PHOTO --height CM`: the size from a photo on this machine, without any service."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from worker.cli.options import FiniteRange, read_picture
from worker.errors import ImageError, WorkerError
from worker.photos.decode import decode
from worker.settings import IMAGE_MAX_BYTES
from worker.sizing.annotate import annotate as draw
from worker.sizing.charts import DEFAULT_CHART, Fit
from worker.sizing.estimator import Estimate, Person
from worker.sizing.estimator import estimate as measure
from worker.sizing.measurements import GIRTHS, Measurer, Sex
from worker.sizing.photo import read
from worker.sizing.pose import Landmarker, ModelUnusable, verify_model
from worker.sizing.refusals import PhotoRefused


@click.command(name="estimate")
@click.argument("photo", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--height", required=True, type=FiniteRange(100, 250), help="Stature in cm, without shoes.")
@click.option("--weight", type=FiniteRange(25, 350), help="Weight in kg; narrows the girths by about a quarter.")
@click.option("--sex", type=click.Choice(["F", "M"]))
@click.option("--fit", type=click.Choice(["tight", "regular", "loose"]), default="regular", show_default=True)
@click.option(
    "--annotate", type=click.Path(dir_okay=False, path_type=Path), help="Write a picture of what was measured."
)
def command(photo: Path, height: float, weight: float | None, sex: Sex | None, fit: Fit, annotate: Path | None) -> None:
    """Estimate measurements and the size from one photo of a whole person, frontal, in tight clothing."""
    try:
        verify_model()
        data = read_picture(photo, IMAGE_MAX_BYTES)
        with _silent_stderr(), Landmarker() as landmarker:
            found = measure(
                read(data), Person(height, weight, sex), DEFAULT_CHART, fit, detector=landmarker, measurer=Measurer()
            )
    except PhotoRefused as error:
        raise WorkerError(f"{photo}: {error} ({error.reason}) {error.hint}") from None
    except (ImageError, ModelUnusable) as error:
        raise WorkerError(f"{photo}: {error}") from None
    _print(found, Console())
    if annotate:
        try:
            draw(decode(data), found.silhouette, height).save(annotate)
        except (OSError, ValueError) as error:
            raise WorkerError(f"{annotate} cannot be written: {error}") from None
        click.echo(f"Annotated picture: {annotate}")


def _print(found: Estimate, console: Console) -> None:
    table = Table(title=f"Size {found.size} ({found.lower} to {found.upper})")
    table.add_column("")
    table.add_column("cm", justify="right")
    table.add_column("90 % of the time within", justify="right")
    for name in GIRTHS:
        girth = getattr(found.measurements, name)
        table.add_row(name, f"{girth.value:.1f}", f"± {girth.uncertainty:.1f}")
    console.print(table)
    console.print(f"Right within one size: {found.confidence:.0%}. Body type: {found.body_type}.")
    if found.warnings:
        console.print(f"Less certain because of: {', '.join(found.warnings)}.")


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """The native library greets with half a dozen lines that mean nothing to whoever measures a photo."""
    kept = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
