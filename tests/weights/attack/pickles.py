"""Hostile files of PyTorch's format, written by hand."""

import io
import struct
import zipfile

OPEN = b'\x80\x02'
STOP = b'.'
REBUILD = b'ctorch._utils\n_rebuild_tensor_v2\n'


def text(value: str) -> bytes:
  """Returns what pushes a text."""
  data = value.encode('utf-8', 'surrogatepass')
  return b'X' + struct.pack('<I', len(data)) + data


def number(value: int) -> bytes:
  """Returns what pushes an integer of any size up to 255 bytes."""
  data = value.to_bytes(value.bit_length() // 8 + 1, 'little', signed=True)
  return b'\x8a' + bytes([len(data)]) + data


def sizes(values: tuple[int, ...]) -> bytes:
  """Returns what pushes a tuple of integers."""
  return b'(' + b''.join(number(value) for value in values) + b't'


def storage(key: str = '0', count: int = 4, kind: str = 'Float') -> bytes:
  """Returns what pushes a storage."""
  return (
    b'('
    + text('storage')
    + f'ctorch\n{kind}Storage\n'.encode()
    + text(key)
    + text('cpu')
    + number(count)
    + b'tQ'
  )


def tensor(
  of: bytes | None = None,
  offset: int = 0,
  shape: tuple[int, ...] = (4,),
  strides: tuple[int, ...] = (1,),
) -> bytes:
  """Returns what pushes a tensor of a storage."""
  parts = (number(offset), sizes(shape), sizes(strides))
  of = storage() if of is None else of
  return REBUILD + b'(' + of + b''.join(parts) + b'\x89}tR'


def put(index: int) -> bytes:
  """Returns what keeps the last value under a number."""
  return b'r' + struct.pack('<I', index)


def get(index: int) -> bytes:
  """Returns what pushes a value that was kept."""
  return b'j' + struct.pack('<I', index)


def one(value: bytes, name: str = 'w') -> bytes:
  """Returns a pickle of a dictionary with one entry."""
  return OPEN + b'}' + text(name) + value + b's' + STOP


def archive(
  data: bytes,
  *storages: bytes,
  more: dict[str, bytes] | None = None,
  **options,
) -> bytes:
  """Returns a file of a pickle and storages '0', '1', ... ."""
  file = io.BytesIO()
  with zipfile.ZipFile(file, 'w', **options) as whole:
    whole.writestr('a/data.pkl', data)
    for key, content in enumerate(storages):
      whole.writestr(f'a/data/{key}', content)
    for name, content in (more or {}).items():
      whole.writestr(name, content)
  return file.getvalue()


_FOUR = bytes(16)


def _nested(begin: bytes, end: bytes, depth: int) -> bytes:
  return begin * depth + end * depth


def _views(step: int) -> bytes:
  """Many tensors that are nearly the whole of one storage of 1.2 MB."""
  count = 300_000
  shape = (count - 2000,) if step == 1 else (2, (count - 2000) // 2)
  strides = (1,) if step == 1 else (1, 2)
  kept = storage('0', count) + put(0) + b'0'
  entries = [
    text(f'w{i}') + tensor(get(0), offset=i, shape=shape, strides=strides)
    for i in range(1800)
  ]
  data = OPEN + kept + b'}(' + b''.join(entries) + b'u' + STOP
  return archive(data, bytes(4 * count))


def _same_dictionary(levels: int, width: int) -> bytes:
  """Dictionaries whose entries are all the same dictionary."""
  code = b'}' + text('w') + tensor() + b's' + put(0)
  for level in range(levels):
    entries = b''.join(text(f'k{i}') + get(level) for i in range(width))
    code += b'0}(' + entries + b'u' + put(level + 1)
  return OPEN + code + STOP


def _cycle() -> bytes:
  """A dictionary whose entries are all itself: 366 bytes as an archive."""
  entries = b''.join(text(chr(97 + i)) + b'h\x00' for i in range(26))
  return OPEN + b'}q\x00(' + text('w') + tensor() + entries + b'u' + STOP


def _tensors_in_tensors(depth: int) -> bytes:
  return (
    OPEN
    + b'}'
    + text('w')
    + (REBUILD + b'(') * depth
    + b'N'
    + b'K\x00))\x89}tR' * depth
    + b's'
    + STOP
  )


def _entries(make, count: int) -> bytes:
  return OPEN + b'}(' + b''.join(make(i) for i in range(count)) + b'u' + STOP


def _change_sizes() -> bytes:
  """A storage that is one size in the archive and another unpacked."""
  data = bytearray(archive(one(tensor()), _FOUR))
  start = data.rindex(b'PK\1\2')
  data[start + 24 : start + 28] = struct.pack('<I', 2**31)
  return bytes(data)


def _overlapping() -> bytes:
  """An archive with 400 entries that are all the same 4 MB."""
  name = b'a/data/0'
  content = bytes(4 * 2**20)
  local = (
    b'PK\3\4'
    + struct.pack('<5H3I2H', 20, 0, 0, 0, 0, 0, 2**22, 2**22, 8, 0)
    + name
    + content
  )
  central = b''
  for i in range(400):
    central += b'PK\1\2' + struct.pack(
      '<6H3I5H2I', 20, 20, 0, 0, 0, 0, 0, 2**22, 2**22, 8, 0, 0, 0, 0, 0, 0
    )
    central += b'a/%06d' % i
  end = b'PK\5\6' + struct.pack(
    '<4H2IH', 0, 0, 400, 400, len(central), len(local), 0
  )
  return local + central + end


def _directory(count: int, extra: int) -> bytes:
  """A list of very many entries, or of entries with very many fields."""
  start = (
    b'PK\3\4' + struct.pack('<5H3I2H', 20, *(0,) * 4, 0, 0, 0, 1, 0) + b'a'
  )
  fields = b'\1\xff\0\0' * (extra // 4)
  central = b''.join(
    b'PK\1\2'
    + struct.pack(
      '<6H3I5H2I', *(20, 20, 0, 0, 0, 0, 0, 0, 0, 8, len(fields), 0, 0, 0, 0, 0)
    )
    + b'%08d' % i
    + fields
    for i in range(count)
  )
  # Of more entries than 65,535 the number is not looked at.
  end = b'PK\5\6' + struct.pack(
    '<4H2IH', 0, 0, count % 65536, count % 65536, len(central), len(start), 0
  )
  return start + central + end


def _change_crc() -> bytes:
  data = bytearray(archive(one(tensor()), b'\1' * 16))
  data[data.index(b'\1' * 16)] = 2
  return bytes(data)


def _encrypted() -> bytes:
  data = bytearray(archive(one(tensor()), _FOUR))
  data[data.index(b'PK\1\2') + 8] |= 1
  return bytes(data)


def _shaped(shape, strides=None, **options) -> bytes:
  strides = (1,) * len(shape) if strides is None else strides
  return archive(one(tensor(shape=shape, strides=strides, **options)), _FOUR)


def create_files() -> dict[str, bytes]:
  """Returns hostile files by name."""
  modulus = 2**61 - 1
  two_types = ((4, 'Float'), (8, 'Half'))
  return {
    'cycle_of_366_bytes': archive(_cycle()),
    'same_dictionary_again_and_again': archive(_same_dictionary(4, 500)),
    'empty_dictionary_again_and_again': archive(
      OPEN
      + b'}r\0\0\0\0'
      + b''.join(
        b'0}('
        + b''.join(text(f'{i}') + get(level) for i in range(2000))
        + b'u'
        + put(level + 1)
        for level in range(4)
      )
      + STOP
    ),
    'long_key_again_and_again': archive(
      OPEN
      + b'}'
      + text('k' * 2**20)
      + b'}s'
      + put(0)
      + b'0}('
      + b''.join(text(f'{i}') + get(0) for i in range(50_000))
      + b'u'
      + STOP
    ),
    'nested_tuples_as_key': archive(
      OPEN + b'}' + b')' + b'\x85' * 200_000 + b'Ns' + STOP
    ),
    'nested_tuples': archive(one(b')' + b'\x85' * 300_000)),
    'nested_tuples_as_name_of_a_storage': archive(
      OPEN
      + b'('
      + text('storage')
      + b'ctorch\nFloatStorage\n)'
      + b'\x85' * 200_000
      + text('cpu')
      + b'K\x01tQ'
      + STOP
    ),
    'nested_tuples_as_shape': archive(
      one(
        REBUILD
        + b'('
        + storage()
        + b'K\x00)'
        + b'\x85' * 200_000
        + b'K\x01\x85\x89}tR'
      ),
      _FOUR,
    ),
    'nested_lists': archive(one(_nested(b']', b'a', 200_000) + b'')),
    'nested_dictionaries': archive(
      OPEN + (b'}' + text('a')) * 100_000 + b'}' + b's' * 100_000 + STOP
    ),
    'tensors_in_tensors': archive(_tensors_in_tensors(60_000)),
    'list_in_itself': archive(one(b']q\x00h\x00a')),
    'lists_that_double': archive(
      one(b']' + b''.join(b'2\x86' for _ in range(2000)))
    ),
    'marks': archive(OPEN + b'(' * 900_000 + STOP),
    'instructions': archive(OPEN + b'N0' * 2_000_000 + STOP),
    'large_pickle': archive(one(text('a' * (40 * 2**20)))),
    'wide_text': archive(one(text('\U0001f600' * (7 * 2**20)))),
    'index_of_the_memo': archive(OPEN + b'}r\xff\xff\xff\x7f.'),
    'keys_of_one_hash': archive(
      _entries(lambda i: number(modulus * (i + 1)) + b'N', 200_000)
    ),
    'keys_of_8_bytes': archive(
      _entries(lambda i: number((i + 1) << 40) + b'N', 300_000)
    ),
    'long_integers': archive(
      _entries(lambda i: text(f'{i}') + number(2**2030), 20_000)
    ),
    'views_of_one_storage': _views(1),
    'copies_of_one_storage': _views(2),
    'names_of_one_tensor': archive(
      OPEN
      + tensor(storage('0', 2**20), shape=(2**20,))
      + put(0)
      + b'0}('
      + b''.join(text(f'w{i}') + get(0) for i in range(9000))
      + b'u'
      + STOP,
      bytes(2**22),
    ),
    'too_many_names': archive(
      _entries(lambda i: text(f'w{i}') + tensor(shape=(0,)), 11_000), _FOUR
    ),
    'stride_out_of_range': _shaped((4,), (2**62,)),
    'negative_stride': _shaped((4,), (-1,)),
    'negative_offset': _shaped((4,), offset=-4),
    'offset_out_of_range': _shaped((1,), offset=2**62),
    'shape_of_2_to_the_60': _shaped((2**60,), (0,)),
    'stride_of_0': _shaped((2, 2, 2), (0, 0, 1)),
    'a_thousand_dimensions': _shaped((1,) * 1000),
    'forty_dimensions_of_2_to_the_62': _shaped((2**62,) * 40, (0,) * 40),
    'nothing_of_2_to_the_62': _shaped((0, 2**62, 2**62)),
    'storage_of_two_types': archive(
      _entries(
        lambda i: text(f'w{i}') + tensor(storage('0', *two_types[i])), 2
      ),
      _FOUR,
    ),
    'storage_outside': archive(one(tensor(storage('../../etc/passwd'))), _FOUR),
    'storage_absolute': archive(one(tensor(storage('/etc/passwd'))), _FOUR),
    'unknown_byte_order': archive(
      one(tensor()), _FOUR, more={'a/byteorder': b'\x1b[2J'}
    ),
    'control_characters_in_a_name': archive(
      one(tensor(), 'w\x1b]0;owned\x07'), _FOUR
    ),
    'line_break_in_a_name': archive(one(tensor(), 'w\nError: x'), _FOUR),
    'surrogate_in_a_name': archive(one(tensor(), 'w\ud800'), _FOUR),
    'name_of_a_megabyte': archive(one(tensor(), 'w' * 2**20), _FOUR),
    'control_characters_in_a_global': archive(
      OPEN + b'cos\x1b[2J\nsystem\x07\n.'
    ),
    'global_of_a_megabyte': archive(OPEN + b'c' + b'o' * 2**20 + b'\nx\n.'),
    'control_characters_in_an_entry': archive(one(b'N', 'a\x1b[2J'), _FOUR),
    'numbers_that_are_none': archive(
      one(tensor()), struct.pack('<4f', 1, float('nan'), 2, float('inf'))
    ),
    'compressed': archive(
      one(tensor(storage('0', 2**26), shape=(2**26,))),
      bytes(2**28),
      compression=zipfile.ZIP_DEFLATED,
    ),
    'sizes_that_differ': _change_sizes(),
    'overlapping_entries': _overlapping(),
    'two_million_entries': _directory(2_000_000, 0),
    'sixty_thousand_entries': _directory(36_000, 0),
    'fields_of_64_kB': _directory(60, 65_000),
    'fields_of_64_kB_that_fit': _directory(30, 65_000),
    'wrong_checksum': _change_crc(),
    'encrypted': _encrypted(),
    'names_outside': archive(
      one(tensor()), _FOUR, more={'../../../tmp/owned': b'x', '/etc/x': b'y'}
    ),
    'two_pickles': archive(one(tensor()), _FOUR, more={'data.pkl': b'N.'}),
    'keras_archive': archive(one(b'N'), more={'model.weights.h5': b'../x'}),
    'empty_archive': b'PK\5\6' + bytes(18),
  }
