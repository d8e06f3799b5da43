"""One run at a time in a workdir; owners are real processes, and die."""

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest

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


def test_the_last_of_several_that_write_has_it(tmp_path, monkeypatch):
  """They all found the same dead owner; this one wrote before another."""
  (tmp_path / 'lease.json').write_text('{')
  monkeypatch.setattr(lease, 'LEASE_SECONDS', 0.5)
  write = lease._write

  def write_before_another(path, owner):
    write(path, owner)
    write(path, dataclasses.replace(owner, identity='f' * 32, user='ada'))

  monkeypatch.setattr(lease, '_write', write_before_another)
  with (
    pytest.raises(UserError, match='is in use: ada@'),
    lease.hold(tmp_path, lambda line: None),
  ):
    pass


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
