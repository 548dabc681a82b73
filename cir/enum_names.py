"""Short names of the contract's enum values: FIELD_TYPE_KEYWORD is "keyword" for people. Pure.

They are what the Python client, the command line, JSON over HTTP and labels of metrics say.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping

from google.protobuf.descriptor import EnumDescriptor


@functools.cache
def short_names(enum: EnumDescriptor) -> Mapping[str, int]:
    """Return the numbers of an enum by short name: the name without the enum's own, in lower case.

    Enums whose values do not carry its name, which is `ErrorReason`, keep them as they are.
    """
    prefix = re.sub(r"(?<!^)(?=[A-Z])", "_", enum.name).upper() + "_"
    if not all(value.name.startswith(prefix) for value in enum.values):
        return {value.name: value.number for value in enum.values}
    return {value.name.removeprefix(prefix).lower(): value.number for value in enum.values}


def short_name(enum: EnumDescriptor, number: int) -> str:
    """Return the short name of a value; the number itself for one of a newer contract."""
    return next((name for name, known in short_names(enum).items() if known == number), str(number))
