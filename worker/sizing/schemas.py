"""Request body of the size API; strict, so that a wrong type is told and never guessed at."""

from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from worker.sizing.charts import Chart, Fit, Limits
from worker.sizing.population import Person, Sex
from worker.sizing.standard_charts import STANDARD_CHARTS, ChartName
from worker.sizing.units import check_chart, check_weight

MAX_URL_LENGTH = 8192
MAX_SIZES = 30

_PhotoUrl = Annotated[
    str, Field(strict=True, max_length=MAX_URL_LENGTH, pattern=r"^[hH][tT][tT][pP][sS]?://[^\s/]\S*$")
]
_Centimetres = Annotated[float, Field(gt=0, le=300, strict=True, allow_inf_nan=False)]
#: Any printable text without spaces at its ends.
_SizeName = Annotated[
    str,
    StringConstraints(
        min_length=1,
        max_length=50,
        pattern=r"^[^\x00-\x20\x7f-\xa0]([^\x00-\x1f\x7f-\x9f]*[^\x00-\x20\x7f-\xa0])?$",
        strict=True,
    ),
]

EXAMPLE: dict[str, Any] = {"image_url": "https://example.com/photos/front.jpg", "height_cm": 178}
EXAMPLE_FULL: dict[str, Any] = {
    **EXAMPLE,
    "weight_kg": 74.5,
    "sex": "M",
    "fit": "regular",
    "size_chart": {
        "S": {"chest_cm": 94, "waist_cm": 82},
        "M": {"chest_cm": 102, "waist_cm": 90},
        "L": {"chest_cm": 110, "waist_cm": 98},
    },
}


class SizeLimits(BaseModel):
    """The largest girths that one size fits."""

    model_config = ConfigDict(extra="forbid", title="SizeLimits")

    chest_cm: _Centimetres | None = None
    waist_cm: _Centimetres | None = None
    hip_cm: _Centimetres | None = None

    @model_validator(mode="after")
    def _some_limit(self) -> Self:
        if self.chest_cm is None and self.waist_cm is None and self.hip_cm is None:
            raise ValueError("A size needs a limit: chest_cm, waist_cm or hip_cm.")
        return self

    def limits(self) -> Limits:
        """The limits as the chart reads them."""
        given = {"chest": self.chest_cm, "waist": self.waist_cm, "hip": self.hip_cm}
        return Limits(**{girth: limit for girth, limit in given.items() if limit is not None})


class EstimateRequest(BaseModel):
    """One photo, or the weight in place of it, and the facts about the person."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [EXAMPLE, EXAMPLE_FULL]})

    image_url: Annotated[
        _PhotoUrl | None,
        Field(
            description="JPEG, PNG, WebP, AVIF or HEIC of one whole person: frontal, standing, in tight clothing. "
            "Without it the answer comes from people of the same height and weight."
        ),
    ] = None
    height_cm: Annotated[float, Field(description="Stature without shoes.", ge=100, le=250, strict=True)]
    weight_kg: Annotated[
        float | None,
        Field(description="In kilograms; as good as a photo, needed without one.", ge=10, le=450, strict=True),
    ] = None
    sex: Annotated[Sex | None, Field(description="F or M.")] = None
    age: Annotated[float | None, Field(description="In years.", ge=10, le=120, strict=True)] = None
    side_image_url: Annotated[
        _PhotoUrl | None,
        Field(
            description="The same person from the side, in the same clothing, arms hanging; only beside image_url. A "
            "photo that cannot be used is left out, with the warning `side_photo_unusable`."
        ),
    ] = None
    fit: Annotated[
        Fit | None,
        Field(description="Takes 3 cm off the girths (tight) or adds them (loose) before the chart is read."),
    ] = "regular"
    chart: Annotated[
        ChartName | None,
        Field(description="A standard chart by name, in place of size_chart; without both it is unisex-eu."),
    ] = None
    size_chart: Annotated[
        dict[_SizeName, SizeLimits] | None,
        Field(
            description="Upper limits per size, in any order; the largest size also takes larger people.",
            min_length=1,
            max_length=MAX_SIZES,
        ),
    ] = None

    @model_validator(mode="after")
    def _likely(self) -> Self:
        if self.image_url is None and self.weight_kg is None:
            raise ValueError("Give image_url, weight_kg or both: the height alone tells no size.")
        if self.side_image_url is not None and self.image_url is None:
            raise ValueError("side_image_url is a second photo: give image_url, too.")
        if self.chart is not None and self.size_chart is not None:
            raise ValueError("Give chart or size_chart, not both.")
        if self.weight_kg is not None:
            check_weight(self.weight_kg, self.height_cm)
        check_chart(self.limits(), self.height_cm)
        return self

    def person(self) -> Person:
        """The facts about the person beside the photo."""
        return Person(self.height_cm, self.weight_kg, self.sex, self.age)

    def limits(self) -> Chart:
        """The shop's own chart, the standard chart that the request names, or today's default."""
        if self.size_chart is None:
            return STANDARD_CHARTS[self.chart or "unisex-eu"]
        sizes = [(name, given.limits()) for name, given in self.size_chart.items()]
        # JSON objects have no order; many clients sort their keys.
        return Chart(tuple(sorted(sizes, key=lambda size: (size[1].chest, size[1].waist, size[1].hip))))
