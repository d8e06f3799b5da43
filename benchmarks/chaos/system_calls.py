"""A program whose system calls fail when they are told to.

    program = FailingProgram(['python', 'main.py', ...], below=workdir, ...)
    program.fail('write', errno.ENOSPC)

The kernel asks this process before each read, write, opening, renaming and new
directory (seccomp's user notification, Linux 5.5), so that a full disk is the
same for Python, for TensorStore's threads and for worker processes. It takes no
privileges. Run as a module, this file is what starts the program: it installs
the filter, hands over the descriptor on which the kernel asks, and becomes the
program.
"""

import ctypes
import dataclasses
import errno
import fcntl
import os
import pathlib
import platform
import select
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

_PR_SET_NO_NEW_PRIVS = 38
_SECCOMP_SET_MODE_FILTER = 1
_SECCOMP_FILTER_FLAG_NEW_LISTENER = 8
_SECCOMP_RET_ALLOW = 0x7FFF0000
_SECCOMP_RET_USER_NOTIF = 0x7FC00000
_SECCOMP_IOCTL_NOTIF_RECV = 0xC0502100
_SECCOMP_IOCTL_NOTIF_SEND = 0xC0182101
_FLAG_CONTINUE = 1
# struct seccomp_notif: id, thread, flags; seccomp_data: number, architecture,
# instruction pointer, six arguments.
_NOTIFICATION = struct.Struct('=QIIiIQ6Q')
_RESPONSE = struct.Struct('=QqiI')
# struct sock_filter: code, jump if true, jump if false, operand.
_INSTRUCTION = struct.Struct('=HBBI')
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06


@dataclasses.dataclass(frozen=True)
class _Call:
  """A system call of one architecture.

  Attributes:
    number: the kernel's number of it.
    kind: 'write' for what changes a file, 'read', or 'open'.
    path: number of the argument that is a path; None where argument 0 is a
      descriptor.
    flags: number of the argument with the flags of opening, for 'open'.
  """

  number: int
  kind: str
  path: int | None = None
  flags: int | None = None


# What numbers are on the architectures that JAX has wheels for.
_CALLS = {
  'x86_64': (
    _Call(1, 'write'),  # write
    _Call(18, 'write'),  # pwrite64
    _Call(20, 'write'),  # writev
    _Call(77, 'write'),  # ftruncate
    _Call(285, 'write'),  # fallocate
    _Call(2, 'open', path=0, flags=1),  # open
    _Call(257, 'open', path=1, flags=2),  # openat
    _Call(83, 'write', path=0),  # mkdir
    _Call(258, 'write', path=1),  # mkdirat
    _Call(82, 'write', path=0),  # rename
    _Call(264, 'write', path=1),  # renameat
    _Call(316, 'write', path=1),  # renameat2
    _Call(0, 'read'),  # read
    _Call(17, 'read'),  # pread64
    _Call(19, 'read'),  # readv
  ),
  'aarch64': (
    _Call(64, 'write'),
    _Call(68, 'write'),
    _Call(66, 'write'),
    _Call(46, 'write'),
    _Call(47, 'write'),
    _Call(56, 'open', path=1, flags=2),
    _Call(34, 'write', path=1),
    _Call(38, 'write', path=1),
    _Call(276, 'write', path=1),
    _Call(63, 'read'),
    _Call(67, 'read'),
    _Call(65, 'read'),
  ),
}
_SECCOMP_CALL = {'x86_64': 317, 'aarch64': 277}


def explain_why_not() -> str:
  """Returns why calls cannot be made to fail here; '' if they can."""
  if sys.platform != 'linux' or platform.machine() not in _CALLS:
    return f'it takes Linux on {" or ".join(_CALLS)}'
  program = FailingProgram(
    ['true'], below=pathlib.Path('/'), output=pathlib.Path(os.devnull)
  )
  if program.process.wait() != 0 or not program.is_watched:
    return 'the kernel or its container allows no seccomp user notification'
  return ''


class FailingProgram:
  """A program with a thread beside it that answers the kernel."""

  def __init__(
    self,
    words: Sequence[str],
    *,
    below: pathlib.Path,
    output: pathlib.Path,
    **options: Any,
  ):
    """Starts the program; no call fails yet.

    Args:
      words: words of its command line.
      below: directory in which calls may fail.
      output: file for its standard output and errors.
      **options: further options of `subprocess.Popen`.
    """
    self.is_watched = False
    self.failures: list[tuple[float, str]] = []  # By `time.monotonic`; path.
    self._below = os.fspath(below.resolve())
    self._failing: Mapping[str, int] = {}
    self._times: int | None = None
    ours, theirs = socket.socketpair()
    with ours, theirs, output.open('wb') as file:
      self.process = subprocess.Popen(
        [sys.executable, __file__, str(theirs.fileno()), *words],
        stdout=file,
        stderr=subprocess.STDOUT,
        pass_fds=[theirs.fileno()],
        **options,
      )
      theirs.close()
      _, descriptors, _, _ = socket.recv_fds(ours, 1, 1)
    if descriptors:
      self.is_watched = True
      self._calls = {call.number: call for call in _CALLS[platform.machine()]}
      threading.Thread(
        target=self._answer, args=descriptors, daemon=True
      ).start()

  def fail(self, times: int | None = None, **failing: int) -> None:
    """Lets calls fail from now on; those before this call's no longer do.

    Args:
      times: number of calls that fail; None is all of them.
      **failing: number of the error, as in `errno`, by kind of call: 'write'
        for what changes a file or makes one, 'read'.
    """
    self._times = times
    self._failing = failing

  def _answer(self, descriptor: int) -> None:
    """Answers the kernel until the program and its children have ended."""
    ready = select.poll()
    ready.register(descriptor, select.POLLIN)
    while True:
      [(_, events)] = ready.poll()
      if not events & select.POLLIN:  # Nobody is left to be asked for.
        os.close(descriptor)
        return
      asked = bytearray(_NOTIFICATION.size)
      try:
        fcntl.ioctl(descriptor, _SECCOMP_IOCTL_NOTIF_RECV, asked)
        identity, thread, _, number, _, _, *arguments = _NOTIFICATION.unpack(
          asked
        )
        error = self._find_error(self._calls[number], thread, arguments)
        fcntl.ioctl(
          descriptor,
          _SECCOMP_IOCTL_NOTIF_SEND,
          _RESPONSE.pack(identity, 0, -error, 0 if error else _FLAG_CONTINUE),
        )
      except FileNotFoundError:  # The thread was killed while it waited.
        continue

  def _find_error(
    self, call: _Call, thread: int, arguments: Sequence[int]
  ) -> int:
    """Returns the number of the error that a call is to have; 0 for none."""
    failing = self._failing
    kind = call.kind
    if kind == 'open':
      makes = arguments[call.flags] & (os.O_CREAT | os.O_WRONLY | os.O_RDWR)
      kind = 'write' if makes else 'read'
    error = failing.get(kind, 0)
    if not error or self._times == 0:
      return 0
    try:
      if call.path is None:
        path = os.readlink(f'/proc/{thread}/fd/{arguments[0]}')
      else:
        path = _read_text(thread, arguments[call.path])
    except OSError:
      return 0
    if not path.startswith(self._below):
      return 0
    if self._times is not None:
      self._times -= 1
    self.failures.append((time.monotonic(), path))
    return error


def _read_text(process: int, address: int) -> str:
  """Returns a text in the memory of a process, which ends with a zero."""
  with open(f'/proc/{process}/mem', 'rb', buffering=0) as memory:
    memory.seek(address)
    # No more than is left of the page: what follows may not be there.
    text = memory.read(4096 - address % 4096)
    if b'\0' not in text:
      text += memory.read(4096)
  return os.fsdecode(text.partition(b'\0')[0])


def _become(descriptor: int, words: Sequence[str]) -> None:
  """Installs the filter, hands its descriptor over, and runs a program.

  Args:
    descriptor: socket of the process that is to be asked.
    words: words of the program's command line.
  """
  machine = platform.machine()
  calls = _CALLS[machine]
  instructions = [
    _INSTRUCTION.pack(_LOAD, 0, 0, 0),
    *(
      _INSTRUCTION.pack(_JUMP_IF_EQUAL, len(calls) - index, 0, call.number)
      for index, call in enumerate(calls)
    ),
    _INSTRUCTION.pack(_RETURN, 0, 0, _SECCOMP_RET_ALLOW),
    _INSTRUCTION.pack(_RETURN, 0, 0, _SECCOMP_RET_USER_NOTIF),
  ]
  code = ctypes.create_string_buffer(b''.join(instructions))
  program = struct.pack('@HP', len(instructions), ctypes.addressof(code))
  libc = ctypes.CDLL(None, use_errno=True)
  libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
  with socket.socket(fileno=descriptor) as asked:
    listener = libc.syscall(
      _SECCOMP_CALL[machine],
      _SECCOMP_SET_MODE_FILTER,
      _SECCOMP_FILTER_FLAG_NEW_LISTENER,
      ctypes.create_string_buffer(program),
    )
    if listener < 0:
      sys.exit(f'seccomp: {errno.errorcode[ctypes.get_errno()]}')
    socket.send_fds(asked, [b'.'], [listener])
    os.close(listener)
  os.execvp(words[0], words)


if __name__ == '__main__':
  _become(int(sys.argv[1]), sys.argv[2:])
