"""Answers: JSON, failures with their reason, and the end of unread bodies."""

import asyncio
import contextlib
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from coatnet_jax.serving.failures import RequestError
from coatnet_jax.strict_json import to_json

# What is read of a body that nobody wants, so that its sender, who is not yet
# done, gets to read the answer.
_DRAINED_BYTES = 64 << 20
_DRAINING_SECONDS = 1.0
# Key of a request's scope: whether its body was read to its end.
IS_READ = 'coatnet_jax.is_read'


class LastAnswer(Response):
  """An answer to a request that may still be coming."""

  async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
    """Sends the answer; reads on a little where a body is unread."""
    if scope.get(IS_READ) or scope['method'] in ('GET', 'HEAD'):
      await super().__call__(scope, receive, send)
      return
    self.headers['Connection'] = 'close'
    await send(
      {
        'type': 'http.response.start',
        'status': self.status_code,
        'headers': self.raw_headers,
      }
    )
    await send(
      {'type': 'http.response.body', 'body': self.body, 'more_body': True}
    )
    with contextlib.suppress(TimeoutError):
      async with asyncio.timeout(_DRAINING_SECONDS):
        await _drain(receive)
    await send({'type': 'http.response.body', 'body': b''})


async def _drain(receive: Receive) -> None:
  number = 0
  while number < _DRAINED_BYTES:
    message = await receive()
    number += len(message.get('body', b''))
    if message['type'] == 'http.disconnect' or not message.get('more_body'):
      return


def answer_json(tree: Any, status: int = 200) -> Response:
  """Returns an answer in JSON.

  Args:
    tree: content, without NaN: it becomes null.
    status: HTTP status of the answer.
  """
  return Response(to_json(tree), status, media_type='application/json')


def answer_failure(error: RequestError) -> Response:
  """Returns the answer for a request that is refused.

  Args:
    error: error with status and reason.
  """
  return LastAnswer(
    to_json({'error': str(error), 'status': error.status}),
    error.status,
    error.headers,
    media_type='application/json',
  )
