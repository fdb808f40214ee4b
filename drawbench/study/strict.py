"""Models of what people write or edit by hand: strictly checked, with errors on one line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    StringConstraints,
    ValidationError,
    model_serializer,
)

Slug = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$")]
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=4000)]


class Strict(BaseModel):
    """A frozen model that refuses unknown keys and converts no types."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def added_later(default: Callable[[], Any]) -> Any:
    """Declare a field of a `Growing` model that older files lack; `default` makes its value."""
    return Field(default_factory=default, json_schema_extra={"added_later": True})


class Growing(Strict):
    """A strict model with fields that older files lack.

    A later field is written only if it was set, so a study that was made before it existed keeps
    the hash that its votes are registered under.
    """

    @model_serializer(mode="wrap")
    def _without_later_fields(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = serialize(self)
        for name, field in type(self).model_fields.items():
            extra = field.json_schema_extra
            is_later = isinstance(extra, dict) and bool(extra.get("added_later"))
            if is_later and name not in self.model_fields_set:
                content.pop(name, None)
        return content


def first_fault(error: Exception) -> str:
    """Describe the first fault of a validation on one line."""
    if not isinstance(error, ValidationError):
        return str(error)
    fault = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in fault["loc"])
    what = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "extra_forbidden":
        what = "unknown key"
    seen = "" if fault["type"] in ("value_error", "missing") else f" (got {fault['input']!r:.80})"
    return f"{where + ': ' if where else ''}{what}{seen}"
