"""Libraries that phone home or chatter are told not to, for this process and its children."""

import logging
import os
import warnings

SILENCE = {
    "DO_NOT_TRACK": "1",
    "FEAST_USAGE": "False",
    "GX_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "RAY_USAGE_STATS_ENABLED": "0",
    "DAGSTER_DISABLE_TELEMETRY": "1",
    "PYTHONWARNINGS": "ignore",
}
_LOUD = ("dagster", "great_expectations", "feast", "mlflow", "alembic", "pytorch_lightning", "ray",
         "httpx", "lightning", "torch.onnx", "onnxscript")  # fmt: skip


def quiet() -> None:
    """No telemetry, no warnings of libraries on a user's terminal, errors only in their logs."""
    os.environ.update(SILENCE)
    warnings.simplefilter("ignore")
    for name in _LOUD:
        logging.getLogger(name).setLevel(logging.ERROR)
    # py4j raises what it logs as an error. Its gateway tells the root logger, of every Ctrl-C and
    # of every JVM that one ended; the command says in one line what it was.
    logging.getLogger("py4j").setLevel(logging.CRITICAL)
    logging.getLogger().addFilter(lambda told: told.module != "java_gateway")
