"""`multipart/form-data`: the request as JSON in the part `request`, and files named after fields.

A file's name is the path of the field of bytes that it is, such as `turns[0].reference.image` or
`items[3].content`: that of the JSON that would hold it as base64, and that refusals name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from http_gateway.codec import BadJsonError

REQUEST = "request"
_MOST_PARTS = 1025


@dataclass(slots=True)
class Form:
    """The parts of a form: the JSON of a request, empty where it has none, and files by name."""

    request: bytes = b""
    files: Mapping[str, bytes] = field(default_factory=dict)


def read_form(content: bytes, content_type: str) -> Form:
    """Read a form.

    Raises:
        BadJsonError: it has no end, a part without a name or with that of another, or too many.
    """
    _, parameters = parse_options_header(content_type)
    if b"boundary" not in parameters:
        raise BadJsonError("the Content-Type of the body is multipart/form-data without a boundary")
    parts = _Parts()
    try:
        parser = MultipartParser(
            parameters[b"boundary"],
            {
                "on_part_begin": parts.begin,
                "on_header_field": parts.header_name,
                "on_header_value": parts.header_value,
                "on_header_end": parts.end_header,
                "on_part_data": parts.data,
                "on_part_end": parts.end,
                "on_end": parts.finish,
            },
        )
        parser.write(content)
    except FormParserError as error:
        raise BadJsonError(
            "the body is no multipart/form-data with the boundary of its Content-Type"
        ) from error
    if not parts.finished:
        raise BadJsonError("the body ends before its last boundary")
    return Form(parts.named.pop(REQUEST, b""), parts.named)


class _Parts:
    """The callbacks of the parser, which gather the parts."""

    def __init__(self) -> None:
        self.named: dict[str, bytes] = {}
        self.finished = False
        self._name, self._value, self._content = bytearray(), bytearray(), bytearray()
        self._disposition = b""

    def begin(self) -> None:
        self._content, self._disposition = bytearray(), b""

    def header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def end_header(self) -> None:
        if self._name.lower() == b"content-disposition":
            self._disposition = bytes(self._value)
        self._name, self._value = bytearray(), bytearray()

    def data(self, data: bytes, start: int, end: int) -> None:
        self._content += data[start:end]

    def end(self) -> None:
        kind, parameters = parse_options_header(self._disposition)
        try:
            name = parameters.get(b"name", b"").decode()
        except UnicodeDecodeError as error:
            raise BadJsonError("the name of a part is no UTF-8") from error
        if kind != b"form-data" or not name:
            raise BadJsonError("a part has no name: Content-Disposition: form-data; name=...")
        if name in self.named:
            raise BadJsonError(f"{name[:100]!r} is given twice", name[:100])
        if len(self.named) == _MOST_PARTS:
            raise BadJsonError(f"the form has more than {_MOST_PARTS} parts")
        self.named[name] = bytes(self._content)

    def finish(self) -> None:
        self.finished = True
