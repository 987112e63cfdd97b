"""Read xbtmigrate.toml and the environment, and report all mistakes at once."""

from __future__ import annotations

import hashlib
import os
import re
import tomllib
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import pydantic
from pydantic import BaseModel, ConfigDict, Field

from xbtmigrate import registry
from xbtmigrate.errors import ConfigError, PluginError
from xbtmigrate.types import Distance, Modality

Share: TypeAlias = Annotated[float, Field(ge=0.0, le=1.0)]

GONE = "none"
"""The encoder of an old model that is gone: shut down, or nobody knows which it was."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class QdrantSection(_Section):
    """How to reach the collection, and which of its vectors are the old and the new one."""

    url: str
    api_key_env: str | None = None
    api_key_file: Path | None = None
    ca_file: Path | None = None
    collection: str = Field(min_length=1)
    vector: str = ""
    new_vector: str | None = None
    side_vector: str | None = None
    grpc: bool = False
    grpc_port: int = Field(default=6334, ge=1, le=65535)
    # Time limit of one request, in seconds.
    timeout: int = Field(default=60, ge=1, le=3600)

    @pydantic.field_validator("url")
    @classmethod
    def _known_scheme(cls, url: str) -> str:
        if not re.match(r"https?://[^/]+|path:.", url):
            raise ValueError('must be "http://host:6333", "https://host" or "path:DIR"')
        # Errors and reports show the URL, and must not show a password with it.
        if "@" in url.partition("//")[2].partition("/")[0]:
            raise ValueError("must hold no user or password: use api_key_env or api_key_file")
        return url

    @pydantic.model_validator(mode="after")
    def _one_key(self) -> QdrantSection:
        if self.api_key_env is not None and self.api_key_file is not None:
            raise ValueError("api_key_env and api_key_file name two keys: keep one of them")
        return self

    @pydantic.model_validator(mode="after")
    def _two_names(self) -> QdrantSection:
        if self.vector and self.new_vector_name == self.vector:
            raise ValueError("old and new vector have the same name: set new_vector to another one")
        if self.side_vector in (self.vector, self.new_vector_name):
            raise ValueError("side_vector must be another vector than the old and the new one")
        return self

    @property
    def new_vector_name(self) -> str:
        """Name of the new vector; by default "new", or unnamed if the old one is."""
        if self.new_vector is not None:
            return self.new_vector
        return "new" if self.vector else ""


class PayloadSection(_Section):
    """The payload fields with the embedded content, a query for it, and whose it is."""

    text: str | None = None
    image: str | None = None
    query: str | None = None
    tenant: str | None = None


class OldModelSection(BaseModel):
    """The model that made the stored vectors, and what they embed."""

    # Other keys are the encoder's options, checked against its constructor (`_encoder_mistakes`).
    model_config = ConfigDict(extra="allow", frozen=True, protected_namespaces=())

    encoder: str
    stored: Modality
    # Whether the collection's words are embedded once, for a better bridge.
    words: bool = True
    # How texts longer than the model reads were embedded; None where they were cut.
    chunk: Literal["mean"] | None = None

    @property
    def is_gone(self) -> bool:
        """Whether the model cannot be run: only its stored vectors are left."""
        return self.encoder == GONE


class NewModelSection(BaseModel):
    """The model to move to."""

    model_config = ConfigDict(extra="allow", frozen=True, protected_namespaces=())

    encoder: str
    distance: Distance | None = None
    # Whether the collection's words are embedded once, as side vectors for a better projector.
    words: bool = True

    @pydantic.field_validator("distance", mode="before")
    @classmethod
    def _any_case(cls, distance: object) -> object:
        return distance.title() if isinstance(distance, str) else distance


class PlanSection(_Section):
    """Options of `plan`, and the limits of a migration."""

    strategy: Literal["auto", "keep", "bridge", "forward", "fastfill", "full"] = "auto"
    layout: Literal["auto", "in_place", "shadow"] = "auto"
    seed: int = 0
    sample: int = Field(default=2000, ge=100)
    queries: Path | None = None
    # Limits encoding: a slow model gets a smaller sample.
    measure_seconds: float = Field(default=120.0, gt=0)
    # A share of the quality of `full` that is good enough.
    target: Share = 0.95
    max_missing: Share = 0.01
    # The least median cosine between stored vectors and those that the declared old model makes.
    old_model_match: Share = 0.99
    price_per_million_items: float | None = Field(default=None, ge=0)


class ServingSection(_Section):
    """Options of serving, for `serve` and `evaluate`."""

    # Whether queries of the new space are centred as `train-projector` fitted it.
    centre_queries: bool = True


class Config(_Section):
    """The content of xbtmigrate.toml, validated.

    Attributes:
        base: Folder of the file; relative paths and artefacts are found from here.
    """

    qdrant: QdrantSection
    payload: PayloadSection = PayloadSection()
    old_model: OldModelSection
    new_model: NewModelSection
    plan: PlanSection = PlanSection()
    serving: ServingSection = ServingSection()
    # Left out of dumps, and so of the plan's binding: moving the folder does not outdate a plan.
    base: Path = Field(default=Path(), exclude=True)

    @property
    def migration(self) -> str:
        """Name of the migration, one for each collection and vector."""
        name = "-".join(filter(None, (self.qdrant.collection, self.qdrant.vector)))
        # The name is also a folder's, so invalid characters are replaced. Two names may
        # then be alike: the hash tells them apart.
        slug = re.sub(r"[^A-Za-z0-9._-]", "_", name).lstrip(".")
        if slug == name:
            return slug
        return f"{slug}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"

    @property
    def url(self) -> str:
        """URL of the server, or "path:" and the absolute folder of the embedded mode."""
        if not self.qdrant.url.startswith("path:"):
            return self.qdrant.url
        return f"path:{(self.base / self.qdrant.url.removeprefix('path:')).resolve()}"

    @property
    def api_key(self) -> str | None:
        """The API key from the environment variable or file that the configuration names.

        Raises:
            ConfigError: The variable is not set, or the file cannot be read or is empty.
        """
        return read_key(self.qdrant.api_key_env, self.qdrant.api_key_file, self.base)

    @property
    def ca_file(self) -> Path | None:
        """The certificates to trust; None for the default ones."""
        return None if self.qdrant.ca_file is None else self.base / self.qdrant.ca_file

    def binding(self) -> dict[str, str]:
        """Flatten what a plan depends on into dotted key -> value, without any secret."""
        sections = self.model_dump(mode="json", exclude_none=True)
        # These may change under a plan (docs/configuration.md); the measured collection may not.
        free = "api_key_env", "api_key_file", "ca_file", "grpc", "grpc_port", "timeout"
        for section, keys in (("qdrant", free), ("payload", ("query", "tenant"))):
            sections[section] = {k: v for k, v in sections[section].items() if k not in keys}
        sections.pop("serving")
        sections["plan"] = {key: sections["plan"][key] for key in ("strategy", "layout", "seed")}
        return {
            f"{section}.{key}": str(value)
            for section, values in sections.items()
            for key, value in values.items()
        }


def read_key(variable: str | None, file: Path | None, base: Path) -> str | None:
    """Read an API key from the environment or a file.

    Args:
        variable: Environment variable that holds it, None for none.
        file: File that holds it and nothing else, None for none.
        base: Folder that a relative file starts from.

    Raises:
        ConfigError: The variable is not set, or the file cannot be read or is empty.
    """
    if variable is not None:
        if key := os.environ.get(variable):
            return key
        raise ConfigError(
            f"qdrant.api_key_env names {variable}, which is not set in the environment",
            f"export {variable}=… or remove the key where the server needs none",
        )
    if file is None:
        return None
    return key_in(base / file, "qdrant.api_key_file")


def key_in(file: Path, setting: str) -> str:
    """Read the key from a file that holds nothing else.

    Args:
        file: The file.
        setting: What names the file, for messages.

    Raises:
        ConfigError: The file cannot be read or is empty.
    """
    try:
        key = file.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{setting} cannot be read: {file}: {type(error).__name__}",
            "make the file readable for this user, or choose another one",
        ) from error
    # An HTTP header can hold neither line breaks nor non-ASCII characters.
    if not key or not key.isascii() or any(map(str.isspace, key)):
        raise ConfigError(f"{setting} {file} does not hold a key", "put only the key into it")
    return key


COLLECTION = "XBTMIGRATE_COLLECTION"
"""Environment variable that chooses one collection of a configuration of many."""


def load_config(path: Path, collection: str | None = None) -> Config:
    """Read and check a configuration file.

    Args:
        path: The file.
        collection: The collection to work on, where the file names many; None for that in the
            environment.

    Raises:
        ConfigError: The file cannot be read, or has mistakes: all of them are listed.
    """
    raw = _read(path)
    patterns = _patterns_in(raw, path)
    if not patterns:
        return check_config(raw, path)
    name = collection or os.environ.get(COLLECTION)
    if name is None or not is_among(name, patterns):
        raise ConfigError(
            f"{path} is for many collections, and "
            + (f"'{name}' is none of them" if name else "this command works on one"),
            f"name one in the environment: {COLLECTION}=NAME, as in {', '.join(patterns)}",
        )
    del raw["qdrant"]["collections"]
    raw["qdrant"]["collection"] = name
    # Not in [payload]: a template there may name a field that is called collection.
    filled = {
        key: each if key == "payload" else _filled_in(each, name) for key, each in raw.items()
    }
    return check_config(filled, path)


def read_patterns(path: Path) -> list[str]:
    """Return `qdrant.collections`: names and patterns of many collections; none for a single one.

    Raises:
        ConfigError: The file cannot be read, or the key has a mistake.
    """
    return _patterns_in(_read(path), path)


def is_among(name: str, patterns: Iterable[str]) -> bool:
    """Return whether a collection's name is one of the names, or matches one of the patterns."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _patterns_in(raw: dict[str, Any], path: Path) -> list[str]:
    section = raw.get("qdrant")
    if not isinstance(section, dict) or "collections" not in section:
        return []
    found = section["collections"]
    if not (isinstance(found, list) and found and all(isinstance(e, str) and e for e in found)):
        mistake = "must be a list of names and patterns"
    elif "collection" in section:
        mistake = "cannot stand beside collection: keep one of them"
    else:
        return found
    raise ConfigError(f"{path} has 1 mistake:\n  qdrant.collections: {mistake}", "correct the file")


def _filled_in(value: Any, name: str) -> Any:
    """Return values of the file with the collection's name in place of {collection}."""
    if isinstance(value, dict):
        return {key: _filled_in(each, name) for key, each in value.items()}
    return value.replace("{collection}", name) if isinstance(value, str) else value


def check_config(raw: dict[str, Any], path: Path) -> Config:
    """Check what a configuration file holds.

    Args:
        raw: Its tables.
        path: The file: it names the mistakes, and relative paths start from its folder.

    Raises:
        ConfigError: It has mistakes: all of them are listed.
    """
    mistakes: list[tuple[str, str]] = []
    try:
        config = Config.model_validate(raw)
    except pydantic.ValidationError as error:
        mistakes += registry.explain(error, Config)
        config = None
    for section in ("old_model", "new_model"):
        # Also after an invalid section, from the raw text: one run lists all mistakes of a file.
        mistakes += _encoder_mistakes(section, raw.get(section))
    mistakes += _mistakes_across(raw)
    if config is None or mistakes:
        # Several checks may find the same key: a dict keeps one line for each.
        lines = "\n".join(f"  {key}: {text}" for key, text in dict(mistakes).items())
        count = len(dict(mistakes))
        raise ConfigError(
            f"{path} has {count} mistake{'s' if count > 1 else ''}:\n{lines}",
            "`xbtmigrate init` writes a commented file with every key",
        )
    return config.model_copy(update={"base": path.resolve().parent})


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(
            f"there is no configuration file {path}",
            "name one with --config, or write one with `xbtmigrate init`",
        ) from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}", "correct the file") from error


def _encoder_mistakes(section: str, raw: object) -> list[tuple[str, str]]:
    # Pydantic reports a missing or wrong name itself.
    if not isinstance(raw, dict) or not isinstance(raw.get("encoder"), str):
        return []
    own = OldModelSection if section == "old_model" else NewModelSection
    options = {key: value for key, value in raw.items() if key not in own.model_fields}
    if section == "old_model" and raw["encoder"] == GONE:
        return [(f"{section}.{key}", f'encoder = "{GONE}" takes no options') for key in options]
    try:
        found = registry.check_options(registry.ENCODERS, raw["encoder"], options)
    except PluginError as error:
        return [(f"{section}.encoder", f"{error.message}; {error.hint}")]
    return [(f"{section}.{key}", text) for key, text in found]


def _mistakes_across(raw: dict[str, Any]) -> list[tuple[str, str]]:
    # These rules span two sections, so no section's validator can check them.
    payload, old, plan = (raw.get(name) or {} for name in ("payload", "old_model", "plan"))
    if not all(isinstance(each, dict) for each in (payload, old, plan)):
        return []
    if old.get("stored") == "text" and not payload.get("text"):
        return [("payload.text", 'is required where old_model.stored = "text"')]
    if old.get("stored") == "image" and not (payload.get("text") or payload.get("image")):
        return [("payload.text", "a text (caption) or an image field is required to make pairs")]
    if old.get("chunk") is not None and (old.get("encoder") == GONE or old.get("stored") != "text"):
        return [("old_model.chunk", "needs an old model that can be run, and texts: remove it")]
    if old.get("encoder") == GONE and plan.get("strategy") == "keep":
        lost = f'"keep" needs the old model, and old_model.encoder = "{GONE}" says that it is gone'
        return [("plan.strategy", f"{lost}: choose auto, bridge, forward, fastfill or full")]
    return []
