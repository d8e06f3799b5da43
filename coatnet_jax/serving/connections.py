"""Connections: how many, and how long a client may keep one waiting.

uvicorn limits neither how long headers take nor how long an answer is left
unread, and answers some failures itself. This is its protocol with both.
"""

import asyncio
import re
import sys
import time
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol

from coatnet_jax.serving.failures import RETRY_AFTER
from coatnet_jax.serving.limits import Limits
from coatnet_jax.serving.metrics import Metrics
from coatnet_jax.strict_json import to_json

# How long an answer may take to be read by who was refused.
_LINGERING_SECONDS = 1.0
# Who has waited for less is not put out by a newcomer.
_GRACE_SECONDS = 1.0
# What headers end with.
_BLANK_LINE = re.compile(b'\n\r?\n')
_TOO_LONG = 'The headers are too long.'


class LimitedProtocol(H11Protocol):
  """One connection of HTTP/1.1."""

  def __init__(self, *, limits: Limits, metrics: Metrics, **options: Any):
    """Prepares for a connection.

    Args:
      limits: limits of the server.
      metrics: counts of the server.
      **options: further options, those that uvicorn gives.
    """
    super().__init__(**options)
    self._limits = limits
    self._metrics = metrics
    self._is_refused = False
    self._since = 0.0  # When it began to wait for headers; 0 if it does not.
    self._headers_timer: asyncio.TimerHandle | None = None
    self._writing_timer: asyncio.TimerHandle | None = None

  def connection_made(self, transport: asyncio.Transport) -> None:
    """Takes a connection, or refuses it where there are too many."""
    most = self._limits.max_connections
    if len(self.connections) >= 2 * most:
      self.transport = transport
      transport.abort()  # Those that are being refused are limited, too.
      return
    is_full = len(self.connections) >= most
    if is_full and not self._put_somebody_out():
      super().connection_made(transport)
      self._refuse(503, 'There are too many connections; try again.')
      return
    super().connection_made(transport)
    self._wait_for_headers()

  def connection_lost(self, exc: Exception | None) -> None:
    """Forgets a connection."""
    self._stop_waiting()
    self._stop_writing_timer()
    super().connection_lost(exc)

  def data_received(self, data: bytes) -> None:
    """Takes some bytes."""
    if self._is_refused:
      return
    if self._since and not self._has_begun():
      self._wait_for_headers()
    super().data_received(data)

  def eof_received(self) -> bool:
    """Answers a client that sends no more, but may still read."""
    if self._is_refused:
      return False
    cycle = self.cycle
    if cycle is None or cycle.response_complete:
      if not self._has_begun():
        return False  # The connection ends.
      self._refuse(400, 'The headers were cut off.')
    elif cycle.more_body:
      self._refuse(400, 'The body was cut off.')
    else:
      cycle.keep_alive = False
    return True

  def handle_events(self) -> None:
    """Takes what has come, and begins to answer whole headers."""
    if self._has_long_headers():
      self._refuse(431, _TOO_LONG)
      return
    super().handle_events()
    if self.cycle is not None and not self.cycle.response_complete:
      self._stop_waiting()

  def on_response_complete(self) -> None:
    """Waits for the next request."""
    if not self.transport.is_closing():
      self._wait_for_headers(self._limits.idle_seconds)
    super().on_response_complete()

  def shutdown(self) -> None:
    """Ends, or has the answer under way be the last."""
    if self._is_refused:
      self.transport.close()
    else:
      super().shutdown()

  def pause_writing(self) -> None:
    """Gives a client that does not read some time."""
    super().pause_writing()
    self._writing_timer = self.loop.call_later(
      self._limits.writing_seconds, self.transport.abort
    )

  def resume_writing(self) -> None:
    """Goes on, as the client reads."""
    self._stop_writing_timer()
    super().resume_writing()

  def send_400_response(self, msg: str) -> None:
    """Answers what is no HTTP; uvicorn calls it."""
    del msg
    status = getattr(sys.exception(), 'error_status_hint', 400)
    self._refuse(
      status,
      _TOO_LONG if status == 431 else 'The request is not valid HTTP.',
    )

  def _has_begun(self) -> bool:
    """Returns whether a part of a request's headers has come."""
    return bool(self.conn.trailing_data[0])

  def _has_long_headers(self) -> bool:
    """Returns whether the headers that come, whole or not, are too long.

    h11 looks at no more than those that are not whole yet.
    """
    if self.conn.their_state is not h11.IDLE:
      return False
    data, _ = self.conn.trailing_data
    most = self._limits.max_header_bytes
    return len(data) > most and not _BLANK_LINE.search(data, 0, most)

  def _put_somebody_out(self) -> bool:
    """Ends the connection that has waited longest; false if none has."""
    waiting = [one for one in self.connections if one._since]
    longest = min(waiting, key=lambda one: one._since, default=None)
    if longest is None or time.monotonic() - longest._since < _GRACE_SECONDS:
      return False
    longest._refuse(503, 'There are too many connections; try again.')
    longest.transport.abort()
    self.connections.discard(longest)
    return True

  def _wait_for_headers(self, seconds: float | None = None) -> None:
    self._stop_waiting()
    self._since = time.monotonic()
    self._headers_timer = self.loop.call_later(
      seconds or self._limits.headers_seconds, self._end_waiting
    )

  def _stop_waiting(self) -> None:
    self._since = 0.0
    if self._headers_timer is not None:
      self._headers_timer.cancel()
      self._headers_timer = None

  def _stop_writing_timer(self) -> None:
    if self._writing_timer is not None:
      self._writing_timer.cancel()
      self._writing_timer = None

  def _end_waiting(self) -> None:
    """Ends a connection whose headers take too long."""
    self._headers_timer = None
    if self.transport.is_closing():
      return
    if not self._has_begun():
      self.transport.close()
      return
    self._refuse(
      408,
      'The headers came too slowly; they may take'
      f' {self._limits.headers_seconds:g} s.',
    )

  def _refuse(self, status: int, reason: str) -> None:
    """Answers in JSON, if an answer is still possible, and ends.

    Not at once: who is still sending would find the connection broken, and
    never read the answer.
    """
    self._stop_waiting()
    self._is_refused = True
    cycle = self.cycle
    if cycle is not None and not cycle.response_complete:
      # The application has nobody to answer any more.
      cycle.disconnected = True
      cycle.message_event.set()
      if cycle.response_started:
        self.transport.close()
        return
    headers = {
      'content-type': 'application/json',
      'connection': 'close',
      **(RETRY_AFTER if status == 503 else {}),
    }
    body = to_json({'error': reason, 'status': status}).encode()
    headers['content-length'] = str(len(body))
    try:
      for event in (
        h11.Response(
          status_code=status,
          headers=list(headers.items()),
          reason=STATUS_PHRASES[status],
        ),
        h11.Data(data=body),
        h11.EndOfMessage(),
      ):
        self.transport.write(self.conn.send(event))
      self._metrics.count_request('none', 'other', status)
      self.transport.write_eof()
    except h11.LocalProtocolError:  # The connection is past any answer.
      self.transport.close()
    self.loop.call_later(_LINGERING_SECONDS, self.transport.close)
