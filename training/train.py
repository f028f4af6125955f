"""Training: from the training set to a judged and registered model version."""

import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass, replace
from functools import partial
from pathlib import Path

from data_contracts.bundle import Manifest
from data_contracts.declared_inputs import differing_input
from data_contracts.evidence import Estimate
from data_contracts.gates import Decision
from data_contracts.lake import Lake
from data_contracts.moves import Moves
from data_contracts.results import read_result
from data_contracts.stages import CHALLENGER, CHAMPION, MoveRefused
from data_contracts.use_case import UseCase
from training.basis import Basis
from training.batches import Rows
from training.best_epoch import Checkpoint
from training.continued import Continued, declared_champion, requested_champion
from training.data import Dataset, TrainingData, read_dataset
from training.engine import Engine
from training.evaluate import Slices, plain
from training.evaluated import Evaluated, evaluated
from training.export import export_bundle, verify_graph
from training.fit import fit
from training.fitted import Fitted, OnEpoch
from training.models.names import MODELS, TREES, TWO_TOWER
from training.progress import OnProgress, silent
from training.promotion import decide
from training.recorded import recorded, write_evaluation
from training.registry import CERTIFICATE, Registry
from training.retrieval import open_towers
from training.rivals import Incomparable, known_rows, rival_rows
from training.run_record import RunRecord
from training.search import Search, search
from training.states import STATE, state_folder

BASELINE = "logistic"
_BUNDLE, _RECORD = "trained", "record"
"""Folders of a training: the bundle of its model, and what its run keeps beside that."""

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
    on_progress: OnProgress = silent,
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
    start, began_ms, notes = time.perf_counter(), int(time.time() * 1000), list[str]()
    note = partial(_note, notes, on_note)
    model = _named(use_case, model)
    on_progress("read", 0.0)
    dataset, registry = read_dataset(use_case, lake), Registry(lake)
    moves = Moves(registry, lake, use_case, "headrace train")
    moves.recover()
    found = _searched(use_case, model, dataset, choices.search, on_progress)
    with tempfile.TemporaryDirectory() as place:
        home = Path(place)
        continued = _begin(registry, use_case, model, choices, home / "champion", dataset, note)
        basis = Basis(use_case, lake, registry, model, dataset, found, continued)
        with state_folder(lake.home / "training", basis.key, choices.resume) as states:
            fitted = _fitted(basis, states, choices.resume, on_progress, note)
            on_progress("evaluate", 0.0)
            shown = evaluated(basis, fitted)
            manifest, decision = _judged_bundle(basis, fitted[model], shown, home, on_progress)
            on_progress("register", 0.0)
            record = recorded(basis, fitted, shown, manifest, began_ms, notes)
            version = _registered(basis, moves, record, shown, decision, home)
    _certify(registry, lake, version)
    on_progress("register", 1.0)
    return replace(version, seconds=time.perf_counter() - start)


def _note(notes: list[str], on_note: OnNote | None, text: str) -> None:
    notes.append(text)
    if on_note:
        on_note(text)


def _named(use_case: UseCase, model: str | None) -> str:
    """The model that is asked for, else the declared one; ValueError where the zoo lacks it, or
    has none of it whose weights could be begun with."""
    name = model or use_case.model.name
    if name not in MODELS:
        raise ValueError(f"model {name!r}: not in the zoo: name one of {', '.join(sorted(MODELS))}")
    if use_case.model.name == TREES and use_case.declared.retrain.warm_start:
        raise ValueError(f"retrain: warm_start: {TREES} has no weights to begin with: declare none")
    return name


def _searched(
    use_case: UseCase, model: str, dataset: Dataset, trials: int, report: OnProgress
) -> Search | None:
    """A search of so many trials; None where it is none."""
    if not trials:
        return None

    def tell(done: int) -> None:
        report("search", done / trials)

    return search(model, use_case.model, dataset, trials, tell)


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
        return requested_champion(registry, use_case, model, home, dataset)
    if choices.search or choices.warm_start is False:
        return None
    found = declared_champion(registry, use_case, model, home, dataset)
    if isinstance(found, str):
        note(f"warm start: begin anew: {found}")
        return None
    return found


def _fitted(
    basis: Basis, states: Path, resume: bool, report: OnProgress, note: OnNote
) -> dict[str, Fitted]:
    """The model and its baseline, whose states are left in the folder `states` meanwhile."""
    if resume and not any(states.glob(f"*{STATE}")):
        note("--resume: nothing of these rows and choices to go on from: begin from the start")
    elif resume and basis.model == TREES:
        note(f"--resume: {TREES} keeps no state: it begins from the start")
    fitted: dict[str, Fitted] = {}
    for name in dict.fromkeys((basis.model, BASELINE)):
        spec = basis.chosen.spec if name == basis.model else basis.use_case.model
        warm = basis.warm if name == basis.model else None
        state = Checkpoint(states / f"{name}{STATE}", resume and name != TREES, basis.key)
        data = TrainingData(basis.dataset, spec)
        fitted[name] = fit(name, spec, data, _epochs(report, name), state, warm)
    return fitted


def _epochs(report: OnProgress, name: str) -> OnEpoch:
    report(f"fit {name}", 0.0)
    return lambda done, most: report(f"fit {name}", done / most)


def _judged_bundle(
    basis: Basis, own: Fitted, shown: Evaluated, home: Path, report: OnProgress
) -> tuple[Manifest, Decision]:
    """The verified bundle of the model, `_BUNDLE` in `home`, and what it may become."""
    report("export", 0.0)
    use_case, dataset, test, bundle = basis.use_case, basis.dataset, basis.test, home / _BUNDLE
    manifest = export_bundle(
        use_case, basis.model, own.model, test, plain(shown.metrics), bundle,
        dataset.built_from, basis.chosen, basis.fitted_until,
    )  # fmt: skip
    verify_graph(manifest, Engine(bundle), own.model, test)
    if basis.model == TWO_TOWER:
        open_towers(bundle, manifest)
    report("judge", 0.0)
    baselines = {name: each for name, each in shown.scores.items() if name != basis.model}

    def rival(theirs: Manifest) -> Rows:
        if known := known_rows(theirs, dataset):
            raise Incomparable(known)
        if differing_input(theirs, manifest) is None:
            return test
        return rival_rows(use_case, basis.lake, dataset.delta_version, theirs, test.labels)

    decision = decide(
        use_case, basis.registry, bundle, manifest, test, baselines, shown.held, rival
    )
    return manifest, decision


def _registered(
    basis: Basis, moves: Moves, record: RunRecord, shown: Evaluated, decision: Decision, home: Path
) -> TrainedVersion:
    """The bundle in `home` as a version, beside its run, under the alias that it is allowed; the
    caller tells its `seconds`."""
    name, registry, folder = basis.use_case.name, basis.registry, home / _RECORD
    write_evaluation(basis.test.labels, shown, folder)
    run_id = registry.log_run(record, folder, home / _BUNDLE)
    if basis.found:
        registry.log_search(name, run_id, [astuple(trial) for trial in basis.found.trials])
    digest = record.manifest.digest()
    version = registry.register(name, run_id, digest, decision)
    waits = basis.use_case.declared.rollout.staged and registry.champion(name) is not None
    alias, refused = placed(moves, version, decision, waits)
    return TrainedVersion(
        name=name,
        version=version,
        run_id=run_id,
        model=basis.model,
        decision=decision,
        metrics=shown.metrics,
        not_retrieved=shown.not_retrieved,
        slices=shown.slices,
        worst_slice=shown.worst_slice,
        bundle_digest=digest,
        promoted=alias == CHAMPION,
        alias=alias,
        refused=refused,
        continued_from=basis.continued_from,
        notes=tuple(record.notes),
        seconds=0.0,
    )


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


def _certify(registry: Registry, lake: Lake, version: TrainedVersion) -> None:
    """Attach the parity certificate of the lake to a version, if there is one."""
    if (lake.reports / CERTIFICATE).exists():
        certificate = read_result(lake, CERTIFICATE.removesuffix(".json"))
        registry.attach_certificate(registry.version(version.name, version.version), certificate)
