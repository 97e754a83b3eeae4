"""The plots of docs/benchmarks.md: `plots.py figures.json` writes a PNG for each measurement beside it. Runs in
matplotlib's own environment; restante is not there."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt

OURS, THEIRS, TARGET = "#2f5d8a", "#b9c4cf", "#b3402e"


def draw(taken: dict[str, Any], path: Path) -> None:
    """Bars of the rows of each unit, all rounds as dots, targets as lines."""
    rows = [row for row in taken["rows"] if row["rounds"]]
    units = list(dict.fromkeys(row["unit"] for row in rows))
    height = 0.7 + sum(0.55 * sum(row["unit"] == unit for row in rows) + 0.5 for unit in units)
    shares = [sum(row["unit"] == unit for row in rows) for unit in units]
    figure, panels = plt.subplots(
        len(units), 1, figsize=(8.5, height), squeeze=False, layout="constrained", height_ratios=shares
    )
    for unit, panel in zip(units, panels[:, 0], strict=True):
        own = [row for row in rows if row["unit"] == unit]
        for place, row in enumerate(own):
            rounds = [one["figure"] for one in row["rounds"]]
            median = (
                sorted(rounds)[len(rounds) // 2]
                if len(rounds) % 2
                else sum(sorted(rounds)[len(rounds) // 2 - 1 :][:2]) / 2
            )
            bound = next((goal for goal in row.get("goals", []) if not goal.get("what")), None)
            panel.barh(place, median, color=OURS if row.get("goals") else THEIRS, height=0.6)
            panel.plot(rounds, [place] * len(rounds), "o", color="#222222", markersize=3)
            shown = f"{median:,.0f}" if median >= 100 else f"{median:.2g}"
            panel.annotate(shown, (median, place), (6, 7), textcoords="offset points", fontsize=8)
            if bound is not None:
                panel.plot([bound["bound"]] * 2, [place - 0.38, place + 0.38], color=TARGET, linewidth=2)
        panel.set_yticks(range(len(own)), [row["name"].strip() for row in own], fontsize=8)
        panel.invert_yaxis()
        panel.set_xlim(left=0)
        panel.margins(x=0.12)
        panel.set_xlabel(unit, fontsize=8)
        panel.tick_params(axis="x", labelsize=8)
        for side in ("top", "right"):
            panel.spines[side].set_visible(False)
    figure.suptitle(f"{taken['name']}: medians, all rounds (dots), targets (red)", fontsize=9)
    figure.savefig(path, dpi=130, metadata={"Software": None})
    plt.close(figure)


if __name__ == "__main__":
    source = Path(sys.argv[1])
    for one in json.loads(source.read_text()):
        if any(row["rounds"] for row in one["rows"]):
            draw(one, source.parent / f"{one['name']}.png")
