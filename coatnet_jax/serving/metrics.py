"""Counts and durations, as Prometheus reads them."""

from collections.abc import Callable

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_PREFIX = 'coatnet_serve'
_SECONDS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1, 2, 5, 10)
CONTENT_TYPE = prometheus_client.CONTENT_TYPE_LATEST


class Metrics:
  """All that is counted of one server.

  Attributes:
    registry: registry that holds the counts; others are not touched.
  """

  def __init__(self):
    """Counts from nothing."""
    self.registry = CollectorRegistry()
    self._requests = Counter(
      f'{_PREFIX}_requests',
      'Requests that were answered, by path, method and status.',
      ('path', 'method', 'status'),
      registry=self.registry,
    )
    self._seconds = Histogram(
      f'{_PREFIX}_request_seconds',
      'Time from the headers of a request to the end of its answer.',
      ('path',),
      buckets=_SECONDS,
      registry=self.registry,
    )
    self._batches = Histogram(
      f'{_PREFIX}_batch_size',
      'Pictures that went through the model together.',
      buckets=(1, 2, 4, 8, 16, 32, 64),
      registry=self.registry,
    )

  def watch(self, name: str, words: str, read: Callable[[], int]) -> None:
    """Adds a number that is read when somebody asks.

    Args:
      name: name of the number, without the prefix: 'queue'.
      words: sentence on what it is.
      read: function that returns it.
    """
    gauge = Gauge(f'{_PREFIX}_{name}', words, registry=self.registry)
    gauge.set_function(read)

  def count_request(
    self, path: str, method: str, status: int, seconds: float | None = None
  ) -> None:
    """Counts an answer.

    Args:
      path: path of the request, one of a few.
      method: method of the request, one of a few.
      status: HTTP status of the answer.
      seconds: time that it took, in seconds, where that is known.
    """
    self._requests.labels(path, method, str(status)).inc()
    if seconds is not None:
      self._seconds.labels(path).observe(seconds)

  def count_batch(self, size: int) -> None:
    """Counts a batch of some pictures."""
    self._batches.observe(size)

  def format(self) -> bytes:
    """Returns all of it in Prometheus' text format."""
    return prometheus_client.generate_latest(self.registry)
