"""The web app that serves pages of the store, for the buttons on task pages."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends
from fastapi.responses import PlainTextResponse, Response
from sbr_web import html, new_app, store_of_now

from sbr_tasks.errors import DamagedError, DayError, RegistryError, SbrError
from sbr_tasks.report.stored import data_docs_of, report_of
from sbr_tasks.store import Store

MISSING = (DamagedError, DayError, RegistryError)

app = new_app()
OpenStore = Annotated[Store, Depends(store_of_now)]


@app.exception_handler(SbrError)
def say_why(_request: object, error: SbrError) -> Response:
    """The sentence in place of the page."""
    return PlainTextResponse(str(error), status_code=404 if isinstance(error, MISSING) else 500)


@app.get("/reports/{version}")
def show_report(version: str, store: OpenStore) -> Response:
    """The page of the last decision on a version, or of its run if none was made."""
    return html(report_of(store, version))


@app.get("/data-docs/{day}")
def show_data_docs(day: str, store: OpenStore) -> Response:
    """What the last validation of a day found, whether it was accepted or not."""
    return html(data_docs_of(store, day))
