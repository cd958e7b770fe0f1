"""Writes a stored model as a SavedModel: `python -m sbr_tasks.gru4rec.write_saved_model FOLDER`.

Reads JSON from standard input: `files`, a folder with the files of the model; `mixture`, the numbers of its read-out or null;
`k` and `rule`. `export.export_apart` runs it in a separate process.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from sbr_tasks.gru4rec.export import export_saved_model
from sbr_tasks.gru4rec.model import Model
from sbr_tasks.readout import Mixture, PlacementRule


def write(folder: Path, how: dict[str, Any]) -> None:
    """Writes the SavedModel into a folder."""
    files = {file.name: file.read_bytes() for file in Path(how["files"]).iterdir()}
    mixture = Mixture.model_validate(how["mixture"]) if how["mixture"] else None
    export_saved_model(Model.from_files(files, mixture), folder, k=how["k"], rule=PlacementRule.model_validate(how["rule"]))


if __name__ == "__main__":
    write(Path(sys.argv[1]), json.load(sys.stdin))
