"""One run at a time in a workdir; owners are real processes, and die."""

import contextlib
import dataclasses
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest
from etils import epath

from coatnet_jax.errors import UserError
from coatnet_jax.training import lease

# Holds a lease until it is killed, as the first or on another machine.
_HOLDER = """
import sys, time
from coatnet_jax.training import lease
lease.REFRESH_SECONDS = 0.2
if sys.argv[2]:
  lease._describe_machine = lambda: sys.argv[2]
with lease.hold(sys.argv[1], print):
  print('held', flush=True)
  time.sleep(600)
"""


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
  monkeypatch.setattr(lease, 'REFRESH_SECONDS', 0.2)
  monkeypatch.setattr(lease, 'LEASE_SECONDS', 1.5)
  monkeypatch.setattr(lease, '_SETTLE_SECONDS', 0.1)
  monkeypatch.setattr(lease, '_POLL_SECONDS', 0.05)


@contextlib.contextmanager
def _holder(workdir, machine=''):
  """Yields a process that holds the lease of a workdir."""
  process = subprocess.Popen(
    [sys.executable, '-c', _HOLDER, str(workdir), machine],
    stdout=subprocess.PIPE,
    text=True,
    env={**os.environ, 'JAX_PLATFORMS': 'cpu'},
  )
  try:
    assert process.stdout.readline() == 'held\n'
    yield process
  finally:
    process.kill()
    process.wait()
    process.stdout.close()


@pytest.mark.timeout(90)  # Who is never told waits for ever.
@pytest.mark.parametrize('machine', ['', 'another', 'stopped'])
def test_who_comes_second_is_told_who_came_first(tmp_path, machine):
  with _holder(tmp_path, machine.replace('stopped', '')) as process:
    if machine == 'stopped':
      process.send_signal(signal.SIGSTOP)
    start = time.monotonic()
    with (
      pytest.raises(UserError, match='is in use: ') as info,
      lease.hold(tmp_path, lambda line: None),
    ):
      pass
    assert time.monotonic() - start < lease.LEASE_SECONDS
    assert f'process {process.pid}, since 20' in str(info.value)
    assert 'use another --workdir.' in str(info.value)
  # The attempt has taken nothing away.
  owner = json.loads((tmp_path / 'lease.json').read_text())['owner']
  assert owner['process'] == process.pid


@pytest.mark.parametrize('machine', ['', 'another'])
def test_a_dead_owner_blocks_no_longer_than_the_lease(tmp_path, machine):
  lines = []
  with _holder(tmp_path, machine) as process:
    process.kill()
    process.wait()
    start = time.monotonic()
    with lease.hold(tmp_path, lines.append) as held:
      held.check()
    seconds = time.monotonic() - start
  if machine:
    assert lease.LEASE_SECONDS <= seconds < 3 * lease.LEASE_SECONDS
    assert f'process {process.pid}' in lines[0]
  else:
    assert seconds < lease.LEASE_SECONDS
    assert not lines
  assert not (tmp_path / 'lease.json').exists()


def test_a_number_that_another_process_has_now_is_not_the_owner(tmp_path):
  with lease.hold(tmp_path, print):
    text = (tmp_path / 'lease.json').read_text()
  written = json.loads(text)
  written['owner']['process_started'] = '17'
  (tmp_path / 'lease.json').write_text(json.dumps(written))
  with lease.hold(tmp_path, pytest.fail):
    pass


@pytest.mark.parametrize('text', ['', '{', '[]', '{"owner": {"user": 3}}'])
def test_a_lease_that_is_not_readable_is_nobodys_in_the_end(
  tmp_path, monkeypatch, text
):
  monkeypatch.setattr(lease, 'LEASE_SECONDS', 0.5)
  (tmp_path / 'lease.json').write_text(text)
  lines = []
  with lease.hold(tmp_path, lines.append) as held:
    held.check()
  assert 'a lease of somebody' in lines[0]


def test_of_many_that_begin_at_once_one_trains(tmp_path):
  """Also where they all find the lease of the same dead owner."""
  with _holder(tmp_path) as process:
    process.kill()
    process.wait()
  barrier, inside, refused = threading.Barrier(8), [], []
  ended = threading.Event()

  def begin():
    barrier.wait()
    try:
      with lease.hold(tmp_path, lambda line: None) as held:
        inside.append(held)
        ended.wait(5)
    except UserError as error:
      refused.append(str(error))
      if len(refused) == 7:
        ended.set()

  threads = [threading.Thread(target=begin) for _ in range(8)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert (len(inside), len(refused)) == (1, 7), refused


def test_in_a_bucket_the_last_of_several_that_write_has_it(bucket, monkeypatch):
  """They all found none; this one wrote before another."""
  with lease.hold('gs://bucket/run', pytest.fail) as held:
    held.check()
    assert (bucket / 'run' / 'lease.json').exists()
  (bucket / 'run' / 'lease.json').unlink(missing_ok=True)
  write, others = lease._write, ['ada']

  def write_before_another(path, owner):
    write(path, owner)
    if others:
      other = dataclasses.replace(owner, identity='f' * 32, user=others.pop())
      write(path, other)

  monkeypatch.setattr(lease, '_write', write_before_another)
  with (
    pytest.raises(UserError, match='is in use: ada@'),
    lease.hold('gs://bucket/run', lambda line: None),
  ):
    pass


def test_a_lease_that_comes_while_a_dead_one_is_removed_stays(tmp_path):
  path = epath.Path(tmp_path / 'lease.json')
  with lease.hold(tmp_path, print) as held:
    owner = dataclasses.replace(held._owner, identity='f' * 32)
    lease._remove_dead(path, 'the text of a dead owner', owner)
    held.check()
    assert lease._read(path)[0] == held._owner
    lease._remove_dead(path, path.read_text(), owner)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('is_readable_later', [True, False])
def test_what_cannot_be_read_is_not_taken(
  tmp_path, monkeypatch, is_readable_later
):
  """A disk that is away for a moment says nothing of an owner."""
  with _holder(tmp_path, 'another'):
    text = (tmp_path / 'lease.json').read_text()
    read, calls = lease._read, []

    def fail_to_read(path):
      calls.append(path)
      if len(calls) > 1 and (len(calls) < 8 or not is_readable_later):
        raise OSError(errno.EACCES, 'Permission denied')
      return read(path)

    monkeypatch.setattr(lease, '_read', fail_to_read)
    message = 'is in use: ' if is_readable_later else 'Permission denied'
    with (
      pytest.raises(UserError, match=message),
      lease.hold(tmp_path, lambda line: None),
    ):
      pass
    written = json.loads((tmp_path / 'lease.json').read_text())['owner']
    assert written == json.loads(text)['owner']


def test_a_process_that_is_hidden_is_waited_for(tmp_path, monkeypatch):
  """As those of other users are, on machines that many share."""
  monkeypatch.setattr(lease, '_find_start', lambda process: '')
  with (
    _holder(tmp_path),
    pytest.raises(UserError, match='is in use: '),
    lease.hold(tmp_path, lambda line: None),
  ):
    pass


def test_a_file_that_is_away_for_a_moment_is_not_gone(tmp_path, monkeypatch):
  with lease.hold(tmp_path, print) as held:
    read, answers = lease._read, [(None, None)]
    monkeypatch.setattr(
      lease, '_read', lambda path: answers.pop() if answers else read(path)
    )
    time.sleep(1.0)
    held.check()
    assert not answers


def _take_over(workdir):
  written = json.loads((workdir / 'lease.json').read_text())
  written['owner'] |= {'identity': 'f' * 32, 'user': 'ada'}
  (workdir / 'lease.json').write_text(json.dumps(written))


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (_take_over, 'was taken over by ada@'),
    (shutil.rmtree, 'is gone, or its lease.json is'),
  ],
)
@pytest.mark.parametrize('is_stopped', [False, True])
def test_who_has_lost_the_lease_ends(tmp_path, change, message, is_stopped):
  workdir = tmp_path / 'run'
  with lease.hold(workdir, print) as held:
    held.check()
    if is_stopped:  # Its thread has no turn before the main one.
      held._ended.set()
      held._thread.join()
      held._ended.clear()
    change(workdir)
    time.sleep(0.5)
    with pytest.raises(UserError, match=message):
      held.check()
  if workdir.exists():
    assert 'ada' in (workdir / 'lease.json').read_text()


def test_it_is_refreshed_and_given_back(tmp_path):
  with lease.hold(tmp_path, print):
    texts = set()
    deadline = time.monotonic() + 10
    while len(texts) < 3 and time.monotonic() < deadline:
      texts.add((tmp_path / 'lease.json').read_text())
      time.sleep(0.05)
  assert len(texts) >= 3
  assert list(tmp_path.iterdir()) == []


def test_a_workdir_that_cannot_be_written_is_a_sentence(tmp_path):
  (tmp_path / 'file').touch()
  with (
    pytest.raises(UserError, match=r'file/run cannot be written: .+'),
    lease.hold(tmp_path / 'file' / 'run', print),
  ):
    pass
