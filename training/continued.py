"""The champion whose weights a fit begins with."""

from dataclasses import dataclass
from pathlib import Path

from data_contracts.bundle import OtherFormat, open_bundle
from data_contracts.use_case import UseCase
from training.chosen import Chosen, NoSpec, read_chosen
from training.data import Dataset, TrainingData
from training.fit import epoch_zero
from training.models.names import TREES, TWO_TOWER
from training.registry import Registry
from training.rivals import known_rows
from training.warm import NotContinued, check_same_inputs


@dataclass(frozen=True)
class Continued:
    """A champion that a fit goes on from."""

    version: str
    folder: Path
    """Of its opened bundle."""
    chosen: Chosen
    """What was found for it, under today's declaration."""
    fitted_until: int
    """µs: the newest query time of the rows that it knows."""


def requested_champion(
    registry: Registry, use_case: UseCase, model: str, home: Path, dataset: Dataset
) -> Continued:
    """The champion, its bundle opened below `home`. ValueError where it is no `model`, NotContinued
    or NoSpec where it takes other inputs, has others on its item's side, knows rows by which the
    fit will be judged, or does not say by which spec it was fitted."""
    champion = registry.champion(use_case.name)
    if champion is None or champion.model != model:
        raise ValueError(
            f"--warm-start: the champion of {use_case.name} is "
            f"{champion.model if champion else 'none yet'}, not {model}: train without it"
        )
    folder = registry.download(champion, home)
    manifest = open_bundle(folder, champion.digest)
    check_same_inputs(manifest, use_case)
    if known := known_rows(manifest, dataset):
        raise NotContinued(f"champion: {known}: train with --no-warm-start")
    try:
        theirs = read_chosen(folder)
    except NoSpec as why:
        raise NoSpec(f"{why}: train with --no-warm-start") from None
    sides = sorted(theirs.declared.item), sorted(use_case.model.item)
    if model == TWO_TOWER and sides[0] != sides[1]:
        raise NotContinued(
            f"champion: its item's side is {sides[0]} where the use case declares {sides[1]}: "
            "train with --no-warm-start"
        )
    chosen = theirs.under(use_case.model)
    return Continued(champion.version, folder, chosen, manifest.fitted_until)


def declared_champion(
    registry: Registry, use_case: UseCase, model: str, home: Path, dataset: Dataset
) -> Continued | str | None:
    """As `requested_champion`, where `Retrain.warm_start` is declared and there is a champion to go
    on from; why not, where it cannot be gone on from: a schedule has nobody to choose otherwise."""
    champion = registry.champion(use_case.name)
    if not use_case.declared.retrain.warm_start or champion is None or model == TREES:
        return None
    if champion.model != model:
        return f"champion: is {champion.model}, not {model}"
    try:
        found = requested_champion(registry, use_case, model, home, dataset)
        spec = found.chosen.spec
        epoch_zero(model, spec, TrainingData(dataset, spec), found.folder)
    except (OtherFormat, NoSpec, NotContinued) as why:
        return str(why)
    return found
