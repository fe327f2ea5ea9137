"""Every mark lies inside its picture, whatever the losses are."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.report.charts import HEIGHT, LEFT, MOST_BARS, WIDTH, bars, convergence
from storage.searches import Trial


def trials(losses: list[float]) -> list[Trial]:
    return [Trial(n, "base" if n == 1 else "ask", (0.5,), loss, loss, 0.0) for n, loss in enumerate(losses, 1)]


@given(st.lists(st.floats(-1e6, 1e6) | st.just(math.inf), min_size=2, max_size=60))
def test_marks_ticks_and_line_stay_inside_and_none_is_lost(losses: list[float]) -> None:
    curve = convergence(trials(losses))
    finite = [loss for loss in losses if math.isfinite(loss)]
    if len(finite) < 2:
        assert curve is None
        return
    assert curve is not None and len(curve.marks) == len(finite) and curve.left_out == len(losses) - len(finite)
    points = [tuple(map(float, point.split(","))) for point in curve.best.split()]
    for x, y in (*((mark.x, mark.y) for mark in curve.marks), *points):
        assert LEFT <= round(x, 1) <= WIDTH and 0 <= y <= HEIGHT
    assert all(0 <= tick.at <= HEIGHT for tick in curve.y_ticks) and len(curve.y_ticks) <= 8


def test_the_line_falls_to_the_lowest_loss_and_a_very_bad_trial_is_drawn_at_the_edge() -> None:
    curve = convergence(trials([2.0, 1.9, 1.8, 900.0, 1.5, 1.6, 1.2, 1.3, 1.25, 1.22, 1.21]))
    assert curve is not None
    assert [mark.clipped for mark in curve.marks].index(True) == 3 and sum(m.clipped for m in curve.marks) == 1
    heights = [float(point.split(",")[1]) for point in curve.best.split()]
    assert heights == sorted(heights), "lower losses lie lower on the page, where y is greater"
    assert heights[-1] == pytest.approx(curve.marks[6].y, abs=0.05)
    assert curve.base == curve.marks[0].y


def test_bars_are_relative_to_the_largest_and_only_the_largest_are_drawn() -> None:
    drawn = bars({"a": 0.5, "b": -2.0, "c": math.inf, "d": 0.0}, {"a": 0.5, "b": 2.0})
    assert [(bar.name, bar.length, bar.negative, bar.error) for bar in drawn] == [
        ("a", 12.5, False, 12.5), ("b", 50.0, True, 50.0), ("d", 0.0, False, 0.0)
    ]  # fmt: skip
    many = bars({f"n{i}": float(i) for i in range(100)})
    assert len(many) == MOST_BARS and many[0].name == f"n{100 - MOST_BARS}"
    assert bars({}) == [] and [bar.length for bar in bars({"a": 0.0})] == [0.0]


def test_a_base_above_the_picture_is_named_and_a_fold_is_no_lowest_loss() -> None:
    listed = trials([6.0, *[0.4, 0.3, 0.2, 0.35] * 3])
    folds = [*listed, Trial(14, "fold", (0.5,), 0.1, 0.1, 0.0)]
    curve = convergence(folds)
    assert curve is not None and curve.base is None and curve.base_above == "6"
    assert curve.marks[-1].family == "fold"
    lowest = float(curve.best.split()[-1].split(",")[1])
    assert lowest == pytest.approx(curve.marks[3].y, abs=0.05) and lowest < curve.marks[-1].y
