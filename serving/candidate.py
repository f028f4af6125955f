"""A candidate's process: it scores what it is sent, and takes nobody along when it dies."""

import os
import struct
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from data_contracts.bundle import open_bundle
from serving.loader import Bundle
from serving.scorer import Model
from serving.settings import Device

ROWS = struct.Struct("<I")
"""Head of a request: rows; then ids int64[rows, C] and dense float32[rows, D]."""
ANSWER = struct.Struct("<BI")
"""Head of an answer: `SCORES` or `REASON`, bytes that follow: float64 scores, or UTF-8 text."""
SCORES, REASON = 0, 1


def score_until_closed(
    folder: str, digest: str, name: str, version: str, threads: str, device: str
) -> None:
    """Open the bundle, say so with an answer of no scores, and score until stdin closes.

    Frames on stdin and stdout: see `serving.candidate_process`.
    """
    given, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    # What a library prints must not pass for an answer.
    os.dup2(2, 1)
    try:
        manifest = open_bundle(Path(folder), digest)
        bundle = Bundle(name, version, digest, manifest, Path(folder))
        model = Model(bundle, int(threads), cast(Device, device))
    except Exception as error:
        _say(answers, REASON, f"{type(error).__name__}: {error}".encode())
        return
    _say(answers, SCORES, b"")
    columns = len(manifest.categorical)
    width = len(manifest.features) + len(manifest.numeric)
    while head := given.read(ROWS.size):
        (rows,) = ROWS.unpack(head)
        ids = np.frombuffer(given.read(rows * columns * 8), np.int64).reshape(rows, columns)
        dense = np.frombuffer(given.read(rows * width * 4), np.float32).reshape(rows, width)
        try:
            scores = model.run(ids, dense)
        except Exception as error:
            _say(answers, REASON, f"{type(error).__name__}: {error}".encode())
        else:
            _say(answers, SCORES, scores.tobytes())


def _say(answers: BinaryIO, kind: int, body: bytes) -> None:
    answers.write(ANSWER.pack(kind, len(body)) + body)
    answers.flush()
