"""Sends a server what it should refuse, and sees that it bears it.

    python -m tests.serving.attack --checkpoint=WORKDIR --requests=10000

Starts tools.serve for the checkpoint on a free port, and sends it malformed,
oversized, cut off and wrong-typed requests, several at a time. Every answer has
to be a 4xx (a 503 where a limit of number is reached is tried again) with a
reason in JSON that names nothing of the machine; a good picture in between has
to be answered; and the server's memory has to stay as it was after the first
tenth, to 5 %.
"""

import argparse
import collections
import concurrent.futures
import json
import os
import pathlib
import random
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from typing import TextIO

import cv2
import numpy as np

_BOUNDARY = b'b0undary'
_NUM_THREADS = 4
# Longer than all that the server waits for.
_TIMEOUT_SECONDS = 45.0
_LEAKS = re.compile(r'0x[0-9a-f]{6}|Traceback|\.py\b|/\w+/\w|File "')
_MAX_GROWTH = 0.05


def _create_seeds() -> list[bytes]:
  pixels = np.random.default_rng(0).integers(0, 256, (64, 80, 3), np.uint8)
  return [
    cv2.imencode(suffix, pixels)[1].tobytes()
    for suffix in ('.jpg', '.png', '.webp', '.bmp', '.tiff')
  ]


def _create_bomb(width: int, height: int) -> bytes:
  """Returns a PNG of few bytes and many pixels."""

  def chunk(name: bytes, data: bytes) -> bytes:
    crc = zlib.crc32(name + data)
    return struct.pack('>I', len(data)) + name + data + struct.pack('>I', crc)

  rows = zlib.compress(bytes(4 << 20), 9)
  header = struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
  start = b'\x89PNG\r\n\x1a\n'
  return start + chunk(b'IHDR', header) + chunk(b'IDAT', rows)


_SEEDS = _create_seeds()
_BOMBS = [_create_bomb(50_000, 20_000), _create_bomb(7000, 7200)]


def _head(length: int | str | None, kind: str = 'image/png', more='') -> bytes:
  lines = ['POST /predict HTTP/1.1', 'Host: localhost', f'Content-Type: {kind}']
  if length is not None:
    lines.append(f'Content-Length: {length}')
  return '\r\n'.join([*lines, *filter(None, [more]), '', '']).encode()


def _send_body(body: bytes, kind: str = 'image/png') -> bytes:
  return _head(len(body), kind) + body


def _send_form(body: bytes) -> bytes:
  return _send_body(body, f'multipart/form-data; boundary={_BOUNDARY.decode()}')


def _form(data: bytes, disposition: bytes = b'name="f"; filename="f"') -> bytes:
  return (
    b'--%s\r\nContent-Disposition: form-data; %s\r\n\r\n%s\r\n--%s--\r\n'
    % (_BOUNDARY, disposition, data, _BOUNDARY)
  )


def _damage(draws: random.Random) -> bytes:
  """Returns a picture that is cut off within its header, or is another's."""
  seed = draws.choice(_SEEDS)
  cut = draws.randrange(1, min(30, len(seed)))
  return seed[:cut] + draws.randbytes(draws.randrange(0, 40))


def create_request(draws: random.Random) -> bytes:
  """Returns the bytes of a request that has to be refused."""
  seed = draws.choice(_SEEDS)
  noise = draws.randbytes(draws.randrange(1, 3000))
  return draws.choice(
    (
      lambda: _send_body(b'\xff\xfe' + noise),
      lambda: _send_body(_damage(draws)),
      lambda: _send_body(_SEEDS[1][: -draws.randrange(20, 8000)]),
      lambda: _send_body(draws.choice(_BOMBS)),
      lambda: _send_body(b'<html>' + noise),
      lambda: _send_body(b''),
      lambda: (
        _send_body(bytes(17 << 20)) if draws.random() < 0.02 else b'x\n\n'
      ),
      lambda: _send_body(seed, draws.choice(('text/html', '', 'a/b;;;', '='))),
      lambda: _send_form(noise),
      lambda: _send_form(_form(seed)[: -draws.randrange(5, 300)]),
      lambda: _send_form(_form(_damage(draws))),
      lambda: _send_form(_form(seed, b'name="f"')),
      lambda: _send_form(_form(seed, b'x')),
      lambda: _send_form(_form(b'') * draws.randrange(1, 200)),
      lambda: _send_body(seed, 'multipart/form-data; boundary='),
      lambda: _head(10**12) + seed,
      lambda: _head(draws.choice(('-1', '1e9', '9' * 30, '1, 2', '+5', '٣'))),
      lambda: _head(None, more='Transfer-Encoding: chunked') + noise,
      lambda: _head(len(seed), more='Content-Encoding: gzip') + seed,
      lambda: _head(len(seed), more='Origin: http://other.example') + seed,
      lambda: _head(len(seed)).replace(b'localhost', b'other.example') + seed,
      lambda: _head(len(seed)).replace(b'/predict', b'/predict?map=x') + seed,
      lambda: _head(0).replace(b'POST', b'DELETE'),
      lambda: _head(0).replace(b'/predict', b'/../../etc/passwd'),
      lambda: b'GET /' + b'a' * draws.randrange(70_000, 90_000),
      lambda: b'\x16\x03\x01' + noise + b'\r\n\r\n',
      lambda: noise + b'\r\n\r\n',
    )
  )()


def ask(port: int, request: bytes) -> tuple[int, bytes]:
  """Returns status and body of the first answer; status 0 for none."""
  data = b''
  with socket.create_connection(
    ('127.0.0.1', port), timeout=_TIMEOUT_SECONDS
  ) as raw:
    try:
      raw.sendall(request)
      raw.shutdown(socket.SHUT_WR)
    except OSError:
      pass  # It has answered and closed already.
    try:
      while part := raw.recv(1 << 16):
        data += part
    except (ConnectionResetError, TimeoutError):
      pass
  head, _, rest = data.partition(b'\r\n\r\n')
  found = re.match(rb'HTTP/1.1 (\d{3}) ', head)
  if not found:
    return 0, data
  length = re.search(rb'(?i)content-length: (\d+)', head)
  return int(found[1]), rest[: int(length[1]) if length else None]


def judge(status: int, body: bytes) -> str:
  """Returns what is wrong with an answer, or ''."""
  if not 400 <= status < 500:
    return f'status {status}'
  try:
    reason = json.loads(body)['error']
  except (ValueError, KeyError, TypeError):
    return f'status {status} without a reason: {body[:80]!r}'
  return f'leaks: {reason}' if _LEAKS.search(reason) else ''


def read_resident(pid: int) -> int:
  """Returns the resident memory of a process, in bytes."""
  text = pathlib.Path(f'/proc/{pid}/status').read_text()
  return int(re.search(r'VmRSS:\s+(\d+)', text)[1]) << 10


def attack(port: int, pid: int, number: int, seed: int) -> dict:
  """Sends requests; returns what came of them.

  Args:
    port: port of the server.
    pid: process of the server.
    number: number of requests.
    seed: seed of the requests.
  """
  statuses, problems, resident = collections.Counter(), [], []

  def send(index: int) -> None:
    request = create_request(random.Random(f'{seed} {index}'))
    status, body = ask(port, request)
    for _ in range(50):
      if status != 503:
        break
      time.sleep(0.1)
      status, body = ask(port, request)
    statuses[status] += 1
    if problem := judge(status, body):
      problems.append(f'request {index}: {problem}; {request[:60]!r}')

  parts = 10
  with concurrent.futures.ThreadPoolExecutor(_NUM_THREADS) as threads:
    for part in range(parts):
      indices = range(number * part // parts, number * (part + 1) // parts)
      list(threads.map(send, indices))
      status, _ = ask(port, _send_body(_SEEDS[0], 'image/jpeg'))
      if status != 200:
        problems.append(f'a good picture: status {status}')
      resident.append(read_resident(pid))
  return {
    'statuses': dict(statuses),
    'problems': problems,
    'resident_mib': [round(r / 2**20, 1) for r in resident],
    'growth': max(resident[1:]) / resident[0] - 1,
  }


def _wait_until_ready(process: subprocess.Popen, log: TextIO) -> int:
  """Returns the port of a server, once it says it."""
  while process.poll() is None:
    if found := re.search(r'Ready: .*:(\d+)\n', _read(log)):
      return int(found[1])
    time.sleep(0.2)
  raise SystemExit(f'The server ended: {_read(log)}')


def _read(log: TextIO) -> str:
  # Not by its position, which the server writes at.
  return os.pread(log.fileno(), 1 << 20, 0).decode(errors='replace')


def main() -> int:
  """Runs the command line; returns 1 where something is wrong."""
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('--checkpoint', required=True, metavar='DIR')
  parser.add_argument('--requests', type=int, default=10_000, metavar='N')
  parser.add_argument('--seed', type=int, default=0, metavar='N')
  options = parser.parse_args()
  command = [sys.executable, '-m', 'tools.serve', '--port=0']
  command.append(f'--checkpoint={options.checkpoint}')
  with tempfile.TemporaryFile('w+') as log:
    process = subprocess.Popen(command, stderr=log)
    try:
      port = _wait_until_ready(process, log)
      start = time.monotonic()
      result = attack(port, process.pid, options.requests, options.seed)
    finally:
      process.send_signal(signal.SIGTERM)
      process.wait(60)
    said = _read(log).partition('Ready')[2]
  print('\n'.join(result['problems'][:20]))
  print(f'{options.requests:,} in {time.monotonic() - start:.0f} s')
  print(f'statuses {result["statuses"]}, end {process.returncode}')
  print(f'resident {result["resident_mib"]} MiB: {result["growth"]:+.1%}')
  print(f'its log: {len(said):,} characters: {said.strip()[:2000]}')
  is_bad = (
    result['problems'] or 'Traceback' in said or result['growth'] > _MAX_GROWTH
  )
  return 1 if is_bad or process.returncode else 0


if __name__ == '__main__':
  raise SystemExit(main())
