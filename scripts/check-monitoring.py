"""Writes what promtool can check: check-monitoring.py RULES DASHBOARD FOLDER.

FOLDER/rules.yaml has the rules without the Kubernetes object around them, FOLDER/dashboard.yaml each
query of the dashboard as a rule, which is how promtool takes a bare expression.
"""

import json
import sys
from pathlib import Path

import yaml

# Of Grafana; all others stand within texts.
RATE_INTERVAL = "$__rate_interval"


def queries(dashboard):
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            name = f"panel_{panel['id']}_{target['refId']}"
            yield {"record": name, "expr": target["expr"].replace(RATE_INTERVAL, "5m")}


def write(path, groups):
    path.write_text(yaml.safe_dump({"groups": groups}))


def main():
    rules, dashboard, folder = map(Path, sys.argv[1:])
    write(folder / "rules.yaml", yaml.safe_load(rules.read_text())["spec"]["groups"])
    group = {"name": "dashboard", "rules": list(queries(json.loads(dashboard.read_text())))}
    write(folder / "dashboard.yaml", [group])


if __name__ == "__main__":
    main()
