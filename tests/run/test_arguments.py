"""What a part's constructor is annotated with, against what a user gives."""

import datetime
import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Optional

import numpy as np
import pytest
from torch import nn

from pyro_vae.errors import Count, InputError, Range
from pyro_vae.run import parts

NAN, INF = math.nan, math.inf
DAY = datetime.date(2020, 1, 1)


def built(annotation, value, *default):
    """Builds a part with one argument of an annotation, and returns what has come of it."""

    class Part:
        def __init__(self, leapfrogs: annotation = default[0] if default else None) -> None:
            self.leapfrogs = leapfrogs

    if not default:
        Part.__init__.__defaults__ = None
    return parts.build("inference", Part, own={"leapfrogs": value}).leapfrogs


@pytest.mark.parametrize(
    ("annotation", "value", "result"),
    [
        (int, 3, 3),
        (int, 1e3, 1000),
        (int, np.int64(3), 3),
        (float, 2, 2.0),
        (float, 0.5, 0.5),
        (bool, False, False),
        (str, "abc", "abc"),
        (int | None, None, None),
        (Optional[int], 4.0, 4),  # noqa: UP045, users write it
        (float | int, 3, 3),
        (int | str, "a", "a"),
        (str | list[int], [1.0], [1]),
        (Literal["a", 1], 1, 1),
        (list[int], [1.0, 2], [1, 2]),
        (tuple[int, ...], [1, 2], (1, 2)),
        (tuple[int, float], [1, 2], (1, 2.0)),
        (Sequence[float], [1], [1.0]),
        (list, [1, "a"], [1, "a"]),
        (Count, 1, 1),
        (Annotated[float, Range(above=0)], 1e-9, 1e-9),
        (Annotated[list[int], Range(1, 3)], [1, 3], [1, 3]),
        (Annotated[int, "a word"], 3, 3),
        ("int", 3.0, 3),  # as `from __future__ import annotations` leaves it
        ("NotHere", "abc", "abc"),
        (Any, DAY, DAY),
        (nn.Module, "abc", "abc"),
        (dict[str, int], {"a": 1}, {"a": 1}),
    ],
)
def test_what_fits_is_given_as_it_is_wanted(annotation, value, result):
    found = built(annotation, value)
    assert found == result
    assert type(found) is type(result)


@pytest.mark.parametrize(
    ("annotation", "values", "wanted"),
    [
        (int, ("abc", 0.5, NAN, INF, True, None, [1], DAY, 2**60, 1e300, ""), "a whole number"),
        (float, ("abc", NAN, INF, -INF, True, None, [1.0], DAY, 10**400), "a finite number"),
        (bool, ("abc", 1, 0, -1, NAN, None, [1, 2], DAY), "true or false"),
        (str, (1, None, True, DAY, ["a"]), "text"),
        (int | None, ("abc", 0.5, True, [None]), "a whole number"),
        (Count, (0, -1, "abc", NAN, 1.5), "a whole number of at least 1"),
        (Count | None, (0, "abc"), "a whole number of at least 1"),
        (Annotated[float, Range(0, 1)], (-0.1, 1.1), "a finite number of at least 0 and of at most 1"),
        (Annotated[float, Range(above=0)], (0, -1, INF), "a finite number above 0"),
        (Literal["kde", "gaussian"], ("abc", 1, None, True), "kde or gaussian"),
        (Literal[1, 2], (True, 1.0, 3), "1 or 2"),
        (list[int], (1, "abc", ["a"], [0.5], [NAN], None), "a list, of a whole number each"),
        (tuple[int, float], ([1], [1, 2, 3], [1, "a"]), "a list of a whole number and a finite number"),
        (Annotated[list[int], Range(1)], ([0], [2, 0]), "a list, of a whole number each of at least 1"),
        ("int", ("abc",), "a whole number"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_is_wanted(annotation, values, wanted):
    for value in values:
        with pytest.raises(
            InputError, match=rf"^--set inference.leapfrogs .*is not possible: give {wanted}$"
        ) as refusal:
            built(annotation, value)
        assert len(str(refusal.value)) < 200


def test_the_message_names_flag_value_and_default():
    for value, shown in (("abc", "abc"), ([1, 2], "[1, 2]"), (DAY, "2020-01-01"), (True, "true"), (NAN, "nan")):
        with pytest.raises(InputError) as refusal:
            built(Count, value, 10)
        assert str(refusal.value) == (
            f"--set inference.leapfrogs {shown} is not possible: give a whole number of at least 1 (default 10)"
        )


def test_infinity_is_for_arguments_that_are_infinite_by_default():
    assert built(float, INF, -INF) == INF
    assert built(Annotated[float, Range(above=0)], INF, INF) == INF
    assert built(Annotated[float, Range(above=0, finite=False)], INF, 1.0) == INF
    with pytest.raises(InputError, match="inf is not possible: give a finite number"):
        built(float, INF, 1.0)
    with pytest.raises(InputError, match="nan is not possible: give a finite number"):
        built(float, NAN, INF)
    with pytest.raises(InputError, match="nan is not possible: give a number above 0"):
        built(Annotated[float, Range(above=0, finite=False)], NAN, INF)


def test_what_the_settings_give_is_checked_alike():
    class Part:
        def __init__(self, latent: Annotated[int, Range(most=2)], step_size: Annotated[float, Range(most=1)] = 0.1):
            self.step_size = step_size

    assert parts.build("model", Part, 2, step_size=1).step_size == 1.0
    with pytest.raises(InputError, match=r"^--latent 3 is not possible: give a whole number of at most 2$"):
        parts.build("model", Part, 3)
    with pytest.raises(
        InputError, match=r"^--step-size 2.0 is not possible: give a finite number of at most 1 \(default 0.1\)"
    ):
        parts.build("model", Part, 2, step_size=2.0)


def test_what_has_no_annotation_passes_as_it_is():
    class Part:
        def __init__(self, width=0.5, **others):
            self.given = width, others

    assert parts.build("model", Part, own={"width": "abc", "more": NAN}).given[0] == "abc"
