"""What runs at night beside the loop: upkeep of the lake, and the whole proof."""

import dagster as dg

from dagster_project.partitions import deployment
from dagster_project.stages.features import backfill_days
from dagster_project.stages.maintenance import maintain_lake
from dagster_project.stages.parity import ProofSize, prove_parity
from spark_jobs.tiles import FIRST_DAY, LAST_DAY


@dg.op(out=dg.Out(dg.Nothing))
def pack(context: dg.OpExecutionContext) -> None:
    """The packed tiles of the days whose events grew."""
    context.log.info(str(backfill_days(deployment(), FIRST_DAY, LAST_DAY)))


@dg.op(ins={"packed": dg.In(dg.Nothing)})
def upkeep(context: dg.OpExecutionContext) -> None:
    """Compact, fold, expire and vacuum, also while the stream runs."""
    context.log.info(str(maintain_lake(deployment())))


@dg.job(description="Tiles of what came, and the lake small and fast; no feature value changes")
def maintenance() -> None:
    upkeep(packed=pack())


maintain_on_schedule = dg.ScheduleDefinition(
    name="maintain_on_schedule",
    job=maintenance,
    cron_schedule="30 4 * * *",
    execution_timezone="UTC",
    description="Tiles and upkeep every night. "
    "Stopped until it is switched on in the Automation page.",
)


@dg.op
def prove_all(context: dg.OpExecutionContext) -> None:
    """The proof that `headrace parity` runs, with its certificate; fails on a mismatch."""
    found = prove_parity(deployment(), ProofSize())
    if not found["holds"]:
        raise dg.Failure("the engines differ", {"certificate": dg.JsonMetadataValue(found)})
    context.log.info(f"{found['compared']} values compared")


@dg.job(description="Two hundred schedules, and the certificate that models carry")
def full_proof() -> None:
    prove_all()


prove_on_schedule = dg.ScheduleDefinition(
    name="prove_on_schedule",
    job=full_proof,
    cron_schedule="0 1 * * *",
    execution_timezone="UTC",
    description="The proof every night. Stopped until it is switched on in the Automation page.",
)
