"""A compiled program in a file: compiled on one machine, loaded on another.

A pod that loads its train step does not compile it. The file must hold what
compiling would give, so it names the program, the versions and the devices that
it is for, and a file for any other is refused.

Only load files that you or your tools have made: JAX keeps a compiled program
as a pickle, which can run anything. The facts before it are JSON, and are read
first.
"""

import hashlib
import importlib.metadata
import json
import os
import pathlib
import re
import stat
from typing import Any

import jax
from etils import epath
from jax.experimental import serialize_executable
from jax.sharding import Mesh

from coatnet_jax.errors import UserError
from coatnet_jax.paths import write_whole
from coatnet_jax.strict_json import to_json

_FIRST_LINE = b'coatnet_jax compiled program, version 1\n'
# A Pallas kernel's body in the lowered text is compiled already, and has paths
# of the machine in it. It follows from the kernel's source, which is hashed
# instead, and from the arguments, which are in the text.
_KERNEL_BODY = re.compile(r'\\22body\\22: \\22[^\\]*\\22')
_KERNELS = pathlib.Path(__file__).parents[1] / 'ops'


class CompiledProgramMismatch(UserError):
  """A file is for another program, other versions or other devices."""


def check_target(path: epath.Path) -> None:
  """Checks, before compiling, that a compiled program can be written.

  Args:
    path: path of the file, perhaps gs://.

  Raises:
    UserError: there is a file that is no compiled program, or no directory.
  """
  try:
    if path.exists():
      with path.open('rb') as file:
        is_ours = file.read(len(_FIRST_LINE)) == _FIRST_LINE
      if not is_ours:
        raise UserError(
          f'{path} is there, and is no compiled program: give a new file.'
        )
    elif not path.parent.is_dir() and '://' not in str(path):
      raise UserError(
        f'{path}: there is no directory {path.parent}; make it first.'
      )
  except OSError as error:
    raise UserError(f'{path} cannot be written: {error.strerror}.') from error


def save_compiled(
  path: str | os.PathLike,
  lowered: jax.stages.Lowered,
  compiled: jax.stages.Compiled,
  mesh: Mesh,
) -> None:
  """Writes a compiled program, over a file that may be there.

  Args:
    path: path of the file, perhaps gs://.
    lowered: program that was compiled.
    compiled: what compiling `lowered` gave, and no cache of programs; see
      `compilation_cache.switched_off`.
    mesh: mesh of the program; its devices may be abstract ones.

  Raises:
    UserError: the file cannot be written.
  """
  serialized, _, _ = serialize_executable.serialize(compiled)
  facts = to_json(identify_program(lowered, mesh)).encode()
  path = epath.Path(path)
  try:
    write_whole(path, _FIRST_LINE + facts + b'\n' + serialized)
  except OSError as error:
    raise UserError(f'{path} cannot be written: {error.strerror}.') from error


def load_compiled(
  path: str | os.PathLike, lowered: jax.stages.Lowered, mesh: Mesh
) -> jax.stages.Compiled:
  """Reads a compiled program.

  Args:
    path: path of the file.
    lowered: program that would be compiled otherwise.
    mesh: mesh of the program.

  Returns:
    What `lowered.compile()` returns.

  Raises:
    CompiledProgramMismatch: the file is for another program, other versions or
      other devices; the message says which.
    UserError: there is no such file, `save_compiled` did not write it, or
      every user of the machine can write to it.
  """
  try:
    _check_writers(path)
    content = epath.Path(path).read_bytes()
  except OSError as error:
    raise UserError(
      f'The compiled program {path} cannot be read: {error.strerror}.'
    ) from error
  if not content.startswith(_FIRST_LINE):
    raise UserError(
      f'{path} is not a compiled program; make one by tools.plan'
      ' --save_compiled.'
    )
  saved, _, serialized = content[len(_FIRST_LINE) :].partition(b'\n')
  try:
    saved = dict(json.loads(saved))
  except (RecursionError, TypeError, ValueError) as error:
    raise UserError(
      f'{path} is a damaged compiled program; make it anew by tools.plan'
      ' --save_compiled.'
    ) from error
  wanted = identify_program(lowered, mesh)
  differences = [
    f'{name} {saved.get(name)}, not {wanted[name]}'
    for name in wanted
    if saved.get(name) != wanted[name]
  ]
  if differences:
    raise CompiledProgramMismatch(
      f'The compiled program {path} is for {"; ".join(differences)}.'
    )
  devices = list(mesh.devices.flat)
  return serialize_executable.deserialize_and_load(
    serialized,
    jax.tree.structure(lowered.args_info),
    jax.tree.structure(lowered.out_info),
    backend=devices[0].client,
    execution_devices=devices,
  )


def _check_writers(path: str | os.PathLike) -> None:
  """Raises UserError for a file that every user of the machine can change."""
  if '://' in str(path):
    return
  mode = os.stat(path).st_mode
  if not stat.S_ISREG(mode):
    raise UserError(
      f'{path} is not a file; give one that tools.plan --save_compiled wrote.'
    )
  if mode & stat.S_IWOTH:
    raise UserError(
      f'The compiled program {path} can be changed by every user of this'
      ' machine, and what it holds is run; take that away (chmod o-w), or'
      ' make it anew by tools.plan --save_compiled.'
    )


def identify_program(lowered: jax.stages.Lowered, mesh: Mesh) -> dict[str, Any]:
  """Returns the facts that a compiled program depends on, by names for people.

  Args:
    lowered: program with its shapes, shardings and constants.
    mesh: mesh of the program.
  """
  text = _KERNEL_BODY.sub('', lowered.as_text())
  kernels = b''.join(
    file.read_bytes() for file in sorted(_KERNELS.glob('*.py'))
  )
  device = mesh.devices.flat[0]
  facts = {
    f'{package} version': _find_version(package)
    for package in ('jax', 'jaxlib', *['libtpu'] * (device.platform == 'tpu'))
  }
  return facts | {
    'devices': f'{mesh.size} x {device.device_kind}',
    'processes': len({d.process_index for d in mesh.devices.flat}),
    'program': hashlib.sha256(text.encode() + kernels).hexdigest()[:16],
  }


def _find_version(package):
  try:
    return importlib.metadata.version(package)
  except importlib.metadata.PackageNotFoundError:
    return 'none'
