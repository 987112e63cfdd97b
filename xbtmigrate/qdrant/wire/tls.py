"""Qdrant: which certificates are trusted, the same on every way to the server."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from pathlib import Path

import certifi

from xbtmigrate.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Trust:
    """Certificates to trust: a file of the user's, that of SSL_CERT_FILE, or the usual ones.

    Attributes:
        file: PEM file of certificate authorities; None for the usual ones.
    """

    file: str | None = None

    @classmethod
    def of(cls, ca_file: Path | None) -> Trust:
        """Choose the file and see that it can be used.

        Raises:
            ConfigError: It cannot be read, or holds no certificate.
        """
        named = str(ca_file) if ca_file is not None else os.environ.get("SSL_CERT_FILE")
        trust = cls(named or None)
        try:
            trust.context()
        except OSError as error:  # ssl.SSLError is one
            raise ConfigError(
                f"the certificates in {named} cannot be used: {error}",
                "name a readable PEM file of certificate authorities in qdrant.ca_file",
            ) from error
        return trust

    @property
    def path(self) -> str:
        """The file, also where it is that of the usual certificates."""
        return self.file or certifi.where()

    @property
    def grpc_options(self) -> dict[str, bytes]:
        """What the client library's channels take; gRPC brings the usual certificates itself."""
        return {"root_certificates": Path(self.file).read_bytes()} if self.file else {}

    def context(self) -> ssl.SSLContext:
        """Return what REST clients take."""
        return ssl.create_default_context(cafile=self.path)
