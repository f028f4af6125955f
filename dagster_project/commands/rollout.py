"""`headrace rollout plan | status | start | advance | hold | resume | abort | rollback | …`."""

import time
from typing import Annotated, Any

import typer
from rich.table import Table

from dagster_project.command import JobFailed, command
from dagster_project.commands import plan
from dagster_project.deployment import Deployment
from dagster_project.gate_table import gate_table
from dagster_project.terminal import terminal

Reason = Annotated[str, typer.Option(help="Why, for the ledger.")]
Override = Annotated[
    bool, typer.Option("--override", help="Answer for it in place of a gate, by your name.")
]
Wait = Annotated[float, typer.Option(help="Seconds to wait for the controller's answer.")]
_POLL_S = 0.2


def register(app: typer.Typer) -> None:
    """Add these commands."""
    rollout = typer.Typer(help="Release a version: shadow, canary, champion, and back.")
    plan.register(rollout)
    rollout.command()(command(status, present_status))
    for request in (start, advance, hold, resume, abort, rollback):
        rollout.command()(command(request))
    rollout.command()(command(history, present_history))
    rollout.command()(command(replay))
    app.add_typer(rollout, name="rollout")


def status(deployment: Deployment) -> dict[str, Any]:
    """Who is served what, how both arms do, and why the release does not go on."""
    from dagster_project.stages.rollout import status as told

    return told(deployment)


def start(
    deployment: Deployment,
    version: Annotated[str, typer.Argument(help="The version to release.")],
    reason: Reason = "asked for",
    override: Override = False,
    wait: Wait = 30.0,
) -> dict[str, Any]:
    """Begin a release: the version scores a copy of every request, and answers none."""
    return _ask(deployment, "start", version, reason, override, wait)


def advance(
    deployment: Deployment,
    reason: Reason = "asked for",
    override: Override = False,
    wait: Wait = 30.0,
) -> dict[str, Any]:
    """Go a step on now, if the gates pass or with --override; the last step is the champion's."""
    return _ask(deployment, "advance", None, reason, override, wait)


def hold(deployment: Deployment, reason: Reason = "asked for", wait: Wait = 30.0) -> dict[str, Any]:
    """Stay on this step; a failed gate still ends the release."""
    return _ask(deployment, "hold", None, reason, False, wait)


def resume(
    deployment: Deployment, reason: Reason = "asked for", wait: Wait = 30.0
) -> dict[str, Any]:
    """Go on by itself again."""
    return _ask(deployment, "resume", None, reason, False, wait)


def abort(deployment: Deployment, reason: Reason, wait: Wait = 30.0) -> dict[str, Any]:
    """End the release: only the champion answers, and the version is barred."""
    return _ask(deployment, "abort", None, reason, True, wait)


def rollback(deployment: Deployment, reason: Reason, wait: Wait = 30.0) -> dict[str, Any]:
    """Put the previous champion back, and bar the present one."""
    return _ask(deployment, "rollback", None, reason, True, wait)


def history(deployment: Deployment) -> dict[str, Any]:
    """Every plan, oldest first."""
    from dagster_project.stages.rollout import history as told

    return told(deployment)


def replay(deployment: Deployment) -> dict[str, Any]:
    """Make every decision of plans and looks again from the evidence that it embeds."""
    from dagster_project.stages.rollout import replay as replayed

    found = replayed(deployment)
    if found["faults"]:
        raise JobFailed(f"decisions do not stand: {'; '.join(found['faults'])}")
    return found


def _ask(
    deployment: Deployment,
    action: str,
    version: str | None,
    reason: str,
    override: bool,
    wait: float,
) -> dict[str, Any]:
    from dagster_project.stages.rollout import answer, ask

    asked = ask(deployment, action, version, reason, override)
    end = time.monotonic() + wait
    while (said := answer(deployment, asked["request"])) is None:
        if time.monotonic() > end:
            raise JobFailed(
                f"no controller answered within {wait:g} s: the request waits for the next "
                "`headrace serve`"
            )
        time.sleep(_POLL_S)
    if said.startswith("refused"):
        raise JobFailed(said)
    return {**asked, "answer": said}


def present_status(found: dict[str, Any]) -> None:
    """Print what `stages.rollout.status` gave."""
    console = terminal()
    console.print(
        f"{found['title']}: plan {found['epoch']}: {found['stage']}, champion {found['champion']}"
        + (f", candidate {found['candidate']}: {found['share']}" if found["candidate"] else ""),
        highlight=False,
    )
    for name in ("reason", "waits"):
        if found[name]:
            console.print(f"{name}: {found[name]}", highlight=False)
    columns = ("arm", "requests", "errors", "fallbacks", "p50 ms", "p99 ms")
    arms = Table(*columns, box=None, pad_edge=False)
    for name, arm in found["arms"].items():
        whys = (arm["errors"], arm["fallbacks"])
        failures = (", ".join(f"{why} {n}" for why, n in each.items()) or "0" for each in whys)
        times = ("" if arm[key] is None else f"{arm[key]:.1f}" for key in ("p50_ms", "p99_ms"))
        arms.add_row(name, f"{arm['requests']:,}", *failures, *times)
    console.print(arms)
    needs = {each["check"]: _still(**each) for each in found["remaining"]}
    console.print(gate_table(found["decision"], {"still needs": needs}))
    for version, why in found["barred"].items():
        console.print(f"barred: version {version}: {why}", highlight=False)


def _still(check: str, done: float, seconds: float | None) -> str:
    there = f"{done:.0%} is there"
    return there if seconds is None else f"about {seconds / 3600:.1f} h, {there}"


def present_history(found: dict[str, Any]) -> None:
    """Print what `stages.rollout.history` gave."""
    columns = ("epoch", "time", "actor", "stage", "champion", "candidate", "share", "verdict")
    table = Table(*columns, "reason", title=found["title"], box=None, pad_edge=False)
    for each in found["plans"]:
        told = ("" if each[name] is None else str(each[name]) for name in (*columns, "reason"))
        table.add_row(*told)
    terminal().print(table)
