"""A sweep's report: one HTML file with tables, figures and executed notebooks inside, which needs no network."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from spider_utils.evaluation.statistics import FOREGROUND_NAME
from spider_utils.files import atomic_path
from spider_utils.sweeps.gather import FinishedTraining
from spider_utils.sweeps.plan import Sweep
from spider_utils.view.plots import SCREEN_DPI, CourseFigure
from spider_utils.view.sweep_plots import model_curves, model_scores, run_costs

# Nothing is loaded from elsewhere, whatever a notebook shows (badges, for example), and no script runs.
_OFFLINE = (
    '<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" '
    "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'; frame-src 'self'\">"
)
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 1000px; padding: 0 1em; color: #1a1a1a; }
table { border-collapse: collapse; font-size: 14px; margin: 1em 0; display: block; overflow-x: auto; }
th, td { border-bottom: 1px solid #ddd; padding: 0.25em 0.7em; text-align: right; white-space: nowrap; }
th:first-child, td:first-child, td.text { text-align: left; }
img { max-width: 100%; } figcaption { color: #555; font-size: 14px; } figure { margin: 1em 0; }
pre { background: #f5f5f5; padding: 1em; overflow-x: auto; } .bad { color: #b00020; }
iframe { width: 100%; height: 80vh; border: 1px solid #ddd; } summary { cursor: pointer; padding: 0.3em 0; }
"""
_NOTEBOOK_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 1em; } img { max-width: 100%; }
img[src^="http"] { display: none; }
.jp-InputPrompt, .jp-OutputPrompt { display: none; } pre { background: #f5f5f5; padding: 0.6em; overflow-x: auto; }
table { border-collapse: collapse; font-size: 13px; }
th, td { padding: 0.2em 0.6em; text-align: right; } .anchor-link { display: none; }
"""


def write_report(
    path: Path,
    sweep: Sweep,
    finished: Sequence[FinishedTraining],
    table: pd.DataFrame,
    runs: pd.DataFrame,
    notebooks: Sequence[tuple[str, Path, float]],
    outcomes: Sequence[Mapping[str, str]],
) -> None:
    """Write the report.

    Args:
        path: of the file.
        sweep: what was asked for.
        finished: its trainings that are done.
        table, runs: what ``gather`` made of them.
        notebooks: title, executed file and seconds of each notebook that was run.
        outcomes: of every job: title, status and error.
    """
    parts = [_summary(sweep, outcomes)]
    if finished:
        several = len(sweep.places) > 1
        table, runs = _titled(table, several), _titled(runs, several)
        parts += [_scores(table, runs), _learning(finished, several), _costs(runs), _versions(finished)]
    if notebooks:
        parts.append(_notebooks(path.parent, notebooks))
    parts.append(_section("The sweep's file", f"<pre>{html.escape(sweep.path.read_text(encoding='utf-8'))}</pre>"))
    title = f"Sweep {html.escape(sweep.name)}"
    head = f'{_OFFLINE}<title>{title}</title><meta name="viewport" content="width=device-width"><style>{_STYLE}</style>'
    page = f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head>\n<body><h1>{title}</h1>\n{"".join(parts)}</body></html>\n'
    with atomic_path(path) as partial:
        partial.write_text(page, encoding="utf-8")


def _titled(frame: pd.DataFrame, several: bool) -> pd.DataFrame:
    """With ``title``: the model, and its profile and data where there are several."""
    return frame.assign(title=frame["model"] + (" (" + frame["profile"] + "-" + frame["data"] + ")" if several else ""))


# ---------------------------------------------------------------------------------------------------------------- sections


def _summary(sweep: Sweep, outcomes: Sequence[Mapping[str, str]]) -> str:
    numbers = {"models": sweep.models, f"folds of {sweep.split}": sweep.folds, "seeds": sweep.seeds, "profiles": sweep.profiles}
    numbers |= {"data sets": sweep.data, "trainings": sweep.trainings}
    counts = ", ".join(f"{name} {len(values)}" for name, values in numbers.items())
    done = sum(one["status"] == "done" for one in outcomes)
    now = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    text = f"<p>How many: {html.escape(counts)}. {done} of {len(outcomes)} jobs are done. Written {now}.</p>"
    rest = [one for one in outcomes if one["status"] != "done"]
    if rest:
        rows = [f"<li>{html.escape(one['title'])}: {one['status']}. {html.escape(one['error'])}</li>" for one in rest]
        text += f'<p class="bad">The tables hold what is done. Not done:</p><ul class="bad">{"".join(rows)}</ul>'
    return text


def _scores(table: pd.DataFrame, runs: pd.DataFrame) -> str:
    dice = table[table["metric"] == "dice"]
    mean = dice[dice["name"] == FOREGROUND_NAME]
    columns = {
        "title": "model", "mean": "mean", "low": "low", "high": "high", "sd_folds": "SD of folds", "sd_seeds": "SD of seeds",
        "runs": "runs", "n": "n", "unit": "unit", "patients": "patients",
    }  # fmt: skip
    explained = (
        "<p>Mean Dice over structures and all tested series; low and high are the 95 % interval over patients (bootstrap: a "
        "patient is drawn with all series, folds and seeds). SD of folds: between folds, each the mean of its seeds; SD of "
        "seeds: between seeds, each the mean of its folds. n counts tested series, once a run.</p>"
    )
    by_class = dice[dice["name"] != FOREGROUND_NAME]
    wide = {
        "title": "model",
        "name": "structure",
        "mean": "mean",
        "low": "low",
        "high": "high",
        "missed": "missed",
        "false": "false",
    }
    more = f"<details><summary>By structure</summary>{_table(by_class, wide)}</details>"
    links = "<p>Every metric and class: <a href='table.csv'>table.csv</a>; every run: <a href='runs.csv'>runs.csv</a>.</p>"
    return _section("Scores", explained + _table(mean, columns) + _figure(model_scores(table, runs)) + more + links)


def _learning(finished: Sequence[FinishedTraining], several: bool) -> str:
    histories: dict[str, dict[str, pd.DataFrame]] = {}
    for one in finished:
        title = f"{one.group[0]} ({one.training.place})" if several else one.group[0]
        histories.setdefault(title, {})[f"fold {one.training.fold}, seed {one.training.seed}"] = one.run.history
    return _section("Learning", _figure(model_curves(histories)))


def _costs(runs: pd.DataFrame) -> str:
    columns = {
        "title": "model", "fold": "fold", "seed": "seed", "dice": "Dice", "epochs": "epochs", "best_epoch": "best epoch",
        "parameters": "parameters", "seconds": "seconds", "memory_mb": "memory, MB", "gpu_memory_mb": "on the GPU, MB",
        "device": "device", "run": "run",
    }  # fmt: skip
    text = "<p>Seconds are those of training alone. Memory is the most that the whole process held, and torch on the GPU.</p>"
    return _section("Time and memory", text + _figure(run_costs(runs)) + _table(runs, columns))


def _versions(finished: Sequence[FinishedTraining]) -> str:
    found: dict[str, dict[str, int]] = {}
    for one in finished:
        facts = {**one.record["versions"], "git commit of the kit": one.record["git_commit"], "platform": one.record["platform"]}
        for name, value in facts.items():
            counts = found.setdefault(name, {})
            counts[str(value)] = counts.get(str(value), 0) + 1
    rows = []
    for name, counts in found.items():
        values = ", ".join(f"{value} ({n} runs)" for value, n in counts.items()) if len(counts) > 1 else next(iter(counts))
        mark = ' class="text bad"' if len(counts) > 1 else ' class="text"'
        rows.append(f"<tr><td>{html.escape(name)}</td><td{mark}>{html.escape(values)}</td></tr>")
    differ = (
        "<p class='bad'>Not all runs were made with the same.</p>" if any(len(counts) > 1 for counts in found.values()) else ""
    )
    return _section("Versions", f"{differ}<table>{''.join(rows)}</table>")


def _notebooks(folder: Path, notebooks: Iterable[tuple[str, Path, float]]) -> str:
    parts = []
    for title, path, seconds in notebooks:
        link = f"<a href='{html.escape(path.relative_to(folder).as_posix())}'>notebook</a>"
        # A page of its own inside: its styles and names cannot meet those of others, and its scripts do not run.
        inside = (
            f'<iframe sandbox loading="lazy" title="{html.escape(title)}" srcdoc="{html.escape(_notebook_page(path))}"></iframe>'
        )
        parts.append(f"<details><summary>{html.escape(title)}, {seconds:.0f} s ({link})</summary>{inside}</details>")
    return _section("Executed notebooks", "".join(parts))


def _notebook_page(path: Path) -> str:
    """A notebook as HTML that loads nothing from elsewhere."""
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(template_name="basic", embed_images=False)
    return f"{_OFFLINE}<style>{_NOTEBOOK_STYLE}</style>{exporter.from_filename(str(path))[0]}"


# ------------------------------------------------------------------------------------------------------------------ pieces


def _section(title: str, content: str) -> str:
    return f"<h2>{title}</h2>\n{content}\n"


def _table(frame: pd.DataFrame, columns: Mapping[str, str]) -> str:
    """The columns under their names for people; what holds nothing is left out."""
    shown = frame[list(columns)].dropna(axis="columns", how="all").rename(columns=columns)
    digits = {name: "{:.1f}".format for name in ("seconds", "memory, MB", "on the GPU, MB") if name in shown}
    return shown.to_html(index=False, border=0, na_rep="-", float_format="{:.3f}".format, formatters=digits)


def _figure(figure: CourseFigure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=1.5 * SCREEN_DPI, format="png")
    picture = base64.b64encode(buffer.getvalue()).decode()
    caption = html.escape(figure.caption)
    return f'<figure><img src="data:image/png;base64,{picture}" alt="{caption}"><figcaption>{caption}</figcaption></figure>'
