"""``heartline schema``: the JSON Schemas of events and results."""

from __future__ import annotations

import json
from pathlib import Path

import click

from agents.failures import Unusable

EPILOG = """\
Examples:

\b
  heartline schema > heartline.schema.json
  heartline schema --out schemas/
"""


@click.command(epilog=EPILOG)
@click.option(
    "--out",
    "folder",
    metavar="DIR",
    help="Write one file a record type: DIR/events/TYPE.schema.json, DIR/outputs/NAME.schema.json.",
)
def command(folder: str | None) -> None:
    """Print the JSON Schemas of every event that Heartline reads and every record it writes."""
    from agents.json_schemas import bundle, event_schemas, output_schemas

    if folder is None:
        click.echo(_text(bundle()), nl=False)
        return
    count = 0
    for group, schemas in (("events", event_schemas()), ("outputs", output_schemas())):
        place = Path(folder) / group
        try:
            place.mkdir(parents=True, exist_ok=True)
            for name, schema in schemas.items():
                (place / f"{name}.schema.json").write_text(_text(schema), encoding="utf-8")
                count += 1
        except OSError as error:
            raise Unusable(f"--out {folder}: {error.strerror or error}") from error
    click.echo(f"{count} schemas in {folder}", err=True)


def _text(schema: dict[str, object]) -> str:
    return json.dumps(schema, indent=2, sort_keys=False) + "\n"
