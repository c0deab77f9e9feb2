"""Writes docs/running/helm-values.md out of the comments in the chart's values.yaml: chart-values.py [--write]

Without --write it compares the two, and ends with 1 where they differ.
"""

import difflib
import re
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent
VALUES = ROOT / "deploy/helm/ccgateway-bridge/values.yaml"
PAGE = ROOT / "docs/running/helm-values.md"
HEAD = """# Every value of the Helm chart

<!-- Made from deploy/helm/ccgateway-bridge/values.yaml by scripts/chart-values.py --write. Change that, not this page. -->

This page is for whoever writes a file of values for the chart `deploy/helm/ccgateway-bridge`. [Helm](helm.md) says how to
install it. The schema in the chart refuses what is not listed here.
"""


class Value:
    def __init__(self, path, comment, default):
        self.path, self.comment, self.default = path, comment, default

    def row(self):
        comment = self.comment.replace("|", "\\|")
        return f"| `{self.path}` | {self.default} | {comment} |"


def read(text):
    """Sections, each a title and its values, by the lines: YAML's own readers drop comments."""
    values = yaml.safe_load(text)
    sections, comment, above = [("Names and image", [])], [], []
    for line in text.splitlines():
        title = re.fullmatch(r"# ---- (.*?) -*", line)
        said = re.fullmatch(r" *# ?(.*)", line)
        key = re.fullmatch(r"( *)([A-Za-z][\w.-]*):.*", line)
        if title:
            sections.append((title[1], []))
            comment = []
        elif said:
            comment.append(said[1])
        elif not line.strip():
            # What stands above a key without a gap is about it.
            comment = []
        elif key:
            depth = len(key[1]) // 2
            above = [*above[:depth], key[2]]
            found, value = lookup(values, above)
            # Within a list the lines are no values of the chart.
            if found:
                add(sections[-1][1], ".".join(above), " ".join(comment), value)
            comment = []
    return sections


def lookup(values, path):
    for key in path:
        if not isinstance(values, dict) or key not in values:
            return False, None
        values = values[key]
    return True, values


def add(rows, path, comment, value):
    parent = next((row for row in rows if path.rpartition(".")[0] == row.path), None)
    nested = isinstance(value, dict) and value
    if not comment and not nested and not (parent and parent.comment):
        sys.exit(f"{VALUES.name}: {path} has no comment")
    if comment or not nested:
        rows.append(Value(path, comment, shown(value)))
    else:
        # For what is below it.
        rows.append(Value(path, "", None))


def shown(value):
    if isinstance(value, dict) and value:
        return ""
    if isinstance(value, list) and any(isinstance(each, dict) for each in value):
        return "see the file"
    if isinstance(value, bool):
        value = str(value).lower()
    return '`""`' if value == "" else f"`{value}`"


def page():
    parts = [HEAD]
    for title, rows in read(VALUES.read_text()):
        lines = [row.row() for row in rows if row.default is not None]
        parts.append("\n".join([f"## {title}", "", "| value | default | |", "|---|---|---|", *lines, ""]))
    return "\n".join(parts)


def main():
    made = page()
    if sys.argv[1:] == ["--write"]:
        PAGE.write_text(made)
        return
    there = PAGE.read_text() if PAGE.exists() else ""
    if there != made:
        names = [str(PAGE.relative_to(ROOT)), "what values.yaml says"]
        sys.stdout.writelines(difflib.unified_diff(there.splitlines(True), made.splitlines(True), *names))
        sys.exit(f"{names[0]} is outdated; run {sys.executable} scripts/chart-values.py --write")


if __name__ == "__main__":
    main()
