"""Open-loop load on a server: requests at their times, whoever is answered.

    python -m tools.serve --checkpoint=WORKDIR
    python -m benchmarks.serving_load --rate=20 --seconds=60 IMAGE...

In a process of its own, beside a server under way. Requests begin when a
Poisson process says, and not when others are answered; a latency counts from
that time, so that what a slow answer delays is in it. Prints p50, p95 and p99,
what was not answered with 200, how late the generator itself was, and the load
of the machine.
"""

import argparse
import concurrent.futures
import contextlib
import http.client
import os
import pathlib
import random
import threading
import time
from urllib.parse import urlsplit

from coatnet_jax import arguments
from coatnet_jax.strict_json import to_json

_TIMEOUT_SECONDS = 30.0
# Requests under way, at most: far more than a server in order has.
_NUM_THREADS = 64


def create_parser() -> argparse.ArgumentParser:
  """Returns the parser of the command line."""
  parser = arguments.create_parser('python -m benchmarks.serving_load', __doc__)
  parser.add_argument(
    'images', nargs='+', metavar='IMAGE', help='pictures, sent in turn'
  )
  parser.add_argument(
    '--url',
    default='http://127.0.0.1:8000/predict',
    metavar='URL',
    help='where to send them (http://127.0.0.1:8000/predict)',
  )
  for name, default, what in (
    ('--rate', 20.0, 'requests in a second'),
    ('--seconds', 60.0, 'time to send requests for'),
  ):
    text = f'{what} ({default:g})'
    arguments.add_number(parser, name, float, default=default, help=text)
  parser.add_argument(
    '--json', action='store_true', help='print JSON, and nothing else'
  )
  return parser


class Client:
  """Sends pictures, by a connection for each thread that is kept."""

  def __init__(self, url: str, pictures: list[bytes]):
    """Connects to nothing yet.

    Args:
      url: URL of the endpoint that pictures are sent to.
      pictures: contents of image files, JPEG or another format that the server
        takes; they are sent in turn.
    """
    parts = urlsplit(url)
    self._host, self._port = parts.hostname, parts.port
    self._path = f'{parts.path}?{parts.query}' if parts.query else parts.path
    self._pictures = pictures
    self._local = threading.local()

  def ask(self, number: int, due: float) -> tuple[int, float, float]:
    """Sends one request.

    Args:
      number: place of the request among all, from 0, which decides the picture
        that is sent.
      due: time at which the request is to begin, by `time.monotonic`.

    Returns:
      The status, 0 where nothing was answered; the seconds from `due` to the
      end of the answer; and those by which it began too late.
    """
    late = time.monotonic() - due
    status = 0
    picture = self._pictures[number % len(self._pictures)]
    with contextlib.suppress(OSError, http.client.HTTPException):
      try:
        status = self._send(picture)
      except http.client.RemoteDisconnected:
        # One that was kept may have been closed meanwhile, as by any server.
        status = self._send(picture)
    return status, time.monotonic() - due, late

  def _send(self, picture: bytes) -> int:
    connection = getattr(self._local, 'connection', None)
    if connection is None:
      connection = http.client.HTTPConnection(
        self._host, self._port, timeout=_TIMEOUT_SECONDS
      )
    self._local.connection = None
    connection.request(
      'POST',
      self._path,
      picture,
      {'Content-Type': 'application/octet-stream'},
    )
    response = connection.getresponse()
    response.read()
    self._local.connection = connection
    return response.status


def run(client: Client, rate: float, seconds: float) -> dict:
  """Sends requests and returns what came of them, as JSON has it.

  Args:
    client: client that sends the requests.
    rate: mean number of requests in a second; they begin at random times.
    seconds: length of the time in which requests begin, in seconds.
  """
  draws = random.Random(0)
  threads = concurrent.futures.ThreadPoolExecutor(_NUM_THREADS)
  begun, due, futures = time.monotonic(), 0.0, []
  while (due := due + draws.expovariate(rate)) < seconds:
    time.sleep(max(0.0, begun + due - time.monotonic()))
    futures.append(threads.submit(client.ask, len(futures), begun + due))
  results = [future.result() for future in futures]
  latencies = sorted(latency for _, latency, _ in results)
  statuses = [status for status, *_ in results]
  return {
    'requests': len(results),
    'not_200': sum(status != 200 for status in statuses),
    'statuses': {str(s): statuses.count(s) for s in sorted(set(statuses))},
    'rate': len(results) / seconds,
    **{
      f'p{part:g}_ms': 1000 * find_quantile(latencies, part / 100)
      for part in (50, 95, 99, 100)
    },
    'late_p99_ms': 1000 * find_quantile(sorted(r[2] for r in results), 0.99),
    'load_average': os.getloadavg()[0],
    'cpus': len(os.sched_getaffinity(0)),
  }


def find_quantile(values: list[float], part: float) -> float:
  """Returns the value below which a part of some values are.

  >>> find_quantile([1.0, 2.0, 3.0, 4.0], 0.5), find_quantile([1.0], 0.99)
  (2.0, 1.0)

  Args:
    values: values in ascending order, at least one.
    part: part of the numbers that lie below the quantile, 0 to 1.
  """
  return values[max(0, -int(-len(values) * part // 1) - 1)]


def main(arguments_: list[str] | None = None) -> int:
  """Runs the command line.

  Returns:
    The exit status: 1 where a request was not answered with 200.
  """
  options = create_parser().parse_args(arguments_)
  pictures = [pathlib.Path(name).read_bytes() for name in options.images]
  client = Client(options.url, pictures)
  client.ask(0, time.monotonic())
  found = run(client, options.rate, options.seconds)
  if options.json:
    print(to_json(found))
  else:
    print(
      f'{found["requests"]:,} requests, {found["rate"]:.1f} a second;'
      f' {found["not_200"]} not answered with 200 {found["statuses"]}\n'
      f'p50 {found["p50_ms"]:.1f} ms, p95 {found["p95_ms"]:.1f} ms, p99'
      f' {found["p99_ms"]:.1f} ms, longest {found["p100_ms"]:.1f} ms\n'
      f'the generator itself was late by {found["late_p99_ms"]:.1f} ms (p99);'
      f' load average {found["load_average"]:.1f} on {found["cpus"]} CPUs'
    )
  return 1 if found['not_200'] else 0


if __name__ == '__main__':
  raise SystemExit(main())
