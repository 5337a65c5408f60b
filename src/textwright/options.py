"""The base of every part's options: unknown keys refused, values checked, frozen once made."""

from pydantic import BaseModel, ConfigDict


class Options(BaseModel):
    """One table of a config file; each field carries its help text and its only default."""

    model_config = ConfigDict(extra="forbid", frozen=True)
