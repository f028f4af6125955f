"""The model zoo: plain modules from `(ids int64[n, C], dense float32[n, D])` to logits float32[n].

Every model starts as the constant that predicts the training base rate, and its numeric transforms
and vocabularies are part of it: the exported graph takes raw features.
"""

from collections.abc import Callable

from torch import nn

from data_contracts.model_spec import ModelSpec
from training.models.crossed import DCNv2, MaskNet
from training.models.dots import DLRM, TwoTower
from training.models.factorised import FM, DeepFM
from training.models.linear import Logistic
from training.models.names import MODELS, TWO_TOWER
from training.statistics import Seen

BUILD: dict[str, Callable[[ModelSpec, Seen], nn.Module]] = {
    "dcn_v2": DCNv2,
    "deepfm": DeepFM,
    "dlrm": DLRM,
    "fm": FM,
    "logistic": Logistic,
    "masknet": MaskNet,
    TWO_TOWER: TwoTower,
}


def build_model(name: str, spec: ModelSpec, seen: Seen) -> nn.Module:
    """An untrained module by name; ValueError naming the known models."""
    if name not in BUILD:
        raise ValueError(f"model {name!r}: not in the zoo: name one of {', '.join(sorted(MODELS))}")
    return BUILD[name](spec, seen)
