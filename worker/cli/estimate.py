"""`wearon-worker estimate [PHOTO] --height CM`: the size from a photo or a weight, without any service."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from worker.cli.options import FiniteRange, read_file
from worker.errors import ImageError, WorkerError
from worker.photos.decode import decode
from worker.settings import IMAGE_MAX_BYTES
from worker.sizing.annotate import annotate as draw
from worker.sizing.charts import Chart, Fit
from worker.sizing.estimator import Estimate
from worker.sizing.estimator import estimate as measure
from worker.sizing.measurements import Measurer
from worker.sizing.photo import read
from worker.sizing.population import GIRTHS, Person, Sex
from worker.sizing.pose import Landmarker, ModelUnusable, verify_model
from worker.sizing.refusals import PhotoRefused
from worker.sizing.standard_charts import STANDARD_CHARTS, ChartName
from worker.sizing.units import check_weight
from worker.sizing.views import SidePhoto


@click.command(name="estimate")
@click.argument("photo", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--height", required=True, type=FiniteRange(100, 250), help="Stature in cm, without shoes.")
@click.option("--weight", type=FiniteRange(10, 450), help="Weight in kg; as good as a photo.")
@click.option("--sex", type=click.Choice(["F", "M"]), help="Narrows the estimate.")
@click.option("--age", type=FiniteRange(10, 120), help="Age in years.")
@click.option(
    "--side", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="A second photo, from the side."
)
@click.option(
    "--chart", type=click.Choice(list(STANDARD_CHARTS)), default="unisex-eu", show_default=True, help="Size chart."
)
@click.option(
    "--fit",
    type=click.Choice(["tight", "regular", "loose"]),
    default="regular",
    show_default=True,
    help="How the garment is to fit.",
)
@click.option(
    "--annotate", type=click.Path(dir_okay=False, path_type=Path), help="Write a picture of what was measured."
)
def command(
    photo: Path | None,
    height: float,
    weight: float | None,
    sex: Sex | None,
    age: float | None,
    side: Path | None,
    chart: ChartName,
    fit: Fit,
    annotate: Path | None,
) -> None:
    """Estimate measurements and the size from one photo of a whole person, frontal, in tight clothing.

    Without PHOTO, --weight is required; the answer rests on people of the same height and weight.
    """
    if photo is None and weight is None:
        raise WorkerError("Give a photo, --weight or both: the height alone tells no size.")
    if side is not None and photo is None:
        raise WorkerError("--side is a second photo: give PHOTO, the one from the front, too.")
    if annotate is not None and photo is None:
        raise WorkerError("--annotate shows what was measured in a photo: give PHOTO, too.")
    if weight is not None:
        try:
            check_weight(weight, height)
        except ValueError as error:
            raise WorkerError(str(error)) from None
    data = None if photo is None else read_file(photo, IMAGE_MAX_BYTES)
    beside = None if side is None else partial(read, read_file(side, IMAGE_MAX_BYTES))
    found = _measure(data, str(photo), Person(height, weight, sex, age), STANDARD_CHARTS[chart], fit, beside)
    _print(found, Console())
    if annotate and data is not None and found.silhouette is not None:
        try:
            draw(decode(data), found.silhouette, height).save(annotate)
        except KeyError:
            raise WorkerError(f"{annotate} cannot be written: {annotate.suffix} is read only; name it .png") from None
        except (OSError, ValueError) as error:
            raise WorkerError(f"{annotate} cannot be written: {error}") from None
        click.echo(f"Annotated picture: {annotate}")


def _measure(data: bytes | None, name: str, person: Person, chart: Chart, fit: Fit, side: SidePhoto | None) -> Estimate:
    try:
        verify_model()
        with _silent_stderr(), Landmarker() as landmarker:
            picture = None if data is None else read(data)
            return measure(picture, person, chart, fit, detector=landmarker, measurer=Measurer(), side=side)
    except PhotoRefused as error:
        raise WorkerError(f"{name}: {error} ({error.reason}) {error.hint}") from None
    except ImageError as error:
        raise WorkerError(f"{name}: {error}") from None
    except ModelUnusable as error:
        raise WorkerError(str(error)) from None


def _print(found: Estimate, console: Console) -> None:
    table = Table(title=f"Size {found.size} ({found.lower} to {found.upper})")
    table.add_column("")
    table.add_column("cm", justify="right")
    table.add_column("90 % of the time within", justify="right")
    table.add_column(f"as {found.size}")
    for name in GIRTHS:
        girth = getattr(found.measurements, name)
        verdict = found.verdicts[found.size].get(name, "")
        table.add_row(name, f"{girth.value:.1f}", f"± {girth.uncertainty:.1f}", verdict)
    console.print(table)
    chances = ", ".join(f"{size} {chance:.0%}" for size, chance in found.probabilities.items())
    console.print(f"{found.size} fits: {found.confidence:.0%} ({chances}). Body type: {found.body_type}.")
    console.print(f"Basis: {found.measurements.basis}.")
    if found.recommendation == "unsure":
        console.print("Too unsure to recommend a size.")
    if found.hint:
        console.print(found.hint)
    if found.warnings:
        console.print(f"Less certain because of: {', '.join(found.warnings)}.")


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """Hide the half a dozen lines with which the native library greets."""
    kept = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
