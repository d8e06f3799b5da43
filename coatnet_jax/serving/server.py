"""The socket and the signals, from start to stop.

Asked to stop (SIGTERM, Ctrl-C), it takes no new requests, answers those under
way and ends with status 0; a second signal ends it at once. `stopping.py` is
for runs, which have something to save.
"""

import asyncio
import contextlib
import errno
import functools
import gc
import ipaddress
import logging
import signal
import socket
from collections.abc import Callable, Collection

import uvicorn

from coatnet_jax import stopping, terminal
from coatnet_jax.errors import UserError, find_reason
from coatnet_jax.serving.application import create_application
from coatnet_jax.serving.connections import LimitedProtocol
from coatnet_jax.serving.limits import Limits
from coatnet_jax.serving.metrics import Metrics
from coatnet_jax.serving.served_model import ServedModel
from coatnet_jax.serving.service import Service

# Exit status of what was ended by a second signal.
_CUT_OFF = 1
# Connections that the system keeps until they are taken.
_BACKLOG = 1024


class Server(uvicorn.Server):
  """uvicorn's server; the signals are ours."""

  def __init__(
    self,
    model: ServedModel,
    *,
    limits: Limits,
    allowed_hosts: Collection[str] = (),
  ):
    """Prepares for `serve`.

    Args:
      model: model whose programs are compiled.
      limits: limits of the server.
      allowed_hosts: names that the server may be called by, beside localhost
        and addresses.
    """
    metrics = Metrics()
    service = Service(model, limits, metrics)
    config = uvicorn.Config(
      create_application(service, metrics, allowed_hosts),
      http=functools.partial(LimitedProtocol, limits=limits, metrics=metrics),
      loop='asyncio',
      ws='none',
      lifespan='on',
      log_config=None,
      access_log=False,
      server_header=False,
      # What stands in X-Forwarded-For is believed of nobody.
      proxy_headers=False,
      h11_max_incomplete_event_size=limits.max_header_bytes,
      timeout_keep_alive=limits.idle_seconds,
      timeout_graceful_shutdown=limits.stopping_seconds,
    )
    # Requests that are no HTTP are counted, and not worth a line each.
    logging.getLogger('uvicorn.error').setLevel(logging.ERROR)
    super().__init__(config)
    metrics.watch(
      'connections',
      'Connections that are open.',
      lambda: len(self.server_state.connections),
    )

  def capture_signals(self) -> contextlib.AbstractContextManager[None]:
    """Leaves the signals to `run_server`: uvicorn would end by them."""
    return contextlib.nullcontext()


def run_server(
  create_model: Callable[[], ServedModel],
  taken: socket.socket,
  *,
  limits: Limits,
  allowed_hosts: Collection[str] = (),
  say: Callable[[str], None],
) -> None:
  """Reads and compiles a model, and answers until it is asked to stop.

  Args:
    create_model: function that returns the model; it is called in a thread, so
      that signals are heard meanwhile.
    taken: socket that is listened on, from `bind`.
    limits: limits of the server.
    allowed_hosts: names that the server may be called by, beside localhost and
      addresses.
    say: function that tells a person a sentence.

  Raises:
    UserError: the model cannot be used.
  """
  with taken:
    asyncio.run(_run(create_model, taken, limits, allowed_hosts, say))


async def _run(create_model, taken, limits, allowed_hosts, say):
  loop = asyncio.get_running_loop()
  server = None

  def stop(number: signal.Signals) -> None:
    if server is None:
      say(f'Stopped ({number.name}) before it was ready.')
      stopping.end(0)
    if server.should_exit:
      say(f'Asked a second time ({number.name}), it ends at once.')
      stopping.end(_CUT_OFF)
    say(
      f'Stopping ({number.name}), when all requests under way are answered; a'
      ' second signal ends it at once.'
    )
    server.should_exit = True

  for number in stopping.SIGNALS:
    loop.add_signal_handler(number, stop, number)
  model = await asyncio.to_thread(create_model)
  server = Server(model, limits=limits, allowed_hosts=allowed_hosts)
  # What is there by now stays, and need not be looked through again and again.
  gc.collect()
  gc.freeze()
  terminal.begin('')
  say(f'Ready: {format_url(taken)}')
  await server.serve(sockets=[taken])


def bind(host: str, port: int) -> socket.socket:
  """Takes a port; who connects waits until `run_server` is ready.

  Args:
    host: address or name of this machine to listen on.
    port: number of the port; any that is free if 0.

  Raises:
    UserError: the port is occupied or not allowed, or there is no such address.
  """
  try:
    (family, _, _, _, address), *_ = socket.getaddrinfo(
      host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    taken = socket.create_server(address, family=family, backlog=_BACKLOG)
  except OSError as error:
    raise UserError(_explain_address(host, port, error)) from error
  taken.setblocking(False)
  # Or an answer's content waits 40 ms for its headers to be acknowledged.
  taken.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
  return taken


def _explain_address(host: str, port: int, error: OSError) -> str:
  if error.errno == errno.EADDRINUSE:
    return (
      f'Port {port} of {host} is occupied by another program; stop that, or'
      ' give another by --port (0 for any that is free).'
    )
  if error.errno in (errno.EACCES, errno.EPERM):
    return (
      f'Port {port} of {host} is not allowed to this user; give one above 1023'
      ' by --port.'
    )
  return (
    f'--host is {host!r}, on which this machine cannot listen'
    f' ({find_reason(error)}); give one of its addresses, 127.0.0.1 for'
    ' itself alone.'
  )


def is_loopback(host: str) -> bool:
  """Returns whether a host is this machine itself, seen from itself.

  >>> is_loopback('127.0.0.1'), is_loopback('::1'), is_loopback('0.0.0.0')
  (True, True, False)

  Args:
    host: address or name to listen on.
  """
  try:
    return ipaddress.ip_address(host).is_loopback
  except ValueError:
    return host.lower() == 'localhost'


def format_url(taken: socket.socket) -> str:
  """Returns where a socket can be reached, 'http://127.0.0.1:8000'."""
  host, port, *_ = taken.getsockname()
  return f'http://{f"[{host}]" if ":" in host else host}:{port}'
