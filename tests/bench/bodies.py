"""Folders of pictures with measured truth (`images/` and `truth.csv`), and what the pose model sees in them."""

import csv
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from rich.progress import track

from worker.sizing.features import features
from worker.sizing.photo import read
from worker.sizing.pose import Landmarker
from worker.sizing.silhouette import trace

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
        return [Body(folder / "images" / row["file"], row) for row in csv.DictReader(table)]


def reference(folder: Path) -> str:
    """File count and SHA-256 over the table and all pictures, in the table's order."""
    digest = hashlib.sha256((folder / "truth.csv").read_bytes())
    found = bodies(folder)
    for body in found:
        digest.update(body.path.read_bytes())
    return f"{len(found)} pictures and truth.csv, SHA-256 {digest.hexdigest()}"


def variations(picture: Image.Image, seed: int) -> Iterator[Image.Image]:
    """The picture itself, its mirror image, and two versions with other margins and sizes: four views of one body."""
    yield picture
    yield picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    for turn in (False, True):
        seed = seed * 1103515245 + 12345 & 0x7FFFFFFF
        left, top, right, bottom = (seed >> shift & 31 for shift in (0, 5, 10, 15))
        share = 0.8 + 0.2 * (seed >> 20 & 31) / 31
        cut = picture.crop((left, top, picture.width - right, picture.height - bottom))
        cut = cut.resize((int(cut.width * share), int(cut.height * share)), Image.Resampling.BILINEAR)
        yield cut.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if turn else cut


def feature_rows(folder: Path, *, views: int) -> list[list[dict[str, float]]]:
    """Per body, the features of its first `views` variations."""
    rows = []
    with Landmarker() as landmarker:
        for index, body in enumerate(track(bodies(folder), description=f"Measuring {folder.name}")):
            picture = read(body.path.read_bytes()).picture
            found = []
            for _, view in zip(range(views), variations(picture, index), strict=False):
                outline = trace(landmarker.detect(np.asarray(view))[0], np.asarray(view))
                if outline is None:
                    raise ValueError(f"{body.path}: no outline")
                found.append(features(outline))
            rows.append(found)
    return rows
