"""From an upright picture and a height to girths, size and confidence: gate, outline, model, chart."""

from dataclasses import dataclass

from worker.sizing.charts import FIT_CM, Chart, Fit
from worker.sizing.features import features
from worker.sizing.measurements import Measurements, Measurer, Sex
from worker.sizing.photo import Photo
from worker.sizing.pose import Detector
from worker.sizing.quality import check
from worker.sizing.schemas import BodyType
from worker.sizing.silhouette import Silhouette
from worker.sizing.warnings import picture_warnings

#: From this waist-to-height ratio a body counts as broad, below that one as slim; chest-to-waist makes it athletic.
BROAD_WAIST_TO_HEIGHT = 0.53
SLIM_WAIST_TO_HEIGHT = 0.42
ATHLETIC_CHEST_TO_WAIST = 1.22


@dataclass(frozen=True)
class Person:
    """What is known of the person beside the picture."""

    height_cm: float
    weight_kg: float | None = None
    sex: Sex | None = None


@dataclass(frozen=True)
class Estimate:
    """The answer, and the outline it was read from."""

    silhouette: Silhouette
    measurements: Measurements
    size: str
    lower: str
    upper: str
    confidence: float
    body_type: BodyType
    warnings: list[str]


def estimate(
    photo: Photo, person: Person, chart: Chart, fit: Fit, *, detector: Detector, measurer: Measurer
) -> Estimate:
    """Measure the person in the photo.

    Raises:
        PhotoRefused: it cannot be measured; the error says why and what to change.
    """
    silhouette = check(photo, detector)
    found = features(silhouette)
    measured = measurer.measure(found, person.height_cm, person.weight_kg, person.sex)
    ease = FIT_CM[fit]
    chest, waist, hip = (girth.value + ease for girth in (measured.chest, measured.waist, measured.hip))
    index = chart.size(chest, waist, hip)
    half = measured.chest.uncertainty
    names = [name for name, _ in chart.sizes]
    codes = picture_warnings(silhouette, measured)
    if chart.exceeded(chest, waist, hip):
        codes.append("beyond_chart")
    return Estimate(
        silhouette=silhouette,
        measurements=measured,
        size=names[index],
        # Waist or hip may ask for more than the chest's interval does.
        lower=names[min(index, chart.size(chest - half))],
        upper=names[max(index, chart.size(chest + half))],
        confidence=chart.chance_within_one(
            index,
            chest=(chest, measured.chest.deviation),
            waist=(waist, measured.waist.deviation),
            hip=(hip, measured.hip.deviation),
        ),
        body_type=body_type(measured, person.height_cm),
        warnings=codes,
    )


def body_type(measured: Measurements, height_cm: float) -> BodyType:
    """Broad by waist to height; else athletic by chest to waist; else slim by waist to height; else average."""
    waist_to_height = measured.waist.value / height_cm
    if waist_to_height >= BROAD_WAIST_TO_HEIGHT:
        return "broad"
    if measured.chest.value / measured.waist.value >= ATHLETIC_CHEST_TO_WAIST:
        return "athletic"
    return "slim" if waist_to_height < SLIM_WAIST_TO_HEIGHT else "average"
