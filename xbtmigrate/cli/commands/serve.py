"""Parse `serve`: answer queries over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from xbtmigrate.cli import render
from xbtmigrate.cli.options import CONFIG, ConfigOption

ServingOption: TypeAlias = Annotated[
    str | None,
    typer.Option(help="Serving to use before the cutover; by default keep, the old vectors."),
]
OldModelOption: TypeAlias = Annotated[
    bool, typer.Option("--old-model/--no-old-model", help="Load the old model too.")
]
CanaryOption: TypeAlias = Annotated[
    float | None,
    typer.Option(min=0, max=1, help="Share of queries to answer with the new serving."),
]
ShadowReadOption: TypeAlias = Annotated[
    float | None,
    typer.Option(min=0, max=1, help="Share of queries to compare behind the old answer."),
]
DemandOption: TypeAlias = Annotated[
    Path | None, typer.Option(help="Parquet file that counts how often queries find each point.")
]
TimeoutOption: TypeAlias = Annotated[
    float, typer.Option(min=0.1, help="Time limit of a request, in seconds.")
]
MaxRequestsOption: TypeAlias = Annotated[
    int, typer.Option(min=1, help="Most requests at a time; others are refused with 503.")
]
ApiKeyFileOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(help="File with the key that clients must send in the header api-key."),
]


def serve(
    config: ConfigOption = CONFIG,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8765,
    serving: ServingOption = None,
    old_model: OldModelOption = True,
    canary: CanaryOption = None,
    shadow_read: ShadowReadOption = None,
    demand: DemandOption = None,
    timeout: TimeoutOption = 10.0,
    max_requests: MaxRequestsOption = 256,
    api_key_file: ApiKeyFileOption = None,
) -> None:
    """Answer queries over HTTP while the model is being replaced: /search, /embed, /docs.

    The key may also come from the environment variable XBTMIGRATE_SERVICE_KEY. Without one, only
    this machine may connect. The service follows the migration's phase while it runs.
    """
    from xbtmigrate.config import load_config

    settings = load_config(config)
    from xbtmigrate.workflows.serve.serve import Service, key_of, make_application

    service = Service(
        serving=serving or "",
        with_old_model=old_model,
        canary=canary,
        shadow_read=shadow_read,
        demand=demand,
        seconds=timeout,
        key=key_of(api_key_file, host),
    )
    # Models load and the collection is checked before the port opens, so no query waits for them.
    app = make_application(settings, service)
    # After `make_application`, whose error names the extra to install.
    import uvicorn

    from xbtmigrate.serving.http.admission import PromptProtocol

    render.say(f"Listening on http://{host}:{port}; http://{host}:{port}/docs describes it.")
    uvicorn.run(
        app,
        host=host,
        port=port,
        # Idle connections count towards the limit; this protocol closes them.
        http=PromptProtocol,
        # Beyond it uvicorn answers 503 at once, so waiting queries do not pile up.
        limit_concurrency=max_requests,
        log_level="warning",
    )
