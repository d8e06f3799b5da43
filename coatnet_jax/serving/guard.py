"""What is asked of every request, and said in every answer.

A page of somebody else's, open in a browser on this machine, can send requests
here. It gets no answer to read: there is no CORS. By DNS rebinding it could
become of the same origin: its own name would stand in Host, so a name that was
not allowed is refused. What browsers send for other pages is refused as well.
"""

import ipaddress
import time
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from coatnet_jax.serving.answers import IS_READ, answer_failure
from coatnet_jax.serving.failures import RequestError
from coatnet_jax.serving.metrics import Metrics

_METHODS = ('GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'OPTIONS', 'PATCH')
_HEADERS = {
  'Content-Security-Policy': (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'"
    " data:; connect-src 'self'; form-action 'self'; base-uri 'none';"
    " frame-ancestors 'none'"
  ),
  'X-Content-Type-Options': 'nosniff',
  # With 'no-referrer' browsers would say that a form comes from nowhere.
  'Referrer-Policy': 'same-origin',
  'Cross-Origin-Resource-Policy': 'same-origin',
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Cache-Control': 'no-store',
}


class Guard:
  """ASGI middleware around the whole application."""

  def __init__(
    self,
    app: ASGIApp,
    *,
    metrics: Metrics,
    paths: Collection[str],
    allowed_hosts: Collection[str],
  ):
    """Wraps an application.

    Args:
      app: application that answers.
      metrics: counts of the server.
      paths: paths that are counted by name; others are 'other'.
      allowed_hosts: names that may stand in Host, in lower case, beside
        localhost and addresses.
    """
    self._app = app
    self._metrics = metrics
    self._paths = paths
    self._allowed_hosts = frozenset(allowed_hosts) | {'localhost'}

  async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
    """Answers a request, or passes it on."""
    if scope['type'] != 'http':
      await self._app(scope, receive, send)
      return
    start, status = time.monotonic(), 500

    async def receive_guarded() -> Message:
      message = await receive()
      scope[IS_READ] = not message.get('more_body')
      return message

    async def send_guarded(message: Message) -> None:
      nonlocal status
      if message['type'] == 'http.response.start':
        status = message['status']
        headers = MutableHeaders(scope=message)
        for name, value in _HEADERS.items():
          headers.setdefault(name, value)
      await send(message)

    try:
      if error := self._check(Headers(scope=scope)):
        await answer_failure(error)(scope, receive_guarded, send_guarded)
      else:
        await self._app(scope, receive_guarded, send_guarded)
    finally:
      path, method = scope['path'], scope['method']
      self._metrics.count_request(
        path if path in self._paths else 'other',
        method if method in _METHODS else 'other',
        status,
        time.monotonic() - start,
      )

  def _check(self, headers: Headers) -> RequestError | None:
    """Returns why a request is refused by its headers; None if it is not."""
    host = headers.get('host', '')
    if len(headers.getlist('host')) != 1 or not self._is_allowed(host):
      return RequestError(
        421,
        'The Host header is neither an address, nor localhost, nor a name that'
        ' this server was started with (--allow_host).',
      )
    origin = headers.get('origin')
    is_other = origin is not None and urlsplit_host(origin) != host.lower()
    if is_other or headers.get('sec-fetch-site') == 'cross-site':
      return RequestError(403, 'Requests of other pages are not answered.')
    return None

  def _is_allowed(self, host: str) -> bool:
    """Returns whether a Host header may be that of this server."""
    try:
      name = urlsplit(f'//{host}').hostname or ''
    except ValueError:
      return False
    if name in self._allowed_hosts:
      return True
    try:
      ipaddress.ip_address(name)
    except ValueError:
      return False
    return True


def urlsplit_host(origin: str) -> str:
  """Returns host and port of an origin; '' of what is none.

  >>> urlsplit_host('http://localhost:8000'), urlsplit_host('null')
  ('localhost:8000', '')

  Args:
    origin: header of that name.
  """
  try:
    return urlsplit(origin).netloc.lower()
  except ValueError:
    return ''
