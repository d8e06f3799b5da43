"""A workdir's lease: one run at a time trains in it.

    with hold(workdir, print) as lease:
      lease.check()  # Before each step.

The owner writes its name into `lease.json` and refreshes it every few seconds.
Who comes second looks whether the owner lives: on the same machine whether its
process does, and elsewhere whether the lease is refreshed. One that is not, for
`LEASE_SECONDS`, is nobody's, whatever the hosts' clocks say.
"""

import contextlib
import dataclasses
import datetime
import getpass
import os
import pathlib
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator

import jax
from etils import epath

from coatnet_jax import stopping
from coatnet_jax.errors import UserError, explain_failures
from coatnet_jax.strict_json import read_mapping, to_json
from coatnet_jax.texts import printable

LEASE_FILE = 'lease.json'
REFRESH_SECONDS = 5.0
LEASE_SECONDS = 30.0
# How long after writing to a bucket, as several may, the lease is read again.
_SETTLE_SECONDS = 1.0
_POLL_SECONDS = 0.5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Owner:
  """Who holds a lease.

  Attributes:
    identity: text that no other owner has.
    user: name of the user.
    host: name of the machine.
    process: number of the process among those of the run.
    machine: text that the processes of one machine share that see each other;
      empty where the system does not say.
    process_started: when the process started, as the system counts; with the
      number it is that process and no later one.
    since: when the lease was taken, as ISO 8601 has it.
  """

  identity: str
  user: str
  host: str
  process: int
  machine: str
  process_started: str
  since: str

  def __post_init__(self):
    """Raises ValueError for values of other types, as a damaged file has."""
    for field in dataclasses.fields(self):
      if type(getattr(self, field.name)) is not field.type:
        raise ValueError(f'{field.name} is no {field.type.__name__}')
    if not 0 < self.process < 2**31:
      raise ValueError(f'{self.process} is no number of a process')

  def describe(self) -> str:
    """Returns who it is, for a sentence."""
    return printable(
      f'{self.user}@{self.host}, process {self.process}, since {self.since}'
    )


class NoLease:
  """What the other processes of a run have: nothing to check."""

  def check(self) -> None:
    """Does nothing: the first process looks."""


class Lease(NoLease):
  """A lease that this process holds; made by `hold`."""

  def __init__(self, path: epath.Path, owner: Owner):
    """Begins to refresh the lease, which has been taken.

    Args:
      path: file of the lease.
      owner: this process.
    """
    self._path = path
    self._owner = owner
    self._problem = ''
    self._seen = time.monotonic()
    self._ended = threading.Event()
    self._thread = threading.Thread(
      target=self._refresh_until_ended, name='lease', daemon=True
    )
    self._thread.start()

  def check(self) -> None:
    """Raises UserError if the workdir is no longer this run's."""
    # A process that was stopped for long looks itself, as its thread may not
    # have had its turn.
    if time.monotonic() - self._seen > 2 * REFRESH_SECONDS:
      self._look()
    if self._problem:
      raise UserError(self._problem)

  def release(self) -> None:
    """Gives the lease back."""
    self._ended.set()
    self._thread.join()
    with contextlib.suppress(Exception):  # It expires by itself, too.
      if _read(self._path)[0] == self._owner:
        self._path.unlink()

  def _refresh_until_ended(self) -> None:
    while not self._ended.wait(REFRESH_SECONDS):
      # A disk that is full or away for a moment loses no lease by itself.
      with contextlib.suppress(Exception):
        if self._look():
          _write(self._path, self._owner, refreshed=time.time())

  def _look(self) -> bool:
    """Returns whether the lease is known to be this process's still."""
    try:
      owner, text = _read(self._path)
      if text is None:  # A network's file system may err once.
        time.sleep(_POLL_SECONDS)
        owner, text = _read(self._path)
    except Exception:  # It cannot be read now; nobody has taken it yet.
      return False
    if owner == self._owner:
      self._seen = time.monotonic()
      return True
    if owner is not None:
      self._problem = (
        f'The workdir {self._path.parent} was taken over by'
        f' {owner.describe()}: this run was not heard of for'
        f' {LEASE_SECONDS:.0f} s. It ends here, and saves nothing more.'
      )
    elif text is None and not self._ended.is_set():
      self._problem = (
        f'The workdir {self._path.parent} is gone, or its {LEASE_FILE} is:'
        ' somebody has removed it. The run ends here, as it cannot save.'
      )
    return False


@contextlib.contextmanager
def hold(
  workdir: str | os.PathLike[str], report: Callable[[str], None]
) -> Iterator[NoLease]:
  """Holds the lease of a workdir; made on the first process, for all.

  Args:
    workdir: directory of the run, perhaps gs://...; created where it is
      missing.
    report: function called with a sentence where it takes a while.

  Yields:
    The lease; one that checks nothing on the other processes.

  Raises:
    UserError: another run holds it, or the workdir cannot be written.
  """
  if jax.process_index() > 0:
    yield NoLease()
    return
  path = epath.Path(workdir) / LEASE_FILE
  owner = _describe_this_process()
  with explain_failures(f'The workdir {workdir} cannot be written'):
    path.parent.mkdir(parents=True, exist_ok=True)
    _take(path, owner, report)
  lease = Lease(path, owner)
  stopping.before_end(lease.release)
  try:
    yield lease
  finally:
    lease.release()


def _take(
  path: epath.Path, owner: Owner, report: Callable[[str], None]
) -> None:
  """Writes a lease if nobody holds one.

  Raises:
    UserError: somebody does.
  """
  is_bucket = '://' in str(path)
  while True:
    holder, text = _read(path)
    if text is not None:
      _wait_until_dead(path, holder, text, report)
    if is_bucket:
      # The last of several that write has it.
      _write(path, owner)
      time.sleep(_SETTLE_SECONDS)
      if _read(path)[0] == owner:
        return
      continue
    if text is not None:
      _remove_dead(path, text, owner)
    try:
      with open(path, 'x', encoding='utf-8') as file:
        file.write(_to_text(owner))
      return
    except FileExistsError:
      pass  # Somebody was quicker.


def _remove_dead(path: epath.Path, text: str, owner: Owner) -> None:
  """Removes the lease of a dead owner, and none that has come since.

  Args:
    path: file of the lease.
    text: what the file said when its owner was known to be dead.
    owner: this process.
  """
  aside = path.with_name(f'{LEASE_FILE}.{owner.identity}')
  try:
    path.rename(aside)
  except FileNotFoundError:
    return
  if _read(aside)[1] != text:  # A new owner's, which goes back.
    with contextlib.suppress(FileExistsError):
      os.link(aside, path)
  aside.unlink()


def _wait_until_dead(
  path: epath.Path,
  holder: Owner | None,
  text: str,
  report: Callable[[str], None],
) -> None:
  """Returns when the holder of a lease is known to be dead.

  Args:
    path: file of the lease.
    holder: owner that it names, if it is readable.
    text: content of the lease file.
    report: function called with a sentence where it takes a while.

  Raises:
    UserError: it lives.
  """
  message = (
    f'The workdir {path.parent} is in use: {{}}. Wait until that run ends, or'
    ' use another --workdir.'
  )
  lives = _is_alive(holder)
  if lives:
    raise UserError(message.format(holder.describe()))
  if lives is False:
    return
  report(
    f'The workdir {path.parent} has a lease of'
    f' {holder.describe() if holder else "somebody"}; waiting up to'
    f' {LEASE_SECONDS:.0f} s to see whether that run lives ...'
  )
  deadline, failure = time.monotonic() + LEASE_SECONDS, None
  while time.monotonic() < deadline:
    time.sleep(_POLL_SECONDS)
    try:
      holder, now = _read(path)
      failure = None
    except Exception as error:  # Which says nothing of its owner.
      failure = error
      continue
    if now is None:
      return
    if now != text:
      raise UserError(
        message.format(holder.describe() if holder else 'by another run')
      )
  if failure is not None:
    raise failure


def _is_alive(holder: Owner | None) -> bool | None:
  """Returns whether a lease's owner lives, where this machine can tell."""
  if holder is None or not holder.machine:
    return None
  if holder.machine != _describe_machine():
    return None
  if started := _find_start(holder.process):
    return started == holder.process_started
  try:
    os.kill(holder.process, 0)  # Sends nothing.
  except ProcessLookupError:
    return False
  except PermissionError:
    return None  # Another user's, which some machines hide.
  return None


def _read(path: epath.Path) -> tuple[Owner | None, str | None]:
  """Returns who holds a lease, if it says so, and its text; None without one.

  Raises:
    Exception: it cannot be read. What reads buckets raises kinds of its own.
  """
  try:
    says = read_mapping(path)
  except FileNotFoundError:
    # A link to nothing is in the way of a new lease.
    return None, 'is a link' if os.path.islink(path) else None
  except ValueError as error:  # It is no lease of ours, and as it is.
    return None, str(error)
  text = to_json(says)
  try:
    return Owner(**says['owner']), text
  except (ValueError, TypeError, KeyError):
    return None, text


def _write(path: epath.Path, owner: Owner, refreshed: float = 0.0) -> None:
  """Writes a lease whole or not at all."""
  text = _to_text(owner, refreshed)
  if '://' in str(path):
    path.write_text(text)  # As buckets do.
    return
  partial = path.with_name(f'{LEASE_FILE}.{owner.identity}')
  partial.write_text(text)
  partial.replace(path)


def _to_text(owner: Owner, refreshed: float = 0.0) -> str:
  """Returns a lease as JSON.

  Args:
    owner: process that holds the lease.
    refreshed: seconds since 1970, by the owner's clock; another number each
      time is all that others look at.
  """
  return to_json({'owner': dataclasses.asdict(owner), 'refreshed': refreshed})


def _describe_this_process() -> Owner:
  return Owner(
    identity=uuid.uuid4().hex,
    user=_find_user(),
    host=socket.gethostname(),
    process=os.getpid(),
    machine=_describe_machine(),
    process_started=_find_start(os.getpid()),
    since=datetime.datetime.now(datetime.UTC).isoformat(' ', 'seconds'),
  )


def _find_user() -> str:
  try:
    return getpass.getuser()
  except (OSError, KeyError):  # A container's user may have no name.
    return str(os.getuid())


def _describe_machine() -> str:
  """Returns what processes share that see each other's numbers; '' if unknown.

  The kernel's start, and the name space of process numbers, as containers have
  their own.
  """
  try:
    boot = pathlib.Path('/proc/sys/kernel/random/boot_id').read_text().strip()
    return f'{boot} {os.readlink("/proc/self/ns/pid")}'
  except OSError:
    return ''


def _find_start(process: int) -> str:
  """Returns when a process started, in the kernel's ticks.

  The text is empty if that is not to be seen, and another one of a zombie.
  """
  try:
    text = pathlib.Path(f'/proc/{process}/stat').read_text()
  except OSError:
    return ''
  # Its name, in brackets, may have anything in it.
  fields = text.rpartition(')')[2].split()
  return 'ended' if fields[0] in 'ZX' else fields[19]
