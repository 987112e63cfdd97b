"""Load the encoders of a migration on first use, and estimate the price of encoding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from xbtmigrate import registry
from xbtmigrate.config import GONE, Config, NewModelSection, OldModelSection
from xbtmigrate.encoders.checked import CheckedEncoder
from xbtmigrate.encoders.mean_of_windows import MeanOfWindows
from xbtmigrate.errors import ConfigError
from xbtmigrate.protocols import Encoder
from xbtmigrate.types import Modality


@dataclass(frozen=True)
class Models:
    """The two embedding models of one migration.

    Attributes:
        config: The settings that name them.
    """

    config: Config

    @property
    def stored(self) -> Modality:
        """Modality that both the stored and the new vectors embed."""
        return self.config.old_model.stored

    @property
    def has_old(self) -> bool:
        """Whether the old model can be run; if not, only its stored vectors are left."""
        return not self.config.old_model.is_gone

    @cached_property
    def old(self) -> Encoder:
        """The old model.

        Raises:
            ConfigError: It is gone.
            PluginError: Its encoder is not installed, or does not take its options.
        """
        self.require_old("this")
        return load_encoder(self.config, self.config.old_model)

    @property
    def old_fingerprint(self) -> str:
        """Identity of the old model; the word for it in the configuration where it is gone."""
        return self.old.fingerprint if self.has_old else self.config.old_model.encoder

    def require_old(self, what: str, instead: str = "") -> None:
        """Refuse what needs the old model where that is gone.

        Args:
            what: What needs it.
            instead: What to do without it; "" for nothing.

        Raises:
            ConfigError: The old model is gone.
        """
        if not self.has_old:
            raise ConfigError(
                f'{what} needs the old model, and old_model.encoder = "{GONE}" says that it is '
                "gone",
                f"{instead}, or name the model in [old_model] if it can still be run".lstrip(", "),
            )

    @cached_property
    def new(self) -> Encoder:
        """The new model."""
        return load_encoder(self.config, self.config.new_model)

    def price_per_item(self, items: Sequence[str]) -> float | None:
        """Return the price of encoding one item: configured, or by the encoder's token price."""
        configured = self.config.plan.price_per_million_items
        if configured is not None:
            return configured / 1e6
        # Optional members beyond the protocol: local models have no price.
        price = getattr(self.new, "price_per_million_tokens", None)
        count = getattr(self.new, "count_tokens", None)
        if price is None or count is None or not items:
            return None
        # The mean over the given sample: tokens per item times the price of one token.
        return float(price) * float(count(items)) / len(items) / 1e6


def load_encoder(
    config: Config, section: OldModelSection | NewModelSection, **more: str
) -> Encoder:
    """Load the encoder of a section of the settings.

    Args:
        config: The settings.
        section: The old or the new model.
        more: Options of the encoder besides those of the section.

    Raises:
        PluginError: There is no such encoder, or it does not take these options.
        ConfigError: It is to average windows, and does not split texts.
    """
    # Keys that the section does not declare are the options of the plugin.
    options = {**(section.model_extra or {}), **more}
    encoder = registry.build(registry.ENCODERS, section.encoder, options, config.base)
    # What the writer did with long texts is done with those of the new model, too.
    return CheckedEncoder(MeanOfWindows(encoder) if config.old_model.chunk else encoder)
