"""A bundle's module again, from its weights and not from anything pickled."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import nn

from data_contracts.bundle import Manifest, check_golden, golden_rows
from data_contracts.use_case import UseCase
from training.batches import Rows
from training.chosen import SPEC, read_chosen
from training.evaluate import predict
from training.models.calibrated import Calibrated
from training.models.names import NEURAL
from training.models.zoo import build_model
from training.statistics import Seen
from training.variant_graphs import NotMade
from training.warm import WEIGHTS, read_weights


def restored(use_case: UseCase, manifest: Manifest, folder: Path) -> nn.Module:
    """The module from which an opened bundle's graph was made; it has scored the golden rows.

    Of the sizes that it was fitted by, whatever `use_case` declares by now. Raises NotMade where
    the bundle holds no weights or those of other sizes, NoSpec where it does not say which.
    """
    if manifest.model not in NEURAL or not (folder / WEIGHTS).is_file():
        raise NotMade(f"a bundle of {manifest.model} holds no {WEIGHTS} to make a module from")
    state, spec = read_weights(folder), read_chosen(folder).spec
    numbers = np.zeros(len(manifest.features) + len(manifest.numeric))
    then = replace(use_case, declared=replace(use_case.declared, model=spec))
    counts = tuple(np.zeros(column.buckets, np.int64) for column in spec.categorical)
    seen = Seen(counts, numbers, numbers, numbers, 0.0, 1, then.item_columns)
    model = build_model(manifest.model, spec, seen)
    if "shift" in state:
        model = Calibrated(model, spec.negative_rate)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise NotMade(f"{WEIGHTS}: of other sizes than {SPEC} says") from error
    ids, dense, expected = golden_rows(folder, manifest)
    check_golden(expected, predict(model.eval(), Rows(ids, dense, expected)))
    return model.eval()
