"""Training: from the training set to a judged and registered model version."""

import hashlib
import json
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Any

from data_contracts.bundle import MANIFEST
from data_contracts.evidence import Estimate
from data_contracts.gates import Decision
from data_contracts.lake import Lake
from data_contracts.model_spec import ModelSpec
from data_contracts.moves import Moves
from data_contracts.results import read_result
from data_contracts.stages import CHALLENGER, CHAMPION, MoveRefused
from data_contracts.use_case import UseCase
from training.best_epoch import Checkpoint
from training.chosen import Chosen
from training.continued import Continued, asked, declared
from training.data import Dataset, TrainingData, read_dataset
from training.engine import Engine
from training.evaluate import (
    Slices,
    evaluate_all,
    evaluate_slices,
    plain,
    predict,
    read_held,
    with_gains,
    worst_slice,
)
from training.export import export_bundle, verify_graph
from training.fit import fit
from training.fitted import Fitted, OnEpoch
from training.models.linear import Constant
from training.models.names import MODELS, TREES, TWO_TOWER
from training.plots import draw, draw_slices
from training.promotion import decide
from training.recall import with_recall
from training.registry import CERTIFICATE, Registry
from training.retrieval import open_towers
from training.rivals import rival_rows
from training.search import Search, search
from training.states import STATE, state_folder
from training.trees import MOST_ROUNDS, PARAMETERS, PATIENCE
from training.trial import Trial

BASELINE = "logistic"

OnProgress = Callable[[str, float], None]
"""(what is being done, share of it that is done)"""
OnNote = Callable[[str], None]
"""What was asked for or declared and cannot be done, in a line."""


@dataclass(frozen=True)
class Choices:
    """How a version is trained, beyond what its use case declares."""

    resume: bool = False
    """Go on where an earlier run was ended; from the start, with a note, where nothing is left of
    one, so that a run that was ended before its first epoch needs no other command."""
    warm_start: bool | None = None
    """Begin with the champion's weights. None: as `Retrain.warm_start` says, without a search and
    where the champion is of the same kind."""
    search: int = 0
    """Hyper-parameter trials before the fit."""

    def __post_init__(self) -> None:
        if self.search and self.resume:
            raise ValueError("--search with --resume: trials are not resumed: name one of them")
        if self.search and self.warm_start:
            raise ValueError("--search with --warm-start: the sizes must stay: name one of them")


@dataclass(frozen=True)
class TrainedVersion:
    """A registered version, how good it is and what was decided about it."""

    name: str
    version: str
    run_id: str
    model: str
    decision: Decision
    metrics: Mapping[str, Mapping[str, Estimate]]
    """Model, baseline and constant -> `training.evaluate.evaluate_all` on the test split; of two
    towers also `training.recall.recall`."""
    not_retrieved: str | None
    """Why two towers are no retrieval model of this use case."""
    slices: Slices
    """The model's metrics on each part of the declared slices."""
    worst_slice: str | None
    bundle_digest: str
    promoted: bool
    alias: str | None
    """Where the version is; None where no move could be made."""
    refused: str | None
    """Why a version that its gates allow is not champion: what changed while it was trained."""
    continued_from: str | None
    """The version whose weights the fit began with."""
    notes: tuple[str, ...]
    """What was asked for or declared and could not be done."""
    seconds: float


def train(
    use_case: UseCase,
    lake: Lake,
    model: str | None = None,
    on_progress: OnProgress | None = None,
    choices: Choices = Choices(),
    on_note: OnNote | None = None,
) -> TrainedVersion:
    """Fit `model`, or the one that the use case declares, and the baselines, judge, register;
    champion where the decision promotes it and the use case does not stage its releases.

    Any other version is registered all the same, under the alias `challenger`, and the champion
    stays; so is one whose champion changed while it was trained. A fit leaves its state in
    a folder of `lake.home / "training"` after every epoch until the version is registered. Raises
    NoTrainingData, or ValueError for a model that is not in the zoo, a choice that it cannot take,
    or a training that is under way in the same folder.
    """
    start = time.perf_counter()
    report = on_progress or _silent
    notes: list[str] = []

    def note(text: str) -> None:
        notes.append(text)
        if on_note:
            on_note(text)

    model = _named(use_case, model)
    report("read", 0.0)
    dataset = read_dataset(use_case, lake)
    test = dataset.splits["test"]
    registry = Registry(lake)
    moves = Moves(registry, lake, use_case, "headrace train")
    moves.recover()
    found: Search | None = None
    if choices.search:
        tell = lambda done: report("search", done / choices.search)  # noqa: E731
        found = search(model, use_case.model, dataset, choices.search, tell)
    with ExitStack() as held_open:
        place = Path(held_open.enter_context(tempfile.TemporaryDirectory()))
        home = place / "champion"
        continued = _begin(registry, use_case, model, choices, home, dataset, note)
        warm = continued.folder if continued else None
        choice = found.choices if found else {}
        chosen = continued.chosen if continued else Chosen(use_case.model, choice)
        spec = chosen.spec
        key = _key(dataset, model, spec, use_case.model, warm)
        states = held_open.enter_context(state_folder(lake.home / "training", key, choices.resume))
        if choices.resume and not any(states.glob(f"*{STATE}")):
            note("--resume: nothing of these rows and choices to go on from: begin from the start")
        fitted: dict[str, Fitted] = {}
        for name in dict.fromkeys((model, BASELINE)):
            by = spec if name == model else use_case.model
            begin = warm if name == model else None
            state = Checkpoint(states / f"{name}{STATE}", choices.resume, key)
            data = TrainingData(dataset, by)
            fitted[name] = fit(name, by, data, _epochs(report, name), state, begin)
        report("evaluate", 0.0)
        scores = {name: predict(each.model, test) for name, each in fitted.items()}
        scores["constant"] = predict(Constant(dataset.seen(spec)), test)
        confidence, judging = use_case.declared.gates.confidence, use_case.declared.evaluation
        held = read_held(use_case, lake, dataset.delta_version, test.labels)
        metrics = evaluate_all(test.labels, scores, confidence, held, judging.top)
        metrics = with_gains(metrics, test.labels, scores, model, confidence, held.users)
        not_retrieved: str | None = None
        if model == TWO_TOWER:
            towers = use_case, lake, dataset, fitted[model].model, held.users
            metrics, not_retrieved = with_recall(metrics, *towers)
        slices = evaluate_slices(test.labels, scores[model], held, confidence, judging.top)
        worst = worst_slice(slices, judging.least)
        bundle, record = place / "trained", place / "record"
        report("export", 0.0)
        own = fitted[model]
        parts = own.model, test, plain(metrics), bundle, dataset.built_from, chosen
        manifest = export_bundle(use_case, model, *parts)
        verify_graph(manifest, Engine(bundle), own.model, test)
        if model == TWO_TOWER:
            open_towers(bundle, manifest)
        report("judge", 0.0)
        baselines = {name: each for name, each in scores.items() if name != model}
        rival = lambda theirs: rival_rows(  # noqa: E731
            use_case, lake, dataset.delta_version, theirs, test.labels
        )
        decision = decide(use_case, registry, bundle, manifest, test, baselines, held, rival)
        report("register", 0.0)
        draw(test.labels, scores, record)
        draw_slices(slices, record)
        judged = {"models": plain(metrics), "slices": plain(slices), "worst_slice": worst}
        if not_retrieved:
            judged["not_retrieved"] = not_retrieved
        (record / "evaluation.json").write_text(json.dumps(judged, indent=1))
        trial = Trial(
            manifest=manifest,
            params={**_params(model, spec), "best_epoch": own.best.epoch},
            metrics=metrics,
            curves=_curves(fitted),
            training_set=lake.training_set.resolve(),
            delta_version=dataset.delta_version,
            dataset_digest=dataset.digest,
            made_of=dataset.built_from.made_of,
            simulated=use_case.declared.simulated,
            continued_from=continued.version if continued else None,
            notes=notes,
        )
        run_id = registry.log_run(trial, record, bundle)
        if found:
            trials = [astuple(trial) for trial in found.trials]
            registry.log_search(use_case.name, run_id, trials)
        name, digest = use_case.name, manifest.digest()
        version = registry.register(name, run_id, digest, decision)
        waits = use_case.declared.rollout.staged and registry.champion(name) is not None
        alias, refused = placed(moves, version, decision, waits)
    if (lake.reports / CERTIFICATE).exists():
        certificate = read_result(lake, CERTIFICATE.removesuffix(".json"))
        registry.attach_certificate(registry.version(name, version), certificate)
    report("register", 1.0)
    return TrainedVersion(
        name=name,
        version=version,
        run_id=run_id,
        model=model,
        decision=decision,
        metrics=metrics,
        not_retrieved=not_retrieved,
        slices=slices,
        worst_slice=worst,
        bundle_digest=digest,
        promoted=alias == CHAMPION,
        alias=alias,
        refused=refused,
        continued_from=continued.version if continued else None,
        notes=tuple(notes),
        seconds=time.perf_counter() - start,
    )


def _key(
    dataset: Dataset, model: str, spec: ModelSpec, declared: ModelSpec, warm: Path | None
) -> str:
    """Of all that the fits of a training depend on."""
    start = (warm / MANIFEST).read_text() if warm else ""
    text = f"{dataset.digest} {model} {spec} {declared} {start}"
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _params(model: str, spec: ModelSpec) -> dict[str, Any]:
    """What the fit of `model` was told."""
    if model == TREES:
        told = {**PARAMETERS, "seed": spec.seed, "rounds": MOST_ROUNDS, "patience": PATIENCE}
    else:
        told = asdict(spec)
        told.pop("name")
    return {"model": model, **told}


def _named(use_case: UseCase, model: str | None) -> str:
    """The model that is asked for, else the declared one; ValueError where the zoo lacks it, or
    has none of it whose weights could be begun with."""
    name = model or use_case.model.name
    if name not in MODELS:
        raise ValueError(f"model {name!r}: not in the zoo: name one of {', '.join(sorted(MODELS))}")
    if use_case.model.name == TREES and use_case.declared.retrain.warm_start:
        raise ValueError(f"retrain: warm_start: {TREES} has no weights to begin with: declare none")
    return name


def _begin(
    registry: Registry,
    use_case: UseCase,
    model: str,
    choices: Choices,
    home: Path,
    dataset: Dataset,
    note: OnNote,
) -> Continued | None:
    """What the fit goes on from, its bundle below `home`."""
    if choices.warm_start:
        return asked(registry, use_case, model, home)
    if choices.search or choices.warm_start is False:
        return None
    found = declared(registry, use_case, model, home, dataset)
    if isinstance(found, str):
        note(f"warm start: begin anew: {found}")
        return None
    return found


def placed(
    moves: Moves, version: str, decision: Decision, waits: bool = False
) -> tuple[str | None, str | None]:
    """The alias that a version was given, the highest that is allowed, and why no higher one was.

    One that `waits` for its release is a challenger.
    What was trained for minutes is not lost because someone else moved a version meanwhile.
    """
    refused: str | None = None
    for alias in (CHAMPION, CHALLENGER) if decision.promotes and not waits else (CHALLENGER,):
        try:
            moves.promote(version, alias)
        except MoveRefused as why:
            refused = refused or str(why)
        else:
            return alias, refused
    return None, refused


def _curves(fitted: Mapping[str, Fitted]) -> dict[str, list[float]]:
    return {
        f"{name}.{split}": [getattr(epoch, split) for epoch in each.curve]
        for name, each in fitted.items()
        for split in ("train", "validation")
    }


def _epochs(report: OnProgress, name: str) -> OnEpoch:
    report(f"fit {name}", 0.0)
    return lambda done, most: report(f"fit {name}", done / most)


def _silent(_: str, __: float) -> None:
    pass
