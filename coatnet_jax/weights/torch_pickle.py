"""The values of a pickle as `torch.save` writes it, by a machine of our own.

A pickle is a program for a small machine with a stack. Python's own machine
runs whatever function a pickle names, and crashes on some nestings. This one
knows the few instructions and names that a state dict needs. A name stands for
an inert class of this module, so that no code of the file, of torch or of the
standard library runs, and a file with another name is refused. Nothing is ever
hashed, compared or walked through but text and numbers, so that no nesting is
too deep.
"""

import dataclasses
import pathlib
import pickletools
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np

from coatnet_jax.errors import UserError

# A checkpoint of CoAtNet-7, with averages and the state of AdamW, is 2 MB of
# 200,000 instructions.
_MAX_BYTES = 32 * 2**20
_MAX_INSTRUCTIONS = 10**6
# What an integer is below, as sizes are. Python takes long for larger ones.
_INTEGERS_BELOW = 2**63


class Unread:
  """Stands for a value that is not read."""

  __slots__ = ()

  def __repr__(self) -> str:
    """Returns what stands in an error for such a key."""
    return 'a value of another type'


@dataclasses.dataclass(frozen=True)
class Storage:
  """The numbers of one tensor or of several.

  Attributes:
    dtype: type of the numbers.
    key: name of the bytes in the archive.
    num_elements: how many there are.
  """

  dtype: np.dtype
  key: str
  num_elements: int


@dataclasses.dataclass(frozen=True, eq=False)
class Tensor:
  """Stands for a tensor, as the file describes it: nothing is checked.

  Attributes:
    storage: storage that it is a part of.
    offset: index of its first number there.
    shape: sizes of the tensor's axes.
    strides: distance of its numbers along each axis, in numbers.
    metadata: whether it is conjugate or negative, if anything.
  """

  storage: Any
  offset: Any
  shape: Any
  strides: Any
  metadata: Any


class _OrderedDict(dict):
  """Its state is the versions of torch's modules."""

  __slots__ = ()


@dataclasses.dataclass(frozen=True)
class _StorageType:
  """Stands for a class of storages, which only names a type."""

  dtype: np.dtype


@dataclasses.dataclass(frozen=True)
class _Callable:
  """Stands for a function or a class, by what a call makes."""

  call: Callable[..., Any]


def _rebuild_tensor(
  storage, offset, shape, strides, _requires_grad, _hooks, metadata=None
):
  return Tensor(storage, offset, shape, strides, metadata)


def _rebuild_parameter(tensor, _requires_grad, _hooks):
  return tensor


def _create_ordered_dict(pairs=()):
  result = _OrderedDict()
  for key, value in pairs:
    result[_to_key(key)] = value
  return result


def _forget(*_arguments):
  return Unread()


_STORAGE_DTYPES = {
  'DoubleStorage': np.float64,
  'FloatStorage': np.float32,
  'HalfStorage': np.float16,
  'BFloat16Storage': ml_dtypes.bfloat16,
  'LongStorage': np.int64,
  'IntStorage': np.int32,
  'ShortStorage': np.int16,
  'CharStorage': np.int8,
  'ByteStorage': np.uint8,
  'BoolStorage': np.bool_,
}
# All that a file may name. The training options, a Namespace, stand beside the
# state dict in the checkpoints of many scripts.
_GLOBALS = {
  ('collections', 'OrderedDict'): _Callable(_create_ordered_dict),
  ('torch._utils', '_rebuild_tensor_v2'): _Callable(_rebuild_tensor),
  ('torch._utils', '_rebuild_parameter'): _Callable(_rebuild_parameter),
  ('torch', 'Size'): _Callable(_forget),
  ('torch', 'device'): _Callable(_forget),
  ('argparse', 'Namespace'): _Callable(_forget),
  **{
    ('torch', name): _StorageType(np.dtype(dtype))
    for name, dtype in _STORAGE_DTYPES.items()
  },
}


def unpickle(data: bytes, path: pathlib.Path) -> Any:
  """Returns the value of a pickle.

  Args:
    data: pickle of protocol 2 to 4.
    path: path of the file, for errors.

  Returns:
    Dictionaries with text and integers as keys, lists, tuples, text, numbers,
    `Tensor`, and `Unread` for anything else. A value may hold itself, or the
    same one many times.

  Raises:
    UserError: it names anything that a state dict does not have, or is too
      large to be one.
    Exception: of many kinds, where it is damaged.
  """
  if len(data) > _MAX_BYTES:
    raise _too_large(path, f'{len(data):,} bytes')
  machine = _Machine(path)
  for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
    if count == _MAX_INSTRUCTIONS:
      raise _too_large(path, f'more than {count:,} values')
    action = _ACTIONS.get(opcode.name)
    if action is None:
      raise UserError(
        f'{path} holds other things than a state dict (pickle opcode'
        f' {opcode.name}), so it is not read; save model.state_dict() alone'
        ' with torch.save, or as safetensors.'
      )
    action(machine, argument)
  return machine.stack.pop()


def _too_large(path: pathlib.Path, size: str) -> UserError:
  return UserError(
    f'{path} has {size} beside the numbers of its tensors, which no state dict'
    ' has; save model.state_dict() alone with torch.save, or as safetensors.'
  )


def _to_key(value: Any) -> Any:
  """What stands for a key: itself, if hashing it is safe and quick."""
  return value if isinstance(value, str | int) else Unread()


class _Machine:
  """The state of the machine; methods are its instructions.

  Attributes:
    stack: values since the last mark.
    below: stacks below it, one for each mark.
    memo: values to be taken again, by number.
    path: path of the file, for errors.
  """

  def __init__(self, path: pathlib.Path):
    self.stack: list[Any] = []
    self.below: list[list[Any]] = []
    self.memo: dict[int, Any] = {}
    self.path = path

  def skip(self, _):
    pass

  def push(self, value):
    self.stack.append(value)

  def push_integer(self, value):
    fits = -_INTEGERS_BELOW <= value < _INTEGERS_BELOW
    self.stack.append(value if fits else Unread())

  def mark(self, _):
    self.below.append(self.stack)
    self.stack = []

  def pop_to_mark(self, _=None) -> list[Any]:
    values, self.stack = self.stack, self.below.pop()
    return values

  def pop(self, _):
    if self.stack:
      self.stack.pop()
    else:
      self.pop_to_mark()

  def duplicate(self, _):
    self.stack.append(self.stack[-1])

  def put(self, index):
    self.memo[index] = self.stack[-1]

  def memoize(self, _):
    self.memo[len(self.memo)] = self.stack[-1]

  def get(self, index):
    self.stack.append(self.memo[index])

  def set_item(self, _):
    value, key = self.stack.pop(), self.stack.pop()
    self._set_items([key, value])

  def set_items(self, _):
    self._set_items(self.pop_to_mark())

  def _set_items(self, values):
    target = self._target(dict)
    for key, value in zip(values[::2], values[1::2], strict=True):
      target[_to_key(key)] = value

  def append(self, _):
    value = self.stack.pop()
    self._target(list).append(value)

  def append_all(self, _):
    values = self.pop_to_mark()
    self._target(list).extend(values)

  def add_items(self, _):
    """Forgets what is put into a set."""
    self.pop_to_mark()
    self._target(Unread)

  def _target(self, kind: type) -> Any:
    if not isinstance(self.stack[-1], kind):
      raise TypeError('a value is of another type than is done with it')
    return self.stack[-1]

  def tuple_of(self, count) -> None:
    values = [self.stack.pop() for _ in range(count)]
    self.stack.append(tuple(reversed(values)))

  def name(self, argument):
    module, _, name = argument.partition(' ')
    self._push_global(module, name)

  def stack_name(self, _):
    name, module = self.stack.pop(), self.stack.pop()
    if not isinstance(module, str) or not isinstance(name, str):
      raise TypeError('a name is no text')
    self._push_global(module, name)

  def _push_global(self, module: str, name: str):
    if (module, name) not in _GLOBALS:
      raise UserError(
        f'{self.path} refers to {module}.{name}, which no plain state dict does'
        ' and which could run code, so the file is not read; save'
        ' model.state_dict() alone with torch.save, or as safetensors.'
      )
    self.stack.append(_GLOBALS[module, name])

  def reduce(self, _):
    arguments, function = self.stack.pop(), self.stack.pop()
    if not isinstance(function, _Callable) or not isinstance(arguments, tuple):
      raise TypeError('a value is called that is no function')
    self.stack.append(function.call(*arguments))

  def build(self, _):
    """Forgets the state that an object is given."""
    self.stack.pop()
    self._target(Unread | Tensor | _OrderedDict)

  def load_storage(self, _):
    """Puts a storage for ('storage', type, key, device, elements)."""
    kind, storage_type, key, _, num_elements = self.stack.pop()
    if (
      kind != 'storage'
      or not isinstance(storage_type, _StorageType)
      or not isinstance(key, str)
      or not isinstance(num_elements, int)
      or num_elements < 0
    ):
      raise ValueError('a storage is not described as one')
    self.stack.append(Storage(storage_type.dtype, key, num_elements))


# What pickles of protocol 2 to 4 consist of. Others can't occur.
_ACTIONS: dict[str, Callable[[_Machine, Any], Any]] = {
  **dict.fromkeys(('PROTO', 'FRAME', 'STOP'), _Machine.skip),
  **dict.fromkeys(
    ('BINUNICODE', 'SHORT_BINUNICODE', 'BINBYTES', 'SHORT_BINBYTES'),
    _Machine.push,
  ),
  **dict.fromkeys(('BININT', 'BININT1', 'BININT2', 'BINFLOAT'), _Machine.push),
  'LONG1': _Machine.push_integer,
  'NONE': lambda machine, _: machine.push(None),
  'NEWTRUE': lambda machine, _: machine.push(True),
  'NEWFALSE': lambda machine, _: machine.push(False),
  'MARK': _Machine.mark,
  'POP': _Machine.pop,
  'POP_MARK': _Machine.pop_to_mark,
  'DUP': _Machine.duplicate,
  **dict.fromkeys(('BINPUT', 'LONG_BINPUT'), _Machine.put),
  'MEMOIZE': _Machine.memoize,
  **dict.fromkeys(('BINGET', 'LONG_BINGET'), _Machine.get),
  'EMPTY_DICT': lambda machine, _: machine.push({}),
  'SETITEM': _Machine.set_item,
  'SETITEMS': _Machine.set_items,
  'EMPTY_LIST': lambda machine, _: machine.push([]),
  'APPEND': _Machine.append,
  'APPENDS': _Machine.append_all,
  'EMPTY_TUPLE': lambda machine, _: machine.push(()),
  'TUPLE1': lambda machine, _: machine.tuple_of(1),
  'TUPLE2': lambda machine, _: machine.tuple_of(2),
  'TUPLE3': lambda machine, _: machine.tuple_of(3),
  'TUPLE': lambda machine, _: machine.push(tuple(machine.pop_to_mark())),
  'EMPTY_SET': lambda machine, _: machine.push(Unread()),
  'ADDITEMS': _Machine.add_items,
  'FROZENSET': lambda machine, _: machine.push(_forget(machine.pop_to_mark())),
  'GLOBAL': _Machine.name,
  'STACK_GLOBAL': _Machine.stack_name,
  'REDUCE': _Machine.reduce,
  'NEWOBJ': _Machine.reduce,
  'BUILD': _Machine.build,
  'BINPERSID': _Machine.load_storage,
}
