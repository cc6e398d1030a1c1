"""`make gpu-check`: the pose model on the GPU beside the CPU, on the tests' pictures.

Prints rate, latency and the largest difference of each measurement; the exit code is 1 when one is above 0.3 cm, and 2
without a GPU that works.
"""

import sys
import time
from functools import partial
from pathlib import Path

import click
import numpy as np

from tests.bench.figures import percentile
from worker.sizing.estimator import estimate
from worker.sizing.measurements import Measurer
from worker.sizing.photo import read
from worker.sizing.population import Person
from worker.sizing.pose import GpuUnavailable, Landmarker
from worker.sizing.refusals import PhotoRefused
from worker.sizing.standard_charts import DEFAULT_CHART

PICTURES = Path(__file__).parent.parent / "worker" / "sizing" / "pictures" / "images"
LIMIT_CM = 0.3
_GIRTHS = ("chest", "waist", "hip", "shoulder")
_HEIGHT_CM = 170.0

Sizes = dict[str, dict[str, float]]


@click.command()
@click.option("--pictures", default=60, show_default=True, help="How many; drawn by the CPU each takes seconds.")
def check(pictures: int) -> None:
    """Compare the GPU with the CPU."""
    paths = sorted(PICTURES.iterdir())[:pictures]
    try:
        with Landmarker(gpu=True) as gpu:
            on_gpu = measured("GPU", gpu, paths)
    except GpuUnavailable as error:
        click.echo(f"no GPU: {error}", err=True)
        sys.exit(2)
    with Landmarker() as cpu:
        on_cpu = measured("CPU", cpu, paths)
    off = differences(on_gpu, on_cpu)
    click.echo("".join(f"{girth:10} differs by at most {value:.2f} cm\n" for girth, value in off.items()), nl=False)
    sys.exit(1 if max(off.values()) > LIMIT_CM else 0)


def measured(name: str, landmarker: Landmarker, paths: list[Path]) -> Sizes:
    """Girths by picture; prints rate and latency of the inference alone."""
    photos = {path.name: read(path.read_bytes()) for path in paths}
    work = partial(estimate, chart=DEFAULT_CHART, fit="regular", detector=landmarker, measurer=Measurer())
    times, found = [], {}
    for number, (picture, photo) in enumerate(photos.items()):
        begun = time.monotonic()
        landmarker.detect(np.asarray(photo.picture))
        if number:  # the first one compiles and warms up
            times.append(time.monotonic() - begun)
        try:
            sizes = work(photo, Person(_HEIGHT_CM)).measurements
            found[picture] = {girth: getattr(sizes, girth).value for girth in _GIRTHS}
        except PhotoRefused as refusal:
            found[picture] = {refusal.reason: 0.0}
    rate = len(times) / sum(times)
    p50, p95 = (1000 * percentile(times, share) for share in (0.5, 0.95))
    click.echo(f"{name}: {rate:.1f} pictures a second, p50 {p50:.1f} ms, p95 {p95:.1f} ms, {len(found)} pictures")
    return found


def differences(one: Sizes, other: Sizes) -> dict[str, float]:
    """The largest difference by girth; infinite where only one was refused, or for another reason."""
    off = dict.fromkeys(_GIRTHS, 0.0)
    for picture, sizes in one.items():
        if sizes.keys() != other[picture].keys():
            return dict.fromkeys(_GIRTHS, float("inf"))
        for girth in _GIRTHS:
            off[girth] = max(off[girth], abs(sizes.get(girth, 0.0) - other[picture].get(girth, 0.0)))
    return off


if __name__ == "__main__":
    check()
