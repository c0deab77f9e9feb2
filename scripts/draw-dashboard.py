"""Draws panels of a Grafana dashboard from a Prometheus, without Grafana:
draw-dashboard.py DASHBOARD PROMETHEUS SECONDS FILE

Titles, places, queries, units and limits are the dashboard's own; only the drawing is not Grafana's.
draw-dashboard.py --shrink FILE [WIDTH]

Draws the rows down to the one that LAST_ROW names, over the last SECONDS.
"""

import json
import re
import sys
import time
from pathlib import Path
from urllib.parse import urlencode
from urllib.request import urlopen

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import FuncFormatter, MaxNLocator
from PIL import Image

LAST_ROW = "Gateways"
STEP = 2
# Long enough for some scrapes.
RATE_INTERVAL = "20s"
COLUMNS, COLUMN, ROW, DPI = 24, 46, 24, 100
COLOURS = ["#3274d9", "#e0752d", "#37872d", "#a352cc", "#c4162a", "#b8860b", "#00868b", "#8f3bb8", "#6b7280"]
TEXT, QUIET, LINE, GROUND = "#1d2329", "#626d78", "#dfe3e8", "#f6f7f8"


class Prometheus:
    def __init__(self, origin):
        self.origin = origin

    def ask(self, path, **parameters):
        with urlopen(f"{self.origin}/api/v1/{path}?{urlencode(parameters)}") as answer:
            return json.load(answer)["data"]["result"]

    def now(self, query):
        return self.ask("query", query=query)

    def over(self, query, seconds):
        end = time.time()
        return self.ask("query_range", query=query, start=end - seconds, end=end, step=STEP)


def query(target):
    """With the dashboard's variables replaced: everything that there is."""
    expression = target["expr"].replace("$__rate_interval", RATE_INTERVAL)
    return expression.replace("$namespace", ".*").replace("$tenant", ".*")


def legend(target, labels):
    return re.sub(r"\{\{(\w+)\}\}", lambda match: labels.get(match[1], ""), target["legendFormat"])


def written(value, unit):
    if value != value:
        return "–"
    if unit == "percentunit":
        return f"{value * 100:.3g} %"
    if unit == "s":
        return f"{value * 1000:.3g} ms" if value < 1 else f"{value:.3g} s"
    if unit == "bytes":
        return f"{value / 2**20:.3g} MiB"
    rate = {"reqps": "/s", "ops": "/s"}.get(unit, "")
    return f"{value:.3g}{rate}"


def colour(value, thresholds):
    """As Grafana picks it: the last step that the value reaches."""
    names = {"green": "#17693a", "red": "#b3261e", "orange": "#8a5300", "yellow": "#8a5300"}
    reached = [s["color"] for s in thresholds.get("steps", []) if s["value"] is None or value >= s["value"]]
    return names.get(reached[-1] if reached else "", TEXT)


def draw_stat(figure, box, panel, prometheus):
    defaults = panel["fieldConfig"]["defaults"]
    found = prometheus.now(query(panel["targets"][0]))
    value = float(found[0]["value"][1]) if found else float("nan")
    x, y, width, height = box
    shown = written(value, defaults.get("unit", "short"))
    figure.text(
        x + width / 2, y + height * 0.38, shown, ha="center", va="center", fontsize=20,
        color=colour(value, defaults.get("thresholds", {})),
    )


def draw_series(figure, box, panel, prometheus, seconds):
    defaults = panel["fieldConfig"]["defaults"]
    x, y, width, height = box
    axes = figure.add_axes([x + width * 0.11, y + height * 0.27, width * 0.86, height * 0.56])
    names, top = [], 0
    for target in panel["targets"]:
        for series in prometheus.over(query(target), seconds):
            begin = time.time() - seconds
            points = [(at - begin, float(value)) for at, value in series["values"]]
            values = [value for _, value in points if value == value]
            top = max([top, *values])
            axes.plot(*zip(*points), linewidth=1.2, color=COLOURS[len(names) % len(COLOURS)])
            names.append(legend(target, series["metric"]))
    axes.set_xlim(0, seconds)
    axes.set_ylim(0, top * 1.12 or 1)
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: written(v, defaults.get("unit", "short"))))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v - seconds:.0f} s"))
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.tick_params(labelsize=6.5, colors=QUIET, length=0)
    axes.grid(color=LINE, linewidth=0.6)
    for spine in axes.spines.values():
        spine.set_visible(False)
    if names:
        beside = columns(names, width)
        room = 3 * beside
        shown = names if len(names) <= room else names[: room - 1] + [f"and {len(names) - room + 1} more"]
        axes.legend(
            axes.get_lines()[: len(shown)], shown, loc="upper left", bbox_to_anchor=(-0.1, -0.13),
            ncols=beside, fontsize=6.2, frameon=False, handlelength=1,
            columnspacing=1, labelspacing=0.2, labelcolor=TEXT, borderaxespad=0,
        )
    else:
        axes.text(0.5, 0.5, "No data", transform=axes.transAxes, ha="center", color=QUIET, fontsize=8)


def columns(names, width):
    """As many as fit beside each other."""
    return max(1, int(width * 170 // (max(map(len, names)) + 5)))


def draw(dashboard, prometheus, seconds, file):
    panels = dashboard["panels"]
    rows = [panel for panel in panels if panel["type"] == "row"]
    titles = [row["title"] for row in rows]
    after = rows[titles.index(LAST_ROW) + 1 :]
    height = after[0]["gridPos"]["y"]
    figure = plt.figure(figsize=(COLUMNS * COLUMN / DPI, height * ROW / DPI), dpi=DPI, facecolor=GROUND)
    for panel in panels:
        place = panel["gridPos"]
        if place["y"] >= height:
            continue
        gap_x, gap_y = 4 / (COLUMNS * COLUMN), 3 / (height * ROW)
        x = place["x"] / COLUMNS + gap_x
        y = 1 - (place["y"] + place["h"]) / height + gap_y
        width, tall = place["w"] / COLUMNS - 2 * gap_x, place["h"] / height - 2 * gap_y
        if panel["type"] == "row":
            figure.text(x + gap_x, y + tall / 2, panel["title"], va="center", fontsize=9.5, weight="bold", color=TEXT)
            continue
        figure.add_artist(
            plt.Rectangle((x, y), width, tall, transform=figure.transFigure, facecolor="white", edgecolor=LINE, zorder=-1)
        )
        figure.text(x + 2 * gap_x, y + tall - 5 * gap_y, panel["title"], va="center", fontsize=8, color=TEXT)
        box = (x, y, width, tall)
        if panel["type"] == "stat":
            draw_stat(figure, box, panel, prometheus)
        else:
            draw_series(figure, box, panel, prometheus, seconds)
    figure.savefig(file, facecolor=GROUND)
    shrink(file)


def shrink(file, width=None):
    """Few colours, and a fraction of the bytes. Keeps the left part of this width."""
    image = Image.open(file).convert("RGB")
    if width:
        image = image.crop((0, 0, min(width, image.width), image.height))
    image.quantize(256, kmeans=3).save(file, optimize=True)


def main():
    if sys.argv[1] == "--shrink":
        shrink(sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else None)
        return
    dashboard, origin, seconds, file = sys.argv[1:]
    draw(json.loads(Path(dashboard).read_text()), Prometheus(origin), int(seconds), file)


if __name__ == "__main__":
    main()
