"""Whether a new version becomes champion: its checks on a later period and against the champion."""

import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from data_contracts.bundle import (
    LOGIT_TOLERANCE,
    BundleRefused,
    Manifest,
    check_inputs,
    open_bundle,
)
from data_contracts.gates import Check, Decision, better_than, first_version, limit_check
from data_contracts.use_case import UseCase
from data_contracts.views import digests_of
from training.data import Rows
from training.engine import Engine, latency_p99_ms
from training.export import verify_golden
from training.registry import Registry, Version

LATENCY_ROWS = 21
"""Rows of the request whose latency is limited."""


def decide(
    use_case: UseCase,
    registry: Registry,
    folder: Path,
    manifest: Manifest,
    test: Rows,
    baselines: Mapping[str, np.ndarray],
) -> Decision:
    """Judge the bundle in `folder` by its own scores of the test rows.

    `baselines`: name -> float[n] scores of the same rows that it should beat. A champion with the
    same inputs must be beaten with the whole interval; one with other inputs cannot be compared.
    """
    manifest = open_bundle(folder, manifest.digest())
    engine = Engine(folder)
    scores = _score(manifest, engine, test)
    request = slice(0, LATENCY_ROWS)
    latency = latency_p99_ms(engine, test.ids[request], test.dense[request])
    gates = use_case.declared.gates
    checks = [
        _definitions(use_case, manifest),
        _golden(folder, engine),
        limit_check("latency p99", latency, gates.max_latency_ms, len(test.ids[request]), " ms"),
    ]
    checks += [
        better_than(f"better than {name}", test.labels, scores, baseline, gates.confidence)
        for name, baseline in baselines.items()
    ]
    champion = registry.champion(use_case.name)
    if champion is None:
        return first_version(checks)
    stage, name = f"against champion {champion.version}", f"better than champion {champion.version}"
    theirs = _champion_scores(registry, champion, manifest, test)
    if theirs is None:
        value = "made for other features or inputs"
        incomparable = Check(name, "cannot judge", value, "the same inputs", len(scores))
        return Decision(stage, (*checks, incomparable))
    better = better_than(name, test.labels, scores, theirs, gates.confidence)
    return Decision(stage, (*checks, better), decisive=name)


def _champion_scores(
    registry: Registry, champion: Version, manifest: Manifest, test: Rows
) -> np.ndarray | None:
    """float[n]: the champion's scores of the test rows; None where it takes other inputs."""
    with tempfile.TemporaryDirectory() as home:
        folder = registry.download(champion, Path(home))
        theirs = open_bundle(folder, champion.digest)
        if _inputs(theirs) != _inputs(manifest):
            return None
        return _score(theirs, Engine(folder), test)


def _score(manifest: Manifest, engine: Engine, rows: Rows) -> np.ndarray:
    check_inputs(manifest, rows.ids, rows.dense)
    return engine.score(rows.ids, rows.dense)


def _inputs(manifest: Manifest) -> tuple[object, ...]:
    digests = dict(manifest.feature_digests)
    return (manifest.features, manifest.categorical, manifest.numeric, digests)


def _definitions(use_case: UseCase, manifest: Manifest) -> Check:
    version = use_case.contract.version
    digests = digests_of(use_case.groups)
    same = manifest.contract_version == version and dict(manifest.feature_digests) == digests
    value = f"contract {manifest.contract_version}, {len(manifest.feature_digests)} features"
    limit = f"contract {version} and the digests of the declared features"
    return Check("definitions", "pass" if same else "fail", value, limit, len(digests))


def _golden(folder: Path, engine: Engine) -> Check:
    limit = f"logits within {LOGIT_TOLERANCE:g}"
    try:
        rows = verify_golden(folder, engine)
    except BundleRefused as refused:
        return Check("golden rows", "fail", str(refused), limit, 0)
    return Check("golden rows", "pass", f"{rows} rows equal", limit, rows)
