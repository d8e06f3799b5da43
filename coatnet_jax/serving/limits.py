"""What a client may take of the server, all in one place."""

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
  """What a client may take; see docs/serve.md of a checkout.

  Attributes:
    max_body_bytes: largest body of a request, in bytes.
    max_pixels: largest number of pixels of a picture.
    max_waiting: largest number of pictures that are decoded or wait for the
      model at a time.
    max_connections: largest number of connections that are open at a time.
    max_held_bytes: largest number of bytes that all bodies have together.
    max_header_bytes: largest size of a request's line and headers together, in
      bytes.
    headers_seconds: longest time that a request's headers may take.
    pause_seconds: longest time between two parts of a body.
    body_seconds: longest time that a whole body may take.
    writing_seconds: longest time that a client may leave an answer unread.
    idle_seconds: time that a connection is kept without a request.
    stopping_seconds: longest time that stopping waits for what is under way.
  """

  max_body_bytes: int = 16 << 20
  max_pixels: int = 40_000_000
  max_waiting: int = 64
  max_connections: int = 256
  max_held_bytes: int = 256 << 20
  max_header_bytes: int = 64 << 10
  headers_seconds: float = 10.0
  pause_seconds: float = 5.0
  body_seconds: float = 30.0
  writing_seconds: float = 10.0
  idle_seconds: int = 60
  stopping_seconds: int = 40
