"""Base class of all options: unknown keys are refused, values checked, instances frozen."""

from pydantic import BaseModel, ConfigDict


class Options(BaseModel):
    """One table of a config file; each field carries its help text and its only default."""

    model_config = ConfigDict(extra="forbid", frozen=True)
