"""One HTML page of a search: no script, nothing loaded from elsewhere, light and dark, every text escaped."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from hub.report.charts import HEIGHT, LEFT, WIDTH, bars, convergence, heat_map
from hub.report.search_report import SearchReport

MOST_EXAMPLES = 200
LONGEST_TEXT = 300


def search_page(report: SearchReport) -> str:
    """The page as text."""
    weights = {name: weight for name, weight in report.weights.items() if any(report.group_weights[name])}
    ordered = dict(sorted(weights.items(), key=lambda pair: -abs(pair[1])))
    return _template().render(
        report=report,
        options=report.config.get("options") or {},
        result=report.result or {},
        metric=report.metric,
        curve=convergence(report.trials),
        weights=bars(ordered),
        heat=heat_map(report.group_weights) if report.groups else {},
        idle=len(report.weights) - len(weights),
        contributions=bars(report.gains, report.gain_errors),
        harmful=report.harmful,
        boundless=[name for name, gain in report.gains.items() if math.isinf(gain)],
        examples=report.examples[:MOST_EXAMPLES],
        preselection=(report.config.get("preselection") or {}).get("considered", []),
        box=(WIDTH, HEIGHT, LEFT),
    )


def write_page(report: SearchReport, path: Path) -> None:
    """Write the page to `path`, in place of what is there."""
    path.write_text(search_page(report), encoding="utf-8", newline="\n")


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["short"] = _short
    environment.filters["loss"] = _loss
    environment.filters["number"] = _number
    return environment.get_template("search.html.jinja")


def _short(text: str) -> str:
    """A text of an example, cut where it is long."""
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]} ..."


def _loss(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _number(value: float | None) -> float:
    """JSON has no infinities: None stands for them."""
    return math.inf if value is None else value
