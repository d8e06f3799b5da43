"""A stand-in of the Hugging Face Hub on this machine, well or not."""

import contextlib
import hashlib
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = '0123456789abcdef0123456789abcdef01234567'
_PATH = re.compile(r'/([\w.-]+/[\w.-]+)/resolve/([^/]+)/(.+)')


class StandIn(ThreadingHTTPServer):
  """Answers for one model of one file.

  Attributes:
    repository: name of the model, 'OWNER/NAME'.
    content: bytes of its model.safetensors.
    ails: what is wrong with the server: 'error', 'stall', 'cut', 'cut_once',
      'other_content', 'other_size', 'slow', 'gated', 'no_file'; '' for nothing.
    asked: method of each request, in order.
    address: URL of it.
  """

  daemon_threads = True
  block_on_close = False

  def __init__(self, repository: str, content: bytes):
    super().__init__(('127.0.0.1', 0), _Answer)
    self.repository = repository
    self.content = content
    self.ails = ''
    self.asked: list[str] = []
    self.address = f'http://127.0.0.1:{self.server_port}'
    self.ended = threading.Event()


@contextlib.contextmanager
def serve(repository: str, content: bytes) -> Iterator[StandIn]:
  """Serves a model until the context ends."""
  server = StandIn(repository, content)
  thread = threading.Thread(target=server.serve_forever, args=(0.01,))
  thread.start()
  try:
    yield server
  finally:
    server.ended.set()
    server.shutdown()
    server.server_close()
    thread.join()


class _Answer(BaseHTTPRequestHandler):
  """One request, answered as the server's state says."""

  server: StandIn
  protocol_version = 'HTTP/1.1'

  def do_HEAD(self) -> None:
    self._begin()

  def do_GET(self) -> None:
    server = self.server
    content = self._begin()
    if content is None:
      return
    if server.ails == 'stall':
      server.ended.wait(30)
    elif server.ails in ('cut', 'cut_once'):
      server.ails = 'error' if server.ails == 'cut' else ''
      self.wfile.write(content[: len(content) // 2])
    elif server.ails == 'slow':
      for start in range(0, len(content), -(-len(content) // 5)):
        self.wfile.write(content[start : start + -(-len(content) // 5)])
        self.wfile.flush()
        server.ended.wait(0.05)
    elif server.ails == 'other_content':
      self.wfile.write(b'?' * len(content))
    else:
      self.wfile.write(content)

  def _begin(self) -> bytes | None:
    """Sends the headers; returns the body, or None where there is none."""
    server = self.server
    server.asked.append(self.command)
    repository, revision, file = _PATH.fullmatch(self.path).groups()
    if server.ails == 'error':
      return self._refuse(500, '')
    if repository != server.repository:
      return self._refuse(404, 'RepoNotFound')
    if server.ails == 'gated':
      return self._refuse(403, 'GatedRepo')
    if revision not in ('main', COMMIT):
      return self._refuse(404, 'RevisionNotFound')
    if file != 'model.safetensors' or server.ails == 'no_file':
      return self._refuse(404, 'EntryNotFound')
    content = server.content
    size = len(content) + 7 * (server.ails == 'other_size')
    self.send_response(200)
    self.send_header('X-Repo-Commit', COMMIT)
    self.send_header('ETag', f'"{COMMIT}"')
    self.send_header('X-Linked-Size', str(size))
    digest = hashlib.sha256(content).hexdigest()
    self.send_header('X-Linked-Etag', f'"{digest}"')
    self.send_header('Content-Length', str(len(content)))
    if self.command == 'GET':  # Or the client may ask again where it ended.
      self.send_header('Connection', 'close')
    self.end_headers()
    return content

  def _refuse(self, status: int, code: str) -> None:
    self.send_response(status)
    if code:
      self.send_header('X-Error-Code', code)
    self.send_header('X-Repo-Commit', COMMIT)
    self.send_header('Content-Length', '0')
    self.end_headers()

  def log_message(self, *_) -> None:
    """Says nothing."""
