"""Stage report: the results of all stages on one page, as JSON and HTML in the root folder."""

import json
from typing import Any

from dagster_project.deployment import Deployment
from dagster_project.progress import reporter
from dagster_project.stages.report_page import page
from data_contracts.atomic_write import write_atomically
from data_contracts.results import read_result, write_result
from data_contracts.stages import UNSTAGED, stage_of
from data_contracts.views import digests_of
from training.registry import Registry

NEEDED = ("model", "conservation", "outcomes", "drift")
"""Without their results there is no report; a lake that is fed and asked by others has no more."""
STAGES = ("raw_log", "events", "tiles", "training_set", "online_state", "model", "predictions",
          "conservation", "outcomes", "drift", "off_policy", "exploration", "proof",
          "parity_certificate")  # fmt: skip
PROOFS = {"engines == oracle": "proof", "certificate": "parity_certificate"}


def write_report(deployment: Deployment) -> dict[str, Any]:
    """Write `report.json` and `report.html`; returns the summary with `sound` and `problems`.

    Raises ValueError naming a stage that has not run.
    """
    reporter().stage("report")
    found = stage_results(deployment)
    aliases = Registry(deployment.lake).aliases(deployment.use_case.name)
    # It may have moved since it was trained.
    found["model"]["alias"] = stage_of(aliases, found["model"]["version"]) or UNSTAGED
    told = _told_before(deployment)
    problems = _problems(found, told)
    root = deployment.lake.root
    summary = {
        "use_case": deployment.use_case.name,
        "title": deployment.use_case.title,
        "sound": not problems,
        "problems": problems,
        "rows": summary_rows(found),
        "in_all": {name: found["outcomes"][name] for name in told},
        "json": str(root / "report.json"),
        "html": str(root / "report.html"),
    }
    write_atomically(root / "report.json", json.dumps({**summary, "stages": found}, indent=1))
    write_atomically(root / "report.html", page(summary, found))
    write_result(deployment.lake, "report", summary)
    return summary


def _told_before(deployment: Deployment) -> dict[str, int]:
    """What only grows, as the last report had it: an incident is a problem once."""
    try:
        last = read_result(deployment.lake, "report")
    except ValueError:
        last = {}
    return {name: last.get("in_all", {}).get(name, 0) for name in ("store_failures", "gaps")}


def stage_results(deployment: Deployment) -> dict[str, Any]:
    """What each stage found last; of certificates only one of the definitions as declared now.

    Raises ValueError naming a stage that has not run.
    """
    found: dict[str, Any] = {}
    for stage in STAGES:
        try:
            found[stage] = read_result(deployment.lake, stage)
        except ValueError:
            if stage in NEEDED:
                raise
    digests = digests_of(deployment.use_case.groups)
    if found.get("parity_certificate", {}).get("feature_digests") != digests:
        found.pop("parity_certificate", None)
    return found


def summary_rows(found: dict[str, Any]) -> list[list[str]]:
    """(what, figure, note) rows of the closing table."""
    counts, parity = found["conservation"], found["outcomes"]["parity"]
    model, live = found["model"], found["outcomes"]["metrics"]
    offline = model["metrics"][model["model"]]
    waiting = f", {counts['waiting']:,} waiting" if counts["waiting"] else ""
    expired = f", {counts['expired']:,} expired" if counts["expired"] else ""
    rows = [
        [
            "events conserved",
            f"{counts['records']:,} records",
            f"{counts['events']:,} events, {counts['duplicates']:,} duplicates, "
            f"{counts['conflicts']:,} conflicts, {counts['quarantined']:,} quarantined"
            f"{expired}{waiting}",
        ],
        *_rebuilt(found),
        *_proofs(found),
        [
            "served == recomputed",
            f"{parity['mismatches']} of {parity['compared']:,} differ",
            f"{parity['non_default']:,} are not the default; {parity['lagging']:,} lag behind "
            "events that the stream had not yet seen",
        ],
        [
            "model",
            f"{model['name']} v{model['version']} ({model['model']})",
            f"{model['alias']}: {model['decision']['verdict']}; advisory gates: "
            f"{model['decision']['advice']}; "
            f"served: v{', v'.join(found['outcomes']['versions'])}; "
            f"live figures: v{found['outcomes']['last_version']}, "
            f"{found['outcomes']['late']:,} answered too late to count",
        ],
    ]
    for name, text in (("log_loss", "log loss"), ("auc", "AUC"),
                       ("calibration_error", "calibration error")):  # fmt: skip
        rows.append([text, f"offline {interval(offline[name])}", f"live {interval(live[name])}"])
    if served := found.get("predictions"):
        rows.append(
            [
                "requests",
                f"{served['requests']:,}, {served['errors']} failed",
                f"p50 {served['p50_ms']:.1f} ms, p99 {served['p99_ms']:.1f} ms",
            ]
        )
    drift = found["drift"]
    share = f"{drift['share']:.0%} of inputs" if drift["compared"] else "no value"
    rows.append(["drift", share, f"{drift['compared']} compared"])
    if policy := found.get("off_policy"):
        rows.append(
            [
                f"value of {policy['target']}",
                f"IPS {interval(policy['ips'], 6)}",
                f"SNIPS {interval(policy['snips'], 6)}, DR {interval(policy['dr'], 6)}, "
                f"on-policy {_figure(policy['on_policy'])}, {policy['verdict']}: "
                f"effective rows {policy['effective_sample_size']:.0f} of "
                f"{policy['ips']['n']:,}",
            ]
        )
    for order, value in found.get("exploration", {}).get("values", {}).items():
        left_out = "".join(
            f"; left out: {n:,} {why}" for why, n in value.get("left_out", {}).items()
        )
        rows.append(
            [
                f"value of a slate, {order}",
                f"SNIPS {interval(value['snips'], 4)}",
                f"{interval(value['gain'], 4)} above the logged order, {value['verdict']}: "
                + (value["doubt"] or f"effective rows {value['effective_sample_size']:.0f}")
                + left_out,
            ]
        )
    return rows  # fmt: skip


def _rebuilt(found: dict[str, Any]) -> list[list[str]]:
    """What the last `materialize` compared; none that has not run."""
    return [
        [
            "stream == backfill",
            f"{state['mismatches']} of {state['compared']:,} differ",
            "state written by the stream against the rebuild from tiles",
        ]
        for state in [found.get("online_state")]
        if state
    ]


def _proofs(found: dict[str, Any]) -> list[list[str]]:
    """What the loop's own proof, and the last whole one, found; none that has not run."""
    return [
        [
            what,
            f"{said['mismatches']} of {said['compared']:,} differ",
            f"all engines against the oracle in {said['schedules']} adversarial schedules",
        ]
        for what, stage in PROOFS.items()
        if (said := found.get(stage))
    ]


def _figure(value: float | None) -> str:
    return "no value" if value is None else f"{value:.4f}"


def interval(estimate: dict[str, Any], digits: int = 4) -> str:
    """`value [low, high] (n)`, or why there is no value."""
    if estimate["value"] is None:
        return f"no value (n {estimate['n']:,})"
    low, high = estimate["low"], estimate["high"]
    shown = f"{estimate['value']:.{digits}f}"
    if low is not None and high is not None:
        shown += f" [{low:.{digits}f}, {high:.{digits}f}]"
    return f"{shown} (n {estimate['n']:,})"


def _problems(found: dict[str, Any], told: dict[str, int]) -> list[str]:
    outcomes = found["outcomes"]
    replayed, state = found.get("predictions"), found.get("online_state")
    grown = {name for name, before in told.items() if outcomes[name] > before}
    checks = {
        "conservation does not hold": not found["conservation"]["holds"],
        "stream and backfill differ": state is not None and state["mismatches"] > 0,
        "engines differ from the oracle": any(
            found[stage]["mismatches"] for stage in PROOFS.values() if stage in found
        ),
        "too little was compared with the oracle": any(
            not found[stage]["mismatches"] and not found[stage]["holds"]
            for stage in PROOFS.values()
            if stage in found
        ),
        "served features differ": outcomes["parity"]["mismatches"] > 0,
        "nothing of stream and backfill was compared": state is not None and state["compared"] == 0,
        "the online store failed while serving": "store_failures" in grown,
        "no served value was compared": outcomes["parity"]["compared"] == 0,
        "requests failed": replayed is not None and replayed["errors"] > 0,
        "predictions missing from the log": "gaps" in grown
        or (
            replayed is not None
            and outcomes["requests"] < replayed["requests"] - replayed["errors"]
        ),
    }
    return [name for name, wrong in checks.items() if wrong]
