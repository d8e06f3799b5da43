"""Bodies of requests: how large, how slow, of what type; and what is in them.

Nothing of them touches the disk.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterator
from typing import NamedTuple

import humanize
from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.requests import ClientDisconnect, Request

from coatnet_jax.errors import show
from coatnet_jax.serving.failures import RETRY_AFTER, RequestError
from coatnet_jax.serving.limits import Limits

# What is wrong with a form is said to its client.
logging.getLogger('python_multipart').setLevel(logging.CRITICAL)

_TYPES = 'multipart/form-data, image/... or application/octet-stream'
# Parts of a form, of which one is a picture.
_MAX_PARTS = 8
_MAX_FIELD_BYTES = 1000


class Upload(NamedTuple):
  """A whole body.

  Attributes:
    content_type: header of that name.
    body: content of the body.
  """

  content_type: str
  body: bytes


class Contents(NamedTuple):
  """What is in a body.

  Attributes:
    picture: file of the picture, empty where nothing was chosen.
    fields: other fields of the form, by name.
  """

  picture: bytes
  fields: dict[str, str]


class Part(NamedTuple):
  """A part of a form.

  Attributes:
    name: name of the field.
    is_file: whether it is a file.
    data: content of the field.
  """

  name: str
  is_file: bool
  data: bytes


class HeldBytes:
  """Counts what all bodies hold together."""

  def __init__(self, most: int):
    """Holds nothing yet.

    Args:
      most: largest number of bytes.
    """
    self.held = 0
    self._most = most

  def take(self, number: int) -> None:
    """Counts some more bytes.

    Raises:
      RequestError: there would be too many.
    """
    if self.held + number > self._most:
      raise RequestError(
        503,
        'The server holds as many bytes of other requests as it may; try again'
        ' in a moment.',
        RETRY_AFTER,
      )
    self.held += number


@contextlib.asynccontextmanager
async def read_upload(
  request: Request, limits: Limits, held: HeldBytes
) -> AsyncIterator[Upload]:
  """Context with the body of a request, whose bytes are counted meanwhile.

  Args:
    request: request whose body was not read yet.
    limits: limits of the server.
    held: count of what all bodies hold.

  Raises:
    RequestError: it is too large, too slow, cut off or of another type.
  """
  content_type = _check_headers(request, limits)
  body = bytearray()
  try:
    await _fill(body, request, limits, held)
    yield Upload(content_type, bytes(body))
  finally:
    held.held -= len(body)


async def _fill(
  body: bytearray, request: Request, limits: Limits, held: HeldBytes
) -> None:
  """Reads a body to its end."""
  try:
    async with asyncio.timeout(limits.body_seconds):
      async for chunk in _read_chunks(request, limits):
        if len(body) + len(chunk) > limits.max_body_bytes:
          raise _create_size_error(limits)
        held.take(len(chunk))
        body += chunk
  except TimeoutError as error:
    raise RequestError(
      408,
      f'The body came too slowly; it may take {limits.body_seconds:g} s, and'
      f' pause for {limits.pause_seconds:g} s.',
    ) from error
  except ClientDisconnect as error:
    raise RequestError(400, 'The body was cut off.') from error


async def _read_chunks(
  request: Request, limits: Limits
) -> AsyncIterator[bytes]:
  """Yields parts of a body, none of which may come too late."""
  stream = request.stream()
  while True:
    try:
      async with asyncio.timeout(limits.pause_seconds):
        chunk = await anext(stream)
    except StopAsyncIteration:
      return
    yield chunk


def _check_headers(request: Request, limits: Limits) -> str:
  """Returns the type of a body, by what is said before it comes.

  Raises:
    RequestError: it will not be read.
  """
  headers = request.headers
  # What is no number, h11 has refused already.
  length = headers.get('content-length', '0')
  if len(length) > 18 or int(length) > limits.max_body_bytes:
    raise _create_size_error(limits)
  if headers.get('content-encoding', 'identity').lower() != 'identity':
    raise RequestError(
      415, 'The body is compressed (Content-Encoding); send it as it is.'
    )
  content_type = headers.get('content-type', '')
  kind = content_type.partition(';')[0].strip().lower()
  if not (
    kind in ('multipart/form-data', 'application/octet-stream')
    or kind.startswith('image/')
  ):
    raise RequestError(
      415, f'The Content-Type is none that is read; it must be {_TYPES}.'
    )
  return content_type


def _create_size_error(limits: Limits) -> RequestError:
  return RequestError(
    413,
    f'The body is larger than {limits.max_body_bytes:,} bytes; make the picture'
    ' smaller.',
  )


def find_contents(upload: Upload) -> Contents:
  """Returns what is in a body: a form, or a picture alone.

  Args:
    upload: body; a form has one file that is not empty, or none.

  Raises:
    RequestError: it is a form that is damaged, has no file or several that are
      not empty, or has a field twice.
  """
  if not upload.content_type.lower().startswith('multipart/'):
    return Contents(upload.body, {})
  parts = read_form(upload)
  files = [part.data for part in parts if part.is_file]
  if not files:
    raise RequestError(
      400, 'The form has no file; send the picture as a file of any name.'
    )
  # Browsers send an empty file for each input where nothing was chosen.
  pictures = list(filter(None, files))
  if len(pictures) > 1:
    raise RequestError(
      400,
      f'The form has {humanize.apnumber(len(pictures))} pictures; send one.',
    )
  fields: dict[str, str] = {}
  for part in parts:
    if part.is_file:
      continue
    if part.name in fields:
      raise RequestError(
        400, f'The form has the field {show(part.name)} twice; send it once.'
      )
    fields[part.name] = part.data.decode('utf-8', 'replace')
  return Contents(pictures[0] if pictures else b'', fields)


def read_form(upload: Upload) -> list[Part]:
  """Returns the parts of a form.

  Args:
    upload: body of type multipart/form-data.

  Raises:
    RequestError: it is damaged, cut off, or has too many parts.
  """
  _, options = parse_options_header(upload.content_type)
  boundary = options.get(b'boundary')
  if not boundary:
    raise RequestError(400, 'The form has no boundary in its Content-Type.')
  form = _Form()
  try:
    parser = MultipartParser(boundary, form.list_callbacks())
    parser.write(upload.body)
    parser.finalize()
  except FormParserError as error:
    raise RequestError(
      400, 'The form is damaged, or has another boundary.'
    ) from error
  if not form.is_whole:
    raise RequestError(400, 'The form was cut off, or has another boundary.')
  return list(form.list_parts())


class _Form:
  """Collects what the parser of a form finds."""

  def __init__(self):
    self.is_whole = False
    self._parts: list[tuple[dict[bytes, bytes], bytearray]] = []
    self._header = bytearray()
    self._value = bytearray()

  def list_callbacks(self) -> dict:
    return {
      'on_part_begin': self._begin,
      'on_header_field': self._add_to_header,
      'on_header_value': self._add_to_value,
      'on_header_end': self._end_header,
      'on_part_data': self._add_data,
      'on_end': self._end,
    }

  def list_parts(self) -> Iterator[Part]:
    for headers, data in self._parts:
      _, options = parse_options_header(headers.get(b'content-disposition'))
      name = options.get(b'name', b'').decode('utf-8', 'replace')
      is_file = b'filename' in options
      if not is_file and len(data) > _MAX_FIELD_BYTES:
        raise RequestError(
          400,
          f'A field of the form has more than {_MAX_FIELD_BYTES:,} bytes, and'
          ' is no file.',
        )
      yield Part(name, is_file, bytes(data))

  def _begin(self) -> None:
    if len(self._parts) == _MAX_PARTS:
      raise RequestError(
        400, f'The form has more than {_MAX_PARTS} parts; send one picture.'
      )
    self._parts.append(({}, bytearray()))

  def _add_to_header(self, data: bytes, start: int, end: int) -> None:
    self._header += data[start:end]

  def _add_to_value(self, data: bytes, start: int, end: int) -> None:
    self._value += data[start:end]

  def _end_header(self) -> None:
    self._parts[-1][0][bytes(self._header).lower()] = bytes(self._value)
    self._header, self._value = bytearray(), bytearray()

  def _add_data(self, data: bytes, start: int, end: int) -> None:
    self._parts[-1][1].extend(memoryview(data)[start:end])

  def _end(self) -> None:
    self.is_whole = True
