"""The report as one self-contained HTML page."""

import json
from html import escape
from typing import Any

from dagster_project.gate_table import COLUMNS, gate_rows

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --good: #1a7f37; --bad: #cf222e; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: .2rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
table { border-collapse: collapse; width: 100%; } .wide { overflow-x: auto; }
td, th { text-align: left; padding: .35rem .7rem .35rem 0; border-bottom: 1px solid var(--line);
         vertical-align: top; }
.sound { color: var(--good); } .unsound, .fail { color: var(--bad); }
.pass { color: var(--good); } pre { overflow-x: auto; font-size: .8rem; }
""".strip()


def page(summary: dict[str, Any], found: dict[str, Any]) -> str:
    """The HTML of the report; `summary` and `found` as `stages.report` makes them."""
    sound = summary["sound"]
    verdict = "Everything checked holds." if sound else "; ".join(summary["problems"])
    positives = found["outcomes"]["positives"]
    every = escape(json.dumps(found, indent=1))
    body = [
        f"<h1>Headrace: {escape(summary['title'])}</h1>",
        f"<p class='{'sound' if sound else 'unsound'}'><b>{escape(verdict)}</b></p>",
        _table(["what", "figure", "note"], summary["rows"]),
        f"<p>{_caution(found)} Live figures rest on {positives:,} positives.</p>",
        "<h2>Why this model stands where it stands</h2>",
        _table([*COLUMNS], [[*row] for row in gate_rows(found["model"]["decision"])]),
        "<h2>Models on the test split</h2>",
        _models(found["model"]["metrics"], "model"),
        f"<h2>{escape(found['model']['model'])} on parts of the test split</h2>",
        _slices(found["model"]),
        "<h2>Drift</h2>",
        _drift(found["drift"]),
        "<h2>Every figure</h2>",
        f"<details><summary>JSON</summary><pre>{every}</pre></details>",
    ]
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>Headrace: {escape(summary['title'])}</title><style>{_STYLE}</style></head>"
        f"<body>{''.join(body)}</body></html>"
    )


def _caution(found: dict[str, Any]) -> str:
    stages = [found[name] for name in ("model", "outcomes", "off_policy") if name in found]
    shares = " and ".join(f"{100 * c:g} %" for c in sorted({s["confidence"] for s in stages}))
    return (
        f"Intervals are {shares} intervals. Few positives make them wide: "
        "where they overlap, this page claims no difference."
    )


def _models(found: dict[str, Any], what: str) -> str:
    shown = {name: name.replace("_", " ") for metrics in found.values() for name in metrics}
    rows = [
        [name, f"{each['log_loss']['n']:,}", *(_estimate(each.get(m)) for m in shown)]
        for name, each in found.items()
    ]
    return _table([what, "rows", *shown.values()], rows)


def _slices(model: dict[str, Any]) -> str:
    if not model["slices"]:
        return "<p>The use case declares no slice.</p>"
    worst = model["worst_slice"] or "none has rows enough"
    told = f"<p>Worst by normalised entropy: <b>{escape(worst)}</b></p>"
    return told + _models(model["slices"], "part")


def _estimate(estimate: dict[str, Any] | None) -> str:
    if estimate is None or estimate["value"] is None:
        return "no value"
    if estimate["low"] is None:
        return f"{estimate['value']:.4f}"
    return f"{estimate['value']:.4f} [{estimate['low']:.4f}, {estimate['high']:.4f}]"


def _drift(drift: dict[str, Any]) -> str:
    rows = [
        [name, f"{column['distance']:.3f}", f"{column['threshold']:.3f}"]
        for name, column in sorted(drift["drifted"].items())
    ]
    told = (
        f"<p>{len(rows)} of {drift['compared']} inputs drifted, {len(drift['skipped'])} could not "
        f"be compared. <a href='{escape(drift['html'])}'>Evidently's report</a></p>"
    )
    return told + (_table(["input", "distance", "threshold"], rows) if rows else "")


def _table(head: list[str], rows: list[list[str]]) -> str:
    top = "".join(f"<th>{escape(name)}</th>" for name in head)
    cells = "".join("<tr>" + "".join(_cell(cell) for cell in row) + "</tr>" for row in rows)
    return f"<div class='wide'><table><tr>{top}</tr>{cells}</table></div>"


def _cell(text: str) -> str:
    mark = f" class='{text}'" if text in ("pass", "fail") else ""
    return f"<td{mark}>{escape(text)}</td>"
