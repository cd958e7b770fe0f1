"""Pages of the docs site that aren't in `docs/`: MkDocs calls these functions (`make docs`)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from pydantic import BaseModel, TypeAdapter
from pydantic.fields import FieldInfo
from tabulate import tabulate

from sbr_tasks.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "LICENSE": "license.txt",
    "SECURITY.md": "security.md",
    "benchmarks/README.md": "benchmarks.md",
    "sbr_tasks/settings/schema.py": "settings.md",
}
"""Where a file of the repository is on the site."""
_JSON = TypeAdapter[Any](Any)
_LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)#\s]+)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages to the site's files."""
    for source, page in PAGES.items():
        text = settings_page() if page == "settings.md" else (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turns links between files of the repository into links between pages; what leads nowhere is left for MkDocs to find."""
    del config, files
    sources = {target: source for source, target in PAGES.items()}
    folder = PurePosixPath(sources.get(page.file.src_uri, f"docs/{page.file.src_uri}")).parent

    def on_site(link: re.Match[str]) -> str:
        file = os.path.normpath(folder / link[0])
        return PAGES.get(file, file.removeprefix("docs/"))

    return _LINK.sub(on_site, markdown)


def settings_page() -> str:
    """A table of all settings for each of their sections: name, default, meaning."""
    tables: dict[str, list[list[str]]] = {}
    for name, field in _fields(Settings):
        row = [f"`{name}`", f"`{_JSON.dump_json(field.default).decode()}`", (field.description or "").replace("|", "\\|")]
        tables.setdefault(name.partition(".")[0] if "." in name else "General", []).append(row)
    headers = ["setting", "default", "meaning"]
    sections = (f"## {section}\n\n{tabulate(rows, headers, tablefmt='github')}\n" for section, rows in tables.items())
    return "\n".join(["# Settings\n", *sections])


def _fields(section: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _fields(field.annotation, f"{prefix}{name}.")
        else:
            yield prefix + name, field
