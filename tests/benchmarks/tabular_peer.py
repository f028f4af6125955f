"""PyTorch Tabular on rows in a file: `python -m tests.benchmarks.tabular_peer ROWS BATCH EPOCHS`.

Its model of embeddings and an MLP, of the widths that our deep models have, with its default metric
(accuracy); on one thread, in an environment of its own. Says the processor seconds of all epochs
but the first, JSON.
"""

import json
import logging
import sys
import time
import warnings

import numpy as np
import pandas as pd
import torch
from pytorch_lightning import Callback
from pytorch_tabular import TabularModel
from pytorch_tabular.config import DataConfig, OptimizerConfig, TrainerConfig
from pytorch_tabular.models import CategoryEmbeddingModelConfig

IDS = 1024
"""Of each field, beside the one for what was never seen."""


class Epochs(Callback):
    """When each epoch's last step was done."""

    def __init__(self) -> None:
        self.moments: list[float] = []

    def on_train_epoch_end(self, *_: object) -> None:
        self.moments.append(time.process_time())


def main(rows: str, batch: str, epochs: str) -> None:
    """Fit and tell."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    with np.load(rows) as held:
        ids, dense, labels, width = (held[name] for name in ("ids", "dense", "labels", "width"))
    categories = [f"c{n}" for n in range(ids.shape[1])]
    numbers = [f"n{n}" for n in range(dense.shape[1])]
    frame = pd.DataFrame(dense, columns=numbers)
    frame[categories] = ids.astype(str)
    frame["label"] = labels.astype(int)
    model = TabularModel(
        data_config=DataConfig(
            target=["label"],
            continuous_cols=numbers,
            categorical_cols=categories,
            num_workers=0,
            normalize_continuous_features=True,
        ),
        model_config=CategoryEmbeddingModelConfig(
            task="classification",
            layers="64-32",
            activation="ReLU",
            dropout=0.1,
            embedding_dims=[(1 + IDS, int(width))] * len(categories),
            learning_rate=1e-3,
        ),
        optimizer_config=OptimizerConfig(
            optimizer="AdamW", optimizer_params={"weight_decay": 1e-5}
        ),
        trainer_config=TrainerConfig(
            batch_size=int(batch),
            max_epochs=int(epochs),
            accelerator="cpu",
            devices=1,
            early_stopping=None,
            checkpoints=None,
            load_best=False,
            progress_bar="none",
            trainer_kwargs={"enable_model_summary": False},
        ),
        verbose=False,
        suppress_lightning_logger=True,
    )
    model.logger = False
    told = Epochs()
    model.fit(train=frame, validation=frame[: int(batch)], callbacks=[told], seed=7)
    print(json.dumps(told.moments[-1] - told.moments[0]))


if __name__ == "__main__":
    main(*sys.argv[1:])
