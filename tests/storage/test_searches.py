from __future__ import annotations

import math
import random

import pytest
from sqlalchemy.orm import Session

from storage import searches
from storage.errors import Conflict, NotFound
from storage.searches import PinnedAdapter, Search, Trial

ADAPTERS = (PinnedAdapter("ns/a", "0" * 32, "1" * 40), PinnedAdapter("ns/b", "2" * 32, "3" * 40, "folder"))


@pytest.fixture
def search(session: Session) -> Search:
    return searches.start(session, adapters=ADAPTERS, config={"budget": 40, "seed": 0}, examples_digest="e" * 64)


class TestSearches:
    def test_a_search_is_found_by_its_uuid_or_the_beginning_of_it(self, session: Session, search: Search) -> None:
        assert search.adapters == ADAPTERS
        assert searches.find(session, search.uuid) == searches.find(session, search.uuid[:8]) == search
        assert searches.every(session) == [search]
        for uuid in (search.uuid[:7], "f" * 32, "%" * 8):
            with pytest.raises(NotFound):
                searches.find(session, uuid)

    def test_losses_and_weights_come_back_bit_for_bit(self, session: Session, search: Search) -> None:
        draw = random.Random(0)
        values = [draw.uniform(-1.5, 1.5) for _ in range(60)] + [5e-324, 1.7976931348623157e308, 0.1 + 0.2]
        stored = [
            Trial(number, "ask", (value, -value / 3), value / 7, value / 11, 0.25)
            for number, value in enumerate(values)
        ]
        searches.add_trials(session, search, stored[::-1])
        assert searches.trials(session, search) == stored

    def test_losses_that_are_no_number_are_kept(self, session: Session, search: Search) -> None:
        searches.add_trials(session, search, [Trial(0, "base", (0.0,), math.nan, math.inf, 1.0)])
        (trial,) = searches.trials(session, search)
        assert math.isnan(trial.loss)
        assert trial.objective == math.inf

    def test_storing_a_trial_again_changes_nothing_and_another_under_its_number_is_refused(
        self, session: Session, search: Search
    ) -> None:
        trial = Trial(0, "single", (1.0, 0.0), 0.5, 0.6, 1.0)
        for _ in range(2):
            searches.add_trials(session, search, [trial])
        assert searches.trials(session, search) == [trial]
        with pytest.raises(Conflict, match="Trial 0"):
            searches.add_trials(session, search, [Trial(0, "single", (0.0, 1.0), 0.5, 0.6, 1.0)])

    def test_a_stopped_or_killed_search_resumes_and_a_finished_one_does_not(
        self, session: Session, search: Search
    ) -> None:
        assert searches.resume(session, search).status == "running"  # killed: it never said that it stopped
        stopped = searches.end(session, search, status="stopped")
        assert stopped.finished_at is not None
        again = searches.resume(session, stopped)
        assert (again.status, again.finished_at) == ("running", None)
        finished = searches.end(session, again, status="finished", result={"weights": [0.5, 0.5], "loss": 0.25})
        assert finished.result == {"weights": [0.5, 0.5], "loss": 0.25}
        with pytest.raises(Conflict, match="finished"):
            searches.resume(session, finished)
        with pytest.raises(Conflict, match="running"):
            searches.end(session, search, status="running")
