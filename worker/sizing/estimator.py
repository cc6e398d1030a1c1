"""Estimates girths, size and probabilities from the stated facts and an upright picture, if there is one."""

from dataclasses import dataclass
from typing import Literal

from worker.sizing.answers import BodyType
from worker.sizing.charts import FIT_CM, Chart, Fit, Normal
from worker.sizing.measurements import Measurements, Measurer
from worker.sizing.photo import Photo
from worker.sizing.population import Person
from worker.sizing.pose import Detector
from worker.sizing.silhouette import Silhouette
from worker.sizing.verdicts import verdicts
from worker.sizing.views import SidePhoto, from_front, from_side
from worker.sizing.warnings import warnings, weight_hint

Recommendation = Literal["sure", "unsure"]

#: From this waist-to-height ratio a body counts as broad, below that one as slim; chest-to-waist makes it athletic.
BROAD_WAIST_TO_HEIGHT = 0.53
SLIM_WAIST_TO_HEIGHT = 0.42
ATHLETIC_CHEST_TO_WAIST = 1.22
#: A size is recommended alone from this probability; below, its likelier neighbour is named, too.
_ALONE = 0.9
#: Below this probability that the recommended size fits, its neighbour is nearly as likely.
_SURE = 0.6
#: No size is recommended from this half-width of an interval, in cm.
_UNSURE_CM = 12.0


@dataclass(frozen=True)
class Estimate:
    """The answer, and the outline behind it where there was a picture."""

    silhouette: Silhouette | None
    measurements: Measurements
    size: str
    lower: str
    upper: str
    confidence: float
    #: By size, from small to large; the largest one also stands for larger people.
    probabilities: dict[str, float]
    #: By size and place: `fits`, or how much too tight or too loose it is.
    verdicts: dict[str, dict[str, str]]
    recommendation: Recommendation
    body_type: BodyType
    warnings: list[str]
    hint: str


def estimate(
    photo: Photo | None,
    person: Person,
    chart: Chart,
    fit: Fit,
    *,
    detector: Detector,
    measurer: Measurer,
    side: SidePhoto | None = None,
) -> Estimate:
    """Measure the person in the photo; without a photo, answer from people of that height and weight.

    `side` reads a second photo, from the side, which counts where it can be used. Raises PhotoRefused.
    """
    silhouette, measured, lost = _measure(photo, side, person, detector, measurer)
    girths = {
        name: Normal(girth.value + FIT_CM[fit], girth.deviation)
        for name, girth in (("chest", measured.chest), ("waist", measured.waist), ("hip", measured.hip))
    }
    index = chart.size(**{name: girth.value for name, girth in girths.items()})
    chances = chart.probabilities(girths, measured.correlation)
    lower, upper = _range(index, chances)
    beyond = chart.exceeded(**{name: girth.value for name, girth in girths.items()})
    doubt = weight_hint(measured, person)
    confidence = chart.chance_to_fit(index, girths, measured.correlation)
    vague = confidence < _SURE or _is_vague(measured, chart)
    further = {"side_photo_unusable": bool(lost), "weight_unlikely": bool(doubt), "beyond_chart": beyond}
    return Estimate(
        silhouette=silhouette,
        measurements=measured,
        size=chart.names[index],
        lower=chart.names[lower],
        upper=chart.names[upper],
        confidence=confidence,
        probabilities=dict(zip(chart.names, chances, strict=True)),
        verdicts=verdicts(chart, {name: girth.value for name, girth in girths.items()}),
        recommendation="unsure" if beyond or doubt or vague else "sure",
        body_type=body_type(measured, person.height_cm),
        warnings=[*warnings(silhouette, measured), *(code for code, holds in further.items() if holds)],
        hint=" ".join(filter(None, (doubt, lost and f"The photo from the side was left out: {lost}"))),
    )


def _measure(
    photo: Photo | None, side: SidePhoto | None, person: Person, detector: Detector, measurer: Measurer
) -> tuple[Silhouette | None, Measurements, str]:
    """The outline and the girths, and why the photo from the side cannot be used."""
    if photo is None:
        return None, measurer.combine(None, person), ""
    silhouette, reading = from_front(photo, person.height_cm, detector, measurer)
    depths, lost = (None, "") if side is None else from_side(side, person.height_cm, detector)
    return silhouette, measurer.combine(reading, person, depths), lost


def body_type(measured: Measurements, height_cm: float) -> BodyType:
    """Broad by waist to height; else athletic by chest to waist; else slim by waist to height; else average."""
    waist_to_height = measured.waist.value / height_cm
    if waist_to_height >= BROAD_WAIST_TO_HEIGHT:
        return "broad"
    if measured.chest.value / measured.waist.value >= ATHLETIC_CHEST_TO_WAIST:
        return "athletic"
    return "slim" if waist_to_height < SLIM_WAIST_TO_HEIGHT else "average"


def _range(index: int, chances: list[float]) -> tuple[int, int]:
    """The recommended size and, unless it is nearly certain, its likelier neighbour."""
    if chances[index] >= _ALONE or len(chances) == 1:
        return index, index
    below = chances[index - 1] if index else 0.0
    above = chances[index + 1] if index + 1 < len(chances) else 0.0
    return (index - 1, index) if below > above else (index, min(index + 1, len(chances) - 1))


def _is_vague(measured: Measurements, chart: Chart) -> bool:
    return any(getattr(measured, girth).uncertainty > _UNSURE_CM for girth in chart.limited)
