"""What a use case chooses about its answers: which candidates may be shown, and in which order."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from data_contracts.exploration import candidate_key, drawn, ranked, seed_of, utilities
from data_contracts.rules import Boost, Keep, boosted, sifted
from data_contracts.use_case import UseCase

_log = logging.getLogger(__name__)

Row = Mapping[str, Any]


class Choices:
    """The choices of one use case."""

    def __init__(self, use_case: UseCase) -> None:
        declared = use_case.declared
        self.use_case = use_case
        self.exploration = declared.exploration
        self.keep: dict[str, Keep] = {name: use_case.rule(name) for name in declared.rules.keep}
        self.boost: dict[str, Boost] = {name: use_case.rule(name) for name in declared.rules.boost}
        self.failures = 0
        """Rules that were skipped for a request."""
        self._told: set[str] = set()

    def of(self, request_id: str, rows: list[dict[str, Any]], q: int) -> "Choice | None":
        """The choice about a request with these candidates at `q` (µs); None where the use case
        declares none."""
        if self.exploration is None and not self.keep and not self.boost:
            return None
        return Choice(self, request_id, rows, q)

    def failed(self, rules: Mapping[str, str]) -> None:
        """Count rules that were skipped, and say so of each once."""
        self.failures += len(rules)
        for name, why in rules.items():
            if name not in self._told:
                self._told.add(name)
                # Its text may quote the row; the prediction log has it.
                kind = why.partition(":")[0]
                _log.error("rule %s: skipped, from now on without a word: %s", name, kind)


class Choice:
    """The choice about one request: candidates are sifted at once, and ordered by their scores."""

    def __init__(
        self, choices: Choices, request_id: str, rows: list[dict[str, Any]], q: int
    ) -> None:
        self._choices, self._request_id, self._q = choices, request_id, q
        self._all = rows
        self._sifted = sifted(choices.keep, rows, q)
        self._failed = self._sifted.failed
        self.rows = [rows[i] for i in self._sifted.kept]
        """The candidates that may be shown."""
        self._ranks: list[int] | None = None

    def kept(self, names: Sequence[str]) -> list[str]:
        """Those of the candidates' prediction ids that belong to `rows`."""
        return [names[i] for i in self._sifted.kept]

    def ordered(self, scores: list[float], names: Sequence[str]) -> dict[str, Any]:
        """Put `rows` with these scores in order; returns what the prediction log keeps of it.

        `names`: the prediction ids of all candidates.
        """
        choices, rows = self._choices, self.rows
        boosts, failed = boosted(choices.boost, rows, scores, self._q)
        self._failed = self._failed | failed
        choices.failed(self._failed)
        record: dict[str, Any] = {
            "dropped": [
                {"prediction_id": names[i], "candidate": i, "rule": rule, "inputs": self._all[i]}
                for i, rule in self._sifted.dropped.items()
            ],
            "rules_failed": self._failed,
        }
        if choices.exploration is None and not choices.boost:
            return record
        utility = utilities(scores, boosts)
        keys = [candidate_key(choices.use_case.identity, row) for row in rows]
        if choices.exploration is None:
            order = ranked(utility, keys)
        else:
            seed = seed_of(choices.use_case.name, self._request_id)
            slate = drawn(choices.exploration, utility, keys, seed)
            order = slate.order
            record |= {
                "seed": seed,
                "temperature": choices.exploration.temperature,
                "slot_propensities": slate.propensities,
                "slate_propensity": slate.propensity,
            }
        self._ranks = [0] * len(rows)
        for place, row in enumerate(order, 1):
            self._ranks[row] = place
        return record | {"ranks": self._ranks, "boosts": boosts.tolist()}

    def stamped(self, answer: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
        """The answer (shape: PredictResponse) about `rows` as one about all candidates."""
        for prediction, rank in zip(answer["predictions"], self._ranks or (), strict=False):
            prediction["rank"] = rank
        scored = iter(answer["predictions"])
        dropped = self._sifted.dropped
        answer["predictions"] = [
            _dropped(name, dropped[i]) if i in dropped else next(scored)
            for i, name in enumerate(names)
        ]
        answer["rules_failed"] = sorted(self._failed)
        return answer


def _dropped(name: str, rule: str) -> dict[str, Any]:
    """A candidate that no model was asked about."""
    nothing: dict[str, Any] = {}
    return {"prediction_id": name, "score": None, "state_seq": nothing, "features_age_s": nothing,
            "dropped_by": rule}  # fmt: skip
