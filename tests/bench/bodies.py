"""Folders of pictures with measured truth (`images/` and `truth.csv`), and what the pose model sees in them."""

import csv
import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from rich.progress import track

from tests.bench.pitched import TILTS, tilted
from worker.sizing.features import features
from worker.sizing.photo import read
from worker.sizing.pose import Landmarker
from worker.sizing.silhouette import Silhouette, trace

#: Pictures that are made of each body.
VIEWS = 2 + len(TILTS)

GIRTH_COLUMNS = ("chest_cm", "waist_cm", "hip_cm", "shoulder_cm")


@dataclass(frozen=True)
class Body:
    """One picture and its row of truth."""

    path: Path
    truth: dict[str, str]

    def number(self, column: str) -> float:
        return float(self.truth[column])


def bodies(folder: Path) -> list[Body]:
    """All pictures that the table names."""
    with (folder / "truth.csv").open(newline="") as table:
        return [Body(folder / "images" / (row.get("file") or "none"), row) for row in csv.DictReader(table)]


def reference(folder: Path) -> str:
    """File count and SHA-256 over the table and all pictures, in the table's order."""
    digest = hashlib.sha256((folder / "truth.csv").read_bytes())
    found = bodies(folder)
    for body in found:
        digest.update(body.path.read_bytes())
    return f"{len(found)} pictures and truth.csv, SHA-256 {digest.hexdigest()}"


def feature_rows(folder: Path) -> list[list[dict[str, float]]]:
    """Per body, the features of its VIEWS: as it is, mirrored, and once per tilt of the camera."""
    rows = []
    with Landmarker() as landmarker:
        for index, body in enumerate(track(bodies(folder), description=f"Measuring {folder.name}")):
            picture = read(body.path.read_bytes()).picture
            outline = _trace(picture, landmarker, body)
            mirrored = features(_trace(picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT), landmarker, body))
            cameras = tilted(picture, outline, body.truth["notes"], index)
            others = [features(one.correct(_trace(one.picture, landmarker, body))) for one in cameras]
            rows.append([features(outline), mirrored, *others])
    return rows


def _trace(picture: Image.Image, landmarker: Landmarker, body: Body) -> Silhouette:
    pixels = np.asarray(picture)
    outline = trace(landmarker.detect(pixels)[0], pixels)
    if outline is None:
        raise ValueError(f"{body.path}: no outline")
    return outline
