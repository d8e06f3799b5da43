"""A stand-in of the Hugging Face Hub on this machine, well or not."""

import base64
import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = '0123456789abcdef0123456789abcdef01234567'
_PATH = re.compile(r'/([\w.-]+/[\w.-]+)/resolve/([^/]+)/(.+)')


class StandIn(ThreadingHTTPServer):
  """Answers for one model, which may be pushed to.

  Attributes:
    repository: name of the model, 'OWNER/NAME'.
    content: bytes of its model.safetensors.
    files: bytes of its other files, by name.
    is_there: whether the repository is; pushing makes it.
    is_private: whether it was made private.
    commits: names of the files of each commit.
    uploaded: bytes of large files, by their SHA-256.
    ails: what is wrong with the server: 'error', 'stall', 'cut', 'cut_once',
      'other_content', 'other_size', 'slow', 'gated', 'no_file',
      'unauthorized', 'forbidden', 'upload_error'; '' for nothing.
    asked: method of each request, in order.
    address: URL of it.
  """

  daemon_threads = True
  block_on_close = False

  def __init__(self, repository: str, content: bytes):
    super().__init__(('127.0.0.1', 0), _Answer)
    self.repository = repository
    self.content = content
    self.files: dict[str, bytes] = {}
    self.is_there = True
    self.is_private = False
    self.commits: list[list[str]] = []
    self.uploaded: dict[str, bytes] = {}
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
    elif server.ails == 'other_content' and content is server.content:
      self.wfile.write(b'?' * len(content))
    else:
      self.wfile.write(content)

  def _begin(self) -> bytes | None:
    """Sends the headers; returns the body, or None where there is none."""
    server = self.server
    server.asked.append(self.command)
    if found := re.fullmatch(r'/api/models/([\w.-]+/[\w.-]+)', self.path):
      return self._describe(found[1])
    repository, revision, file = _PATH.fullmatch(self.path).groups()
    if server.ails == 'error':
      return self._refuse(500, '')
    if repository != server.repository or not server.is_there:
      return self._refuse(404, 'RepoNotFound')
    if server.ails == 'gated':
      return self._refuse(403, 'GatedRepo')
    if revision not in ('main', COMMIT):
      return self._refuse(404, 'RevisionNotFound')
    if file in server.files:
      content = server.files[file]
      etag = hashlib.sha1(content).hexdigest()
    elif file != 'model.safetensors' or server.ails == 'no_file':
      return self._refuse(404, 'EntryNotFound')
    else:
      content = server.content
      etag = hashlib.sha256(content).hexdigest()
    size = len(content) + 7 * (server.ails == 'other_size')
    self.send_response(200)
    self.send_header('X-Repo-Commit', COMMIT)
    self.send_header('ETag', f'"{etag}"')
    self.send_header('X-Linked-Size', str(size))
    self.send_header('X-Linked-Etag', f'"{etag}"')
    self.send_header('Content-Length', str(len(content)))
    if self.command == 'GET':  # Or the client may ask again where it ended.
      self.send_header('Connection', 'close')
    self.end_headers()
    return content

  def _describe(self, repository: str) -> None:
    server = self.server
    if server.ails == 'error':
      return self._refuse(500, '')
    if repository != server.repository or not server.is_there:
      return self._refuse(404, 'RepoNotFound')
    names = [*server.files, *(['model.safetensors'] if server.content else [])]
    return self._answer(
      {
        'id': repository,
        'private': server.is_private,
        'sha': COMMIT,
        'siblings': [{'rfilename': name} for name in names],
      }
    )

  def do_POST(self) -> None:
    server = self.server
    server.asked.append(f'POST {self.path}')
    body = self._read()
    if server.ails == 'unauthorized':
      return self._refuse(401, '')
    if server.ails == 'forbidden':
      return self._refuse(403, '')
    if self.path == '/api/repos/create':
      described = json.loads(body)
      server.is_there = True
      server.is_private = described.get('visibility') == 'private'
      return self._answer({'url': f'{server.address}/{server.repository}'})
    if self.path == '/api/validate-yaml':
      return self._answer({'warnings': [], 'errors': []})
    if '/preupload/' in self.path:
      modes = [
        {
          'path': file['path'],
          'uploadMode': 'lfs' if file['size'] > 100_000 else 'regular',
          'shouldIgnore': False,
        }
        for file in json.loads(body)['files']
      ]
      return self._answer({'files': modes})
    if self.path.endswith('/info/lfs/objects/batch'):
      objects = [
        {
          **one,
          'actions': {
            'upload': {'href': f'{server.address}/upload/{one["oid"]}'}
          },
        }
        for one in json.loads(body)['objects']
      ]
      return self._answer({'transfer': 'basic', 'objects': objects})
    return self._commit([json.loads(line) for line in body.splitlines()])

  def _commit(self, operations: list[dict]) -> None:
    server = self.server
    names = []
    for operation in operations:
      value = operation['value']
      if operation['key'] == 'file':
        server.files[value['path']] = base64.b64decode(value['content'])
      elif operation['key'] == 'lfsFile':
        server.content = server.uploaded[value['oid']]
      else:
        continue
      names.append(value['path'])
    server.commits.append(names)
    url = f'{server.address}/{server.repository}/commit/{COMMIT}'
    self._answer({'commitUrl': url, 'commitOid': COMMIT})

  def do_PUT(self) -> None:
    server = self.server
    server.asked.append('PUT')
    body = self._read()
    if server.ails == 'upload_error':
      return self._refuse(400, '')
    server.uploaded[self.path.rpartition('/')[2]] = body
    return self._refuse(200, '')

  def _read(self) -> bytes:
    if self.headers.get('Transfer-Encoding') != 'chunked':
      return self.rfile.read(int(self.headers.get('Content-Length', 0)))
    body = b''
    while size := int(self.rfile.readline(), 16):
      body += self.rfile.read(size)
      self.rfile.readline()
    self.rfile.readline()
    return body

  def _answer(self, described: dict) -> None:
    content = json.dumps(described).encode()
    self.send_response(200)
    self.send_header('Content-Type', 'application/json')
    self.send_header('Content-Length', str(len(content)))
    self.end_headers()
    self.wfile.write(content)

  def _refuse(self, status: int, code: str) -> None:
    self.send_response(status)
    if code:
      self.send_header('X-Error-Code', code)
    self.send_header('X-Repo-Commit', COMMIT)
    self.send_header('Content-Length', '0')
    self.end_headers()

  def log_message(self, *_) -> None:
    """Says nothing."""
