"""The answer without a photo: right for real people, and possible for everybody."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.sizing.population import GIRTHS, Person, Population, Sex

POPULATION = Population()

#: Medians of 4 950 civilians: height, weight, age, waist and hip (Oxford Biobank, PMC5965665, table 1).
OXFORD: tuple[tuple[Sex, float, float, float, float, float], ...] = (
    ("M", 179, 83.9, 43, 92, 101),
    ("F", 165, 66.7, 42, 80, 100),
)
#: Means of adults: height, weight, age, and the waist that was measured (NHANES 2015-2016, waist at the iliac crest).
CIVILIANS: tuple[tuple[Sex, float, float, float, float], ...] = (
    ("M", 175.4, 89.8, 47, 102.1),
    ("F", 161.5, 77.4, 48, 98.0),
)

people = st.builds(
    lambda height, index, sex, age: Person(height, index * (height / 100) ** 2, sex, age),
    st.floats(100, 250),
    st.floats(12, 70),
    st.sampled_from([None, "F", "M"]),
    st.none() | st.floats(10, 120),
)


@given(people)
def test_every_possible_body_has_girths_and_intervals(person: Person) -> None:
    found = POPULATION.expect(person)

    assert (found.values > 20).all()
    assert (found.values < 330).all()
    assert (found.deviations > 1).all()
    assert (found.deviations < 60).all()


@given(st.floats(100, 250), st.sampled_from([None, "F", "M"]), st.none() | st.floats(10, 120))
def test_girths_rise_with_the_weight(height: float, sex: Sex | None, age: float | None) -> None:
    weights = [index * (height / 100) ** 2 for index in range(12, 71)]
    found = [POPULATION.expect(Person(height, weight, sex, age)).values for weight in weights]

    assert all((heavier > lighter).all() for lighter, heavier in pairwise(found))


@given(people)
def test_knowing_the_weight_or_the_sex_of_a_usual_body_never_widens_the_interval(person: Person) -> None:
    usual = Person(175.0, 70.0, person.sex, person.age)
    without = Person(175.0, None, person.sex, person.age)

    assert (POPULATION.expect(usual).deviations <= POPULATION.expect(without).deviations).all()


@pytest.mark.parametrize(("sex", "height", "weight", "age", "waist"), CIVILIANS)
def test_mean_civilian_is_met_although_the_lines_were_fitted_on_soldiers(
    sex: Sex, height: float, weight: float, age: float, waist: float
) -> None:
    found = POPULATION.expect(Person(height, weight, sex, age))

    # The natural waist is 2 to 6 cm less than the one at the iliac crest.
    assert -7 < found.values[GIRTHS.index("waist")] - waist < 0


@pytest.mark.parametrize(("sex", "height", "weight", "age", "waist", "hip"), OXFORD)
def test_median_civilian_is_met_within_two_centimetres(
    sex: Sex, height: float, weight: float, age: float, waist: float, hip: float
) -> None:
    found = dict(zip(GIRTHS, POPULATION.expect(Person(height, weight, sex, age)).values, strict=True))

    assert found["waist"] == pytest.approx(waist, abs=2)
    assert found["hip"] == pytest.approx(hip, abs=2)


@given(people, st.floats(-4, 4))
def test_stated_sex_counts_alone(person: Person, femininity: float) -> None:
    stated = Person(person.height_cm, person.weight_kg, "F", person.age)

    assert POPULATION.shares(stated, femininity) == {"F": 1.0}


def test_photo_moves_the_odds_that_the_height_gives() -> None:
    odds = [POPULATION.shares(Person(169), femininity)["F"] for femininity in (-3, -1, 0, 1, 3)]

    assert odds == sorted(odds)
    assert odds[0] < 0.1
    assert odds[-1] > 0.9


def test_body_far_from_all_that_were_measured_is_less_certain() -> None:
    usual, strange = POPULATION.expect(Person(175, 75)), POPULATION.expect(Person(105, 20))

    assert (strange.deviations > 2 * usual.deviations).all()
