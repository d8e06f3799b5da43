"""The one exception for what a client got wrong, or has to ask for later."""

from collections.abc import Mapping


class RequestError(Exception):
  """A request that gets no prediction; the message says why, in a sentence.

  Attributes:
    status: HTTP status of the answer, 400 to 599.
    headers: headers of the answer, by name.
  """

  def __init__(
    self, status: int, reason: str, headers: Mapping[str, str] | None = None
  ):
    """Describes an answer.

    Args:
      status: HTTP status of the answer, 400 to 599.
      reason: sentence for the client, with nothing of this machine in it.
      headers: further headers of the answer, by name.
    """
    super().__init__(reason)
    self.status = status
    self.headers = dict(headers or {})


# When to ask again, in seconds, where there is too much to do.
RETRY_AFTER = {'Retry-After': '1'}
