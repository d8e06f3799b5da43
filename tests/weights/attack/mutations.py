"""Small files of each format, and random damage to them."""

import io
import json
import pathlib
import random
import zipfile
from collections.abc import Callable

import numpy as np
from safetensors.numpy import save

FIXTURES = pathlib.Path(__file__).parents[1]
_LENGTHS = (0, 1, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**32 - 1, 2**63 - 1)


def create_safetensors(
  metadata: dict[str, str] | None = None, more: int = 0
) -> bytes:
  """Returns a file that the library wrote, with so many tensors more."""
  arrays = {
    **{f'block_{i}.scale': np.ones(1, np.float32) for i in range(more)},
    'stem.weight': np.arange(54, dtype=np.float32).reshape(3, 2, 3, 3),
    'stem.bias': np.arange(3, dtype=np.float16),
    'norm.count': np.array(7),
  }
  return save(arrays, metadata)


def create_description() -> dict:
  """Returns what a file of ours says of its model."""
  return {
    'model': {'name': 'coatnet_mini', 'num_classes': 2},
    'preprocessing': {
      'image_size': [28, 28],
      'mean': [0.5, 0.5, 0.5],
      'std': [0.5, 0.5, 0.5],
      'eval_crop_fraction': 0.95,
      'eval_resize': 'timm',
      'interpolation': 'bicubic',
    },
    'class_names': ['cat', 'dog'],
  }


def _with_pickle(data: bytes) -> bytes:
  """Puts a pickle into a whole archive, whose checksums are right."""
  with zipfile.ZipFile(FIXTURES / 'checkpoint.pth') as archive:
    entries = {name: archive.read(name) for name in archive.namelist()}
  entries['checkpoint/data.pkl'] = data
  file = io.BytesIO()
  with zipfile.ZipFile(file, 'w') as archive:
    for name, content in entries.items():
      archive.writestr(name, content)
  return file.getvalue()


def _read_pickle() -> bytes:
  with zipfile.ZipFile(FIXTURES / 'checkpoint.pth') as archive:
    return archive.read('checkpoint/data.pkl')


def _with_description(data: bytes) -> bytes:
  text = data.decode('utf-8', 'replace')
  return create_safetensors({'coatnet_jax': text}, more=30)


def _with_header(data: bytes) -> bytes:
  """Puts a header before the numbers, whose length is right."""
  whole = create_safetensors()
  numbers = whole[8 + int.from_bytes(whole[:8], 'little') :]
  return len(data).to_bytes(8, 'little') + data + numbers


def _read_header() -> bytes:
  whole = create_safetensors()
  return whole[8 : 8 + int.from_bytes(whole[:8], 'little')]


def _whole(data: bytes) -> bytes:
  return data


def _read(name: str) -> bytes:
  return (FIXTURES / name).read_bytes()


# format: what is damaged, one or the other, and what makes a file of it.
FORMATS: dict[
  str, tuple[Callable[[], list[bytes]], Callable[[bytes], bytes]]
] = {
  'torch': (
    lambda: [
      _read(f'{n}.pth') for n in ('state_dict', 'checkpoint', 'views', 'types')
    ],
    _whole,
  ),
  'torch_pickle': (lambda: [_read_pickle()], _with_pickle),
  'torch_other': (
    lambda: [_read('legacy.pth'), _read('torchscript.pt'), _read('model.pth')],
    _whole,
  ),
  'safetensors': (
    lambda: [create_safetensors({'format': 'pt', 'a': 'b' * 40})],
    _whole,
  ),
  'safetensors_header': (lambda: [_read_header()], _with_header),
  'description': (
    lambda: [json.dumps(create_description()).encode()],
    _with_description,
  ),
  'keras': (
    lambda: [
      _read(f'{name}.h5')
      for name in ('keras2_weights', 'keras2_model', 'keras3_model')
    ],
    _whole,
  ),
}


def mutate(file_format: str, seed: int) -> bytes:
  """Returns a damaged file.

  Args:
    file_format: one of `FORMATS`.
    seed: number that the damage follows from.
  """
  generator = random.Random(f'{file_format} {seed}')
  create, wrap = FORMATS[file_format]
  data = bytearray(generator.choice(create()))
  for _ in range(generator.choice((1, 1, 1, 2, 4, 16))):
    if data:
      generator.choice(_DAMAGES)(data, generator)
  return wrap(bytes(data))


def _flip_bit(data, generator):
  data[generator.randrange(len(data))] ^= 1 << generator.randrange(8)


def _change_byte(data, generator):
  data[generator.randrange(len(data))] = generator.randrange(256)


def _cut(data, generator):
  del data[generator.randrange(len(data)) :]


def _splice(data, generator):
  start, target = (generator.randrange(len(data)) for _ in range(2))
  piece = data[start : start + generator.randrange(1, 200)]
  data[target : target + generator.choice((0, len(piece)))] = piece


def _remove(data, generator):
  start = generator.randrange(len(data))
  del data[start : start + generator.randrange(1, 200)]


def _put_length(data, generator):
  """Puts a number of 2, 4 or 8 bytes, a large one often, anywhere."""
  width = generator.choice((2, 4, 8))
  number = generator.choice(
    (*_LENGTHS, generator.randrange(len(data) * 2), generator.getrandbits(64))
  )
  order = generator.choice(('little', 'little', 'big'))
  start = generator.randrange(len(data))
  piece = (number % 256**width).to_bytes(width, order)
  data[start : start + width] = piece


def _change_digits(data, generator):
  """Replaces a number that is written in digits, as JSON's are."""
  places = [i for i, byte in enumerate(data) if 48 <= byte <= 57]
  if places:
    start = generator.choice(places)
    number = generator.choice(('0', '-1', '1e308', '9' * 20, '9' * 5000))
    data[start : start + 1] = number.encode()


_DAMAGES = (
  *(_flip_bit, _flip_bit, _change_byte, _change_byte, _cut, _splice),
  *(_remove, _put_length, _put_length, _change_digits),
)
