"""Measures one row in a process of its own: python -m competitors ROW TASK.json FOUND.json

laptop.py starts it. Exits with 3 if a package is missing that the row needs.
"""

import importlib.util
import json
import sys
from dataclasses import asdict
from pathlib import Path

from competitors import Task, load_rows

NOT_INSTALLED = 3


def main() -> int:
    """Read the task, measure, write what was found."""
    name, task_file, found_file = sys.argv[1:]
    row = load_rows()[name]
    missing = [need for need in row.needs if importlib.util.find_spec(need) is None]
    if missing:
        print(f"not installed: {', '.join(missing)}", file=sys.stderr)
        return NOT_INSTALLED
    values = json.loads(Path(task_file).read_text("utf-8"))
    documents = json.loads(Path(values.pop("documents")).read_text("utf-8"))
    found = row.measure(Task(**documents, **values))
    Path(found_file).write_text(json.dumps(asdict(found)), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
