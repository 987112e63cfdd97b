"""Parse `compare`: open a local page on which both models answer side by side."""

from __future__ import annotations

import secrets
import socket
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from xbtmigrate.cli import render
from xbtmigrate.cli.options import CONFIG, ConfigOption
from xbtmigrate.errors import ConfigError, PluginError

HOST = "127.0.0.1"


def compare(
    config: ConfigOption = CONFIG,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0: any.")] = 8766,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the page in the browser.")
    ] = True,
    votes: Annotated[
        Path | None, typer.Option(help="File for votes; by default among the artefacts.")
    ] = None,
) -> None:
    """Show on a local page what both models find for a query, side by side, and keep votes.

    Only this machine can connect, and only with the token in the address. Nothing is written to
    Qdrant. Votes are stored as judged queries, for `evaluate --queries`.
    """
    from xbtmigrate.config import load_config

    settings = load_config(config)
    try:
        import uvicorn

        from xbtmigrate.report.page import require_libraries
        from xbtmigrate.serving.http.admission import PromptProtocol
        from xbtmigrate.serving.http.compare_page import create_compare_page
        from xbtmigrate.workflows.serve.compare import open_side_by_side
    except ImportError as error:
        raise PluginError(
            f"the page needs a library that is missing: {error.name}",
            "pip install 'xbtmigrate[serve,report]'",
        ) from error
    require_libraries()
    with _listen(port) as line, open_side_by_side(settings, votes) as comparison:
        token = secrets.token_urlsafe(24)
        address = f"http://{HOST}:{line.getsockname()[1]}/{token}/"
        render.say(f"Open {address}\nCtrl-C ends this.")
        if browser:
            import webbrowser

            # The port listens already, so the page waits for the server and is not refused.
            webbrowser.open(address)
        # Without a log of requests: each line of it would hold the token.
        app = create_compare_page(comparison, token)
        server = uvicorn.Config(app, http=PromptProtocol, log_level="warning")
        # Ctrl-C is how it ends, and no failure.
        with suppress(KeyboardInterrupt):
            uvicorn.Server(server).run(sockets=[line])


def _listen(port: int) -> socket.socket:
    """Listen on this machine only.

    Raises:
        ConfigError: Another program uses the port.
    """
    line = socket.socket()
    try:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        line.bind((HOST, port))
    except OSError as error:
        line.close()
        raise ConfigError(f"port {port} cannot be used: {error}", "give another --port") from error
    line.listen()
    return line
