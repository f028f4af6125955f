"""The contract as a Great Expectations suite, run on committed partitions of the events table.

The only file that speaks to Great Expectations. One context per process, run serially.
"""

import logging
from dataclasses import dataclass
from functools import cache
from typing import Any

import great_expectations as gx
from great_expectations.core.result_format import ResultFormat
from great_expectations.data_context.types.base import ProgressBarsConfig
from great_expectations.expectations import core as gxe
from great_expectations.expectations.expectation import Expectation
from pyspark.sql import DataFrame
from pyspark.sql import functions as sf

from data_contracts.contract import Contract, Field


@dataclass(frozen=True)
class ContractValidation:
    """The suite's verdict on one partition."""

    success: bool
    evaluated: int
    failed: tuple[str, ...]
    """`field: expectation` of each that failed."""


def suite_of(contract: Contract) -> list[Expectation]:
    """The expectations that the fields imply, and a row count that forbids emptiness."""
    expectations: list[Expectation] = [gxe.ExpectTableRowCountToBeBetween(min_value=1)]
    for field in contract.fields.values():
        expectations += _of_field(field)
    expectations.append(gxe.ExpectColumnValuesToBeUnique(column="event_id"))
    return expectations


def validate_partition(contract: Contract, events: DataFrame) -> ContractValidation:
    """Run the suite on the rows of `events`; an empty frame fails."""
    validation = _validation(contract)
    frame = events.persist()
    try:
        result = validation.run(
            batch_parameters={"dataframe": frame}, result_format=ResultFormat.BOOLEAN_ONLY
        )
        required = _missing_for_type(contract, frame)
    finally:
        frame.unpersist()
    failed = [_name(item.expectation_config) for item in result.results if not item.success]
    return ContractValidation(
        success=not failed and not required,
        evaluated=len(result.results) + len(_required_for(contract)),
        failed=(*failed, *required),
    )


@cache
def _context() -> Any:
    logging.getLogger("great_expectations").setLevel(logging.ERROR)
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    return context


def _validation(contract: Contract) -> Any:
    context = _context()
    name = f"{contract.name}-{contract.version}"
    if name in {v.name for v in context.validation_definitions.all()}:
        return context.validation_definitions.get(name)
    source = context.data_sources.add_spark(name, persist=False)
    batch = source.add_dataframe_asset("events").add_batch_definition_whole_dataframe("partition")
    suite = context.suites.add(gx.ExpectationSuite(name=name, expectations=suite_of(contract)))
    return context.validation_definitions.add(
        gx.ValidationDefinition(name=name, data=batch, suite=suite)
    )


def _of_field(field: Field) -> list[Expectation]:
    column = field.name
    found: list[Expectation] = []
    if field.required:
        found.append(gxe.ExpectColumnValuesToNotBeNull(column=column))
    if field.values:
        found.append(gxe.ExpectColumnValuesToBeInSet(column=column, value_set=list(field.values)))
    if field.minimum is not None or field.maximum is not None:
        found.append(
            gxe.ExpectColumnValuesToBeBetween(
                column=column, min_value=field.minimum, max_value=field.maximum
            )
        )
    if field.min_length is not None or field.max_length is not None:
        found.append(
            gxe.ExpectColumnValueLengthsToBeBetween(
                column=column, min_value=field.min_length, max_value=field.max_length
            )
        )
    if field.pattern:
        found.append(
            gxe.ExpectColumnValuesToMatchRegex(column=column, regex=f"^(?:{field.pattern})$")
        )
    return found


def _required_for(contract: Contract) -> list[tuple[str, str]]:
    return [(f.name, kind) for f in contract.fields.values() for kind in f.required_for]


def _missing_for_type(contract: Contract, frame: DataFrame) -> list[str]:
    """Fields that an event type requires and some event of that type lacks, in one pass."""
    pairs = _required_for(contract)
    if not pairs:
        return []
    sums = [
        sf.coalesce(
            sf.sum(((sf.col("event_type") == kind) & sf.col(name).isNull()).cast("int")), sf.lit(0)
        )
        for name, kind in pairs
    ]
    row = frame.agg(*[total.alias(f"_{i}") for i, total in enumerate(sums)]).collect()[0]
    return [f"{name}: required for {kind}" for i, (name, kind) in enumerate(pairs) if row[i]]


def _name(config: Any) -> str:
    return f"{config.kwargs.get('column', 'table')}: {config.type}"
