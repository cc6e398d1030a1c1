"""Fits the lines through real people: `python -m tests.bench.fit_population ansur2.csv --rendered FOLDER`.

The table has one measured adult a line: sex, age, stature_cm, weight_kg, chest_cm, waist_cm, hip_cm, biacromial_cm,
and the depths of chest, waist and hip (ANSUR II, Gordon et al. 2014, NATICK/TR-15/007, public). FOLDER holds rendered
bodies with the waist of ISO 8559-1.
"""

import csv
import hashlib
import json
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from tests.bench.bodies import bodies
from worker.sizing.population import GIRTHS, POPULATION_PATH

Array = NDArray[np.float64]

_COLUMNS = ("chest_cm", "waist_cm", "hip_cm", "biacromial_cm")
#: Civilians spread wider than soldiers of one height and weight, and are measured with less care.
_CARE = 1.15
_FOLDS = 10
_DEPTHS = ("chest_depth_cm", "waist_depth_cm", "hip_depth_cm")


@click.command()
@click.argument("table", type=click.Path(exists=True, path_type=Path))
@click.option("--rendered", type=click.Path(exists=True, path_type=Path), required=True)
def fit(table: Path, rendered: Path) -> None:
    """Fit, cross-validate, print the errors and write the coefficients."""
    with table.open(newline="") as lines:
        people = list(csv.DictReader(lines))
    by_sex = {sex: _read([row for row in people if row["sex"] == sex]) for sex in ("F", "M")}
    navel = _navel(by_sex, rendered)
    stored: dict[str, Any] = {
        "provenance": f"ANSUR II, {len(people)} adults, SHA-256 {hashlib.sha256(table.read_bytes()).hexdigest()}",
        "girths": GIRTHS,
        "inputs": ["1", "height_cm", "sqrt(weight_kg / height_cm)", "age"],
        "navel_above_natural_waist_cm": navel,
        "heights": {sex: [float(x[:, 1].mean()), float(x[:, 1].std())] for sex, (x, _) in by_sex.items()},
        "roots": _range(np.concatenate([x[:, 2] for x, _ in by_sex.values()])),
        "ages": [17, 70],
        "lines": {},
        "depths": {},
    }
    for sex, (inputs, girths) in by_sex.items():
        natural = girths - np.array([0, navel[sex], 0, 0])
        stored["lines"][sex] = _line(inputs, natural, f"{sex}: height, weight, age")
        stored["depths"][sex] = _depths([row for row in people if row["sex"] == sex], inputs, natural)
    POPULATION_PATH.write_text(json.dumps(stored, indent=1) + "\n")


def _read(rows: list[dict[str, str]]) -> tuple[Array, Array]:
    height, weight, age = (np.array([float(row[name]) for row in rows]) for name in ("stature_cm", "weight_kg", "age"))
    girths = np.array([[float(row[name]) for name in _COLUMNS] for row in rows])
    return np.stack([np.ones(len(rows)), height, np.sqrt(weight / height), age], axis=1), girths


def _navel(by_sex: dict[str, tuple[Array, Array]], folder: Path) -> dict[str, float]:
    """The surplus of ANSUR's waist over the natural one: against rendered bodies of the same chest and hip."""
    found = {}
    for sex, (_, girths) in by_sex.items():
        truth = [body for body in bodies(folder) if body.truth["sex"] == sex]
        other = np.array([[body.number(name) for name in ("chest_cm", "waist_cm", "hip_cm")] for body in truth])
        inputs = np.stack([np.ones(len(girths)), girths[:, 0], girths[:, 2]], axis=1)
        line = np.linalg.lstsq(inputs, girths[:, 1])[0]
        excess = np.stack([np.ones(len(other)), other[:, 0], other[:, 2]], axis=1) @ line - other[:, 1]
        found[sex] = round(float(excess.mean()), 1)
    click.echo(f"navel above natural waist: {found}")
    return found


def _line(inputs: Array, girths: Array, name: str) -> dict[str, Any]:
    errors = _cross_validated(inputs, girths)
    click.echo(f"{name:24} MAE cm " + "  ".join(f"{value:.2f}" for value in np.abs(errors).mean(axis=0)))
    return {
        "coefficients": np.linalg.lstsq(inputs, girths)[0].T.round(5).tolist(),
        "deviations": (errors.std(axis=0) * _CARE).round(3).tolist(),
    }


def _depths(rows: list[dict[str, str]], inputs: Array, girths: Array) -> dict[str, Any]:
    """Lines from 1, height and girth to the depth at the same place, and their deviations."""
    coefficients, deviations = [], []
    for index, name in enumerate(_DEPTHS):
        depth = np.array([float(row[name]) for row in rows])
        known = np.column_stack([inputs[:, :2], girths[:, index]])
        line = np.linalg.lstsq(known, depth)[0]
        coefficients.append(line.round(5).tolist())
        deviations.append(round(float((depth - known @ line).std() * _CARE), 3))
    return {"coefficients": coefficients, "deviations": deviations}


def _cross_validated(inputs: Array, girths: Array) -> Array:
    fold = np.random.default_rng(1).integers(0, _FOLDS, len(inputs))
    errors = np.zeros_like(girths)
    for index in range(_FOLDS):
        line = np.linalg.lstsq(inputs[fold != index], girths[fold != index])[0]
        errors[fold == index] = inputs[fold == index] @ line - girths[fold == index]
    return errors


def _range(values: Array) -> list[float]:
    low, high = np.quantile(values, (0.001, 0.999))
    return [round(float(low), 4), round(float(high), 4), round(float(values.std()), 4)]


if __name__ == "__main__":
    fit()
