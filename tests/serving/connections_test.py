"""Clients that are slow, many, or speak no HTTP; and the end."""

import contextlib
import re
import socket
import threading
import time

import pytest

from coatnet_jax.serving import server
from coatnet_jax.serving.limits import Limits
from tests.serving.running import (
  ask_at_once,
  create_picture,
  read_all,
  split_answer,
  start,
)

PICTURE = create_picture()
QUICK = Limits(
  max_body_bytes=200_000,
  max_waiting=2,
  max_connections=8,
  headers_seconds=0.6,
  pause_seconds=0.5,
  body_seconds=0.9,
  idle_seconds=1,
)
HEAD = (
  'POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n'
)


@pytest.fixture(scope='module')
def running():
  with start(QUICK) as one:
    yield one


def _create_request(length, body):
  return f'{HEAD}Content-Length: {length}\r\n\r\n'.encode() + body


@pytest.mark.parametrize(
  ('data', 'status'),
  [
    (b'\x16\x03\x01 no HTTP\r\n\r\n', 400),
    (b'GET / HTTP/1.1\r\nHost: a\r\nbroken\r\n\r\n', 400),
    (f'{HEAD}Content-Length: -1\r\n\r\n'.encode(), 400),
    (f'{HEAD}Content-Length: 1\r\nContent-Length: 2\r\n\r\n'.encode(), 400),
    (f'{HEAD}Transfer-Encoding: chunked\r\n\r\nxyz\r\n'.encode(), 400),
    (b'GET / HTTP/1.1\r\nHost: a\r\nX: ' + b'x' * 100_000, 431),
    (_create_request(10**30, b''), 400),
    (_create_request(10**9, b''), 413),
    # Longer than what comes, and shorter.
    (_create_request(len(PICTURE) + 1, PICTURE), 408),
    (_create_request(20, PICTURE), 422),
  ],
)
def test_what_is_no_request_gets_a_reason(running, data, status):
  found, content = split_answer(_first_answer(running.send(data)))
  assert (found, content['status']) == (status, status)


@pytest.mark.parametrize('pauses', [False, True], ids=['at_once', 'in_parts'])
@pytest.mark.parametrize('is_second', [False, True], ids=['first', 'second'])
def test_headers_are_limited_to_the_byte(running, pauses, is_second):
  head = b'GET /health HTTP/1.1\r\nHost: localhost\r\n'
  ending = b'\r\nConnection: close\r\n\r\n'
  room = QUICK.max_header_bytes - len(head + b'X: ' + ending)
  for excess, status in ((0, 200), (1, 431), (34_000, 431)):
    data = head + b'X: ' + b'x' * (room + excess) + ending
    with running.connect() as raw:
      if is_second:
        raw.sendall(head + b'\r\n')
      half = len(data) // 2 if pauses else 0
      raw.sendall(data[:half])
      time.sleep(0.05 if pauses else 0)
      raw.sendall(data[half:])
      answers = read_all(raw)
    found = re.findall(rb'HTTP/1\.1 (\d+) ', answers)
    assert found == [b'200'] * is_second + [f'{status}'.encode()]


def _first_answer(data):
  """Returns the first of several answers."""
  head, _, rest = data.partition(b'\r\n\r\n')
  length = int(head.lower().partition(b'content-length: ')[2].split()[0])
  return head + b'\r\n\r\n' + rest[:length]


def test_an_answer_does_not_wait_for_an_acknowledgement():
  """As it would by Nagle's algorithm: 40 ms on Linux, now and then."""
  with (
    server.bind('127.0.0.1', 0) as taken,
    socket.create_connection(taken.getsockname()),
    taken.accept()[0] as accepted,
  ):
    assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_slow_headers_end(running):
  start_time = time.monotonic()
  with running.connect() as raw:
    raw.sendall(b'GET / HT')
    status, _ = split_answer(read_all(raw))
  assert status == 408
  assert 0.4 < time.monotonic() - start_time < 5


def test_slow_headers_after_an_answer_end(running):
  with running.connect() as raw:
    raw.sendall(b'GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n')
    assert raw.recv(4096).startswith(b'HTTP/1.1 200')
    raw.sendall(b'GET /h')
    assert b' 408 ' in read_all(raw)


def test_a_drip_of_a_body_ends(running):
  """Each part comes in time, and all of them do not."""
  with running.connect() as raw:
    raw.sendall(_create_request(1000, b''))
    with contextlib.suppress(OSError):
      for _ in range(12):
        raw.sendall(b'x')
        time.sleep(0.1)
    assert split_answer(read_all(raw))[0] == 408


def test_slow_clients_hold_up_nobody(running):
  """All connections are taken by clients that send nothing more."""
  with contextlib.ExitStack() as stack:
    for number in range(QUICK.max_connections):
      raw = stack.enter_context(running.connect())
      raw.sendall(b'GET' if number % 2 else b'')
    time.sleep(0.1)
    statuses = [running.post(PICTURE)[0]]
    deadline = time.monotonic() + 5
    while statuses[-1] == 503 and time.monotonic() < deadline:
      time.sleep(0.1)
      statuses.append(running.post(PICTURE)[0])
  assert statuses[-1] == 200


def test_who_has_waited_longest_is_put_out():
  limits = Limits(max_connections=4, headers_seconds=60)
  with start(limits) as running, contextlib.ExitStack() as stack:
    for _ in range(4):
      stack.enter_context(running.connect())
    time.sleep(1.2)
    begun = time.monotonic()
    assert running.post(PICTURE)[0] == 200
    assert time.monotonic() - begun < 2


def test_too_many_pictures_are_asked_to_come_again(running):
  running.model.seconds = 0.5
  try:
    answers = []

    def ask(_):
      answers.append(
        running.ask('POST', '/predict', PICTURE, {'Content-Type': 'image/png'})
      )

    ask_at_once(ask, range(6))
  finally:
    running.model.seconds = 0.0
  statuses = sorted(status for status, *_ in answers)
  assert statuses[0] == 200
  assert statuses[-1] == 503
  assert all(
    headers['Retry-After'] == '1'
    for status, headers, _ in answers
    if status == 503
  )


def test_a_body_too_many_is_answered_before_it_ends(running):
  """Its sender, still sending, gets to read why."""
  status, content = running.post(bytes(8_000_000))
  assert (status, content['status']) == (413, 413)


def test_a_body_of_unknown_length_is_bounded(running):
  chunk = b'10000\r\n' + bytes(0x10000) + b'\r\n'
  head = f'{HEAD}Transfer-Encoding: chunked\r\n\r\n'.encode()
  status, _ = split_answer(running.send(head + 4 * chunk + b'0\r\n\r\n'))
  assert status == 413


def test_a_cut_body_hurts_nobody(running, caplog):
  for data in (_create_request(5000, b'x' * 100), b'GET / HTTP/1.1\r\nHo'):
    status, content = split_answer(running.send(data, half_close=True))
    assert (status, 'cut off' in content['error']) == (400, True)
    with running.connect() as raw:
      raw.sendall(data)
  # Two reasons to refuse it, of which one is said.
  data = _create_request(5000, b'x').replace(b'image/png', b'text/plain')
  for _ in range(5):
    status, _ = split_answer(running.send(data, half_close=True))
    assert status in (400, 415)
  time.sleep(0.1)
  assert 'Exception' not in caplog.text
  # Who sends no more may still read.
  whole = _create_request(len(PICTURE), PICTURE)
  assert running.send(whole, half_close=True).startswith(b'HTTP/1.1 200')
  assert running.post(PICTURE)[0] == 200


def test_what_is_under_way_is_answered_at_the_end():
  with start() as running:
    running.model.seconds = 0.8
    found = []
    thread = threading.Thread(
      target=lambda: found.append(running.post(PICTURE))
    )
    thread.start()
    time.sleep(0.3)
    running.server.should_exit = True
    time.sleep(0.3)
    with pytest.raises(OSError, match='refused'):
      running.connect()
    thread.join()
  assert found[0][0] == 200


def test_a_model_that_fails_is_said_without_its_reason():
  def fail(crops):
    raise RuntimeError('/home/secret')

  with start() as other:
    other.model._predict = fail
    status, content = other.post(PICTURE)
    assert (status, content['error']) == (
      500,
      'The server has failed; its log says why.',
    )
    del other.model._predict
    assert other.post(PICTURE)[0] == 200
