from worker.sizing.charts import Chart, Limits
from worker.sizing.verdicts import verdicts

GIRTHS = {"chest": 96.5, "waist": 85.0, "hip": 98.0}


def test_every_size_and_place_has_a_verdict_in_whole_centimetres() -> None:
    chart = Chart((("S", Limits(90, 82)), ("M", Limits(98, 90)), ("L", Limits(106, 98))))

    assert verdicts(chart, GIRTHS) == {
        "S": {"chest": "6 cm too tight", "waist": "3 cm too tight"},
        "M": {"chest": "fits", "waist": "fits"},
        "L": {"chest": "2 cm too loose", "waist": "5 cm too loose"},
    }


def test_less_than_a_centimetre_over_the_limit_is_not_called_a_fit() -> None:
    chart = Chart((("36", Limits(waist=84.8)), ("38", Limits(waist=90))))

    assert verdicts(chart, GIRTHS) == {"36": {"waist": "1 cm too tight"}, "38": {"waist": "fits"}}


def test_size_above_an_unlimited_one_is_not_called_loose() -> None:
    chart = Chart((("S", Limits(90, 80)), ("M", Limits(98)), ("L", Limits(106))))

    assert verdicts(chart, GIRTHS)["L"] == {"chest": "2 cm too loose", "waist": "fits"}


def test_sizes_with_the_same_limit_fit_alike_there() -> None:
    chart = Chart((("S", Limits(90, 80)), ("M", Limits(90, 86)), ("L", Limits(98, 86))))

    found = verdicts(chart, {"chest": 88.0, "waist": 85.0})

    assert {size: (places["chest"], places["waist"]) for size, places in found.items()} == {
        "S": ("fits", "5 cm too tight"),
        "M": ("fits", "fits"),
        "L": ("2 cm too loose", "fits"),
    }
