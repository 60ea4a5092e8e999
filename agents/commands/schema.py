"""``heartline schema``: the JSON Schemas of events and results, and the AsyncAPI document."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from agents.failures import Unusable
from agents.parameters import config_option, load_settings

EPILOG = """\
Examples:

\b
  heartline schema > heartline.schema.json
  heartline schema --asyncapi > asyncapi.json
  heartline schema --out contracts/
"""


@click.command(epilog=EPILOG)
@click.option(
    "--out",
    "folder",
    metavar="DIR",
    help=(
        "Write one file a record type: DIR/events/TYPE.schema.json, DIR/outputs/NAME.schema.json; "
        "and DIR/asyncapi.json."
    ),
)
@click.option(
    "--asyncapi",
    "is_asyncapi",
    is_flag=True,
    help="Print the topics, their keys and messages as an AsyncAPI 3 document instead.",
)
@config_option
def command(folder: str | None, *, is_asyncapi: bool, config_file: str | None) -> None:
    """Print the JSON Schemas of every event that Heartline reads and every record it writes; events
    with the configured customer dimensions.
    """
    from agents.asyncapi import document
    from agents.json_schemas import bundle, event_schemas, output_schemas

    settings = load_settings(config_file)
    dimensions = tuple(settings.segments)
    if folder is None:
        printed = document(settings) if is_asyncapi else bundle(dimensions)
        click.echo(_text(printed), nl=False)
        return
    if is_asyncapi:
        raise Unusable("--asyncapi prints the document; --out writes it beside the schemas anyway")
    files = {Path("asyncapi.json"): document(settings)}
    for group, schemas in (("events", event_schemas(dimensions)), ("outputs", output_schemas())):
        files |= {Path(group) / f"{name}.schema.json": one for name, one in schemas.items()}
    for path, content in files.items():
        try:
            (Path(folder) / path).parent.mkdir(parents=True, exist_ok=True)
            (Path(folder) / path).write_text(_text(content), encoding="utf-8")
        except OSError as error:
            raise Unusable(f"--out {folder}: {error.strerror or error}") from error
    click.echo(f"{len(files) - 1} schemas and asyncapi.json in {folder}", err=True)


def _text(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=2, sort_keys=False) + "\n"
