"""`headrace rollout plan | status | start | advance | hold | resume | abort | rollback | …`."""

import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from dagster_project.cli import DebugOption, JobFailed, JsonOption, RootOption, UseCaseOption, run
from dagster_project.commands.plan import plan
from dagster_project.deployment import Deployment
from dagster_project.gate_table import gate_table

Root = Path(".headrace")
Reason = Annotated[str, typer.Option(help="Why, for the ledger.")]
Override = Annotated[
    bool, typer.Option("--override", help="Answer for it in place of a gate, by your name.")
]
Wait = Annotated[float, typer.Option(help="Seconds to wait for the controller's answer.")]
_POLL_S = 0.2


def register(app: typer.Typer) -> None:
    """Add these commands."""
    rollout = typer.Typer(help="Release a version: shadow, canary, champion, and back.")
    for command in (plan, status, start, advance, hold, resume, abort, rollback, history, replay):
        rollout.command()(command)
    app.add_typer(rollout, name="rollout")


def status(
    use_case: UseCaseOption = "clicks",
    root: RootOption = Root,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Who is served what, how both arms do, and why the release does not go on."""

    def work(deployment: Deployment) -> dict[str, Any]:
        from dagster_project.stages.rollout import status as told

        return told(deployment)

    run(work, Deployment(use_case, root), json, debug, present_status)


def start(
    version: Annotated[str, typer.Argument(help="The version to release.")],
    reason: Reason = "asked for",
    override: Override = False,
    wait: Wait = 30.0,
    use_case: UseCaseOption = "clicks",
    root: RootOption = Root,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Begin a release: the version scores a copy of every request, and answers none."""
    _ask("start", version, reason, override, wait, use_case, root, json, debug)


def advance(
    reason: Reason = "asked for",
    override: Override = False,
    wait: Wait = 30.0,
    use_case: UseCaseOption = "clicks",
    root: RootOption = Root,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Go a step on now, if the gates pass or with --override; the last step is the champion's."""
    _ask("advance", None, reason, override, wait, use_case, root, json, debug)


def hold(
    reason: Reason = "asked for",
    wait: Wait = 30.0,
    use_case: UseCaseOption = "clicks",
    root: RootOption = Root,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Stay on this step; a failed gate still ends the release."""
    _ask("hold", None, reason, False, wait, use_case, root, json, debug)


def resume(
    reason: Reason = "asked for",
    wait: Wait = 30.0,
    use_case: UseCaseOption = "clicks",
    root: RootOption = Root,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Go on by itself again."""
    _ask("resume", None, reason, False, wait, use_case, root, json, debug)


def abort(
    reason: Reason,
    wait: Wait = 30.0,
    use_case: UseCaseOption = "clicks",
    root: RootOption = Root,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """End the release: only the champion answers, and the version is barred."""
    _ask("abort", None, reason, True, wait, use_case, root, json, debug)


def rollback(
    reason: Reason,
    wait: Wait = 30.0,
    use_case: UseCaseOption = "clicks",
    root: RootOption = Root,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Put the previous champion back, and bar the present one."""
    _ask("rollback", None, reason, True, wait, use_case, root, json, debug)


def history(
    use_case: UseCaseOption = "clicks",
    root: RootOption = Root,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Every plan, oldest first."""

    def work(deployment: Deployment) -> dict[str, Any]:
        from dagster_project.stages.rollout import history as told

        return told(deployment)

    run(work, Deployment(use_case, root), json, debug, _history)


def replay(
    use_case: UseCaseOption = "clicks",
    root: RootOption = Root,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Make every decision of plans and looks again from the evidence that it embeds."""

    def work(deployment: Deployment) -> dict[str, Any]:
        from dagster_project.stages.rollout import replay as replayed

        found = replayed(deployment)
        if found["faults"]:
            raise JobFailed(f"decisions do not stand: {'; '.join(found['faults'])}")
        return found

    run(work, Deployment(use_case, root), json, debug)


def _ask(
    action: str,
    version: str | None,
    reason: str,
    override: bool,
    wait: float,
    use_case: str,
    root: Path,
    json: bool,
    debug: bool,
) -> None:
    def work(deployment: Deployment) -> dict[str, Any]:
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

    run(work, Deployment(use_case, root), json, debug)


def present_status(found: dict[str, Any]) -> None:
    """Print what `stages.rollout.status` gave."""
    console = Console()
    console.print(
        f"{found['title']}: plan {found['epoch']}: {found['stage']}, champion {found['champion']}"
        + (f", candidate {found['candidate']}: {found['share']}" if found["candidate"] else ""),
        highlight=False,
    )
    for name in ("reason", "waits"):
        if found[name]:
            console.print(f"{name}: {found[name]}", highlight=False, markup=False)
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
        console.print(f"barred: version {version}: {why}", highlight=False, markup=False)


def _still(check: str, done: float, seconds: float | None) -> str:
    there = f"{done:.0%} is there"
    return there if seconds is None else f"about {seconds / 3600:.1f} h, {there}"


def _history(found: dict[str, Any]) -> None:
    columns = ("epoch", "time", "actor", "stage", "champion", "candidate", "share", "verdict")
    table = Table(*columns, "reason", title=found["title"], box=None, pad_edge=False)
    for each in found["plans"]:
        told = ("" if each[name] is None else str(each[name]) for name in (*columns, "reason"))
        table.add_row(*told)
    Console().print(table)
