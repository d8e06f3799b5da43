import bz2
import contextlib
import gzip
import io
import lzma
import os
import pathlib
import tarfile

import numpy as np
import pytest

from coatnet_jax.data.preparation.archives import Member, list_members
from coatnet_jax.errors import UserError
from tests.data.preparation.archive_examples import tar

FILES = {'a/first.txt': b'1' * 700, 'second.txt': b'', 'third.txt': b'3' * 512}


@pytest.fixture
def write(tmp_path):
  """Returns a function: bytes to the path of a file that has them."""

  def write(data: bytes) -> pathlib.Path:
    path = tmp_path / 'archive.tar'
    path.write_bytes(data)
    return path

  return write


def test_members_are_where_they_are_said_to_be(write):
  data = tar(FILES)
  members = list(list_members(write(data)))
  assert [member.name for member in members] == list(FILES)
  assert members[0].base_name == 'first.txt'
  for member in members:
    found = data[member.offset : member.offset + member.size]
    assert found == FILES[member.name]


def test_an_archive_in_an_archive_is_a_part_of_the_file(write):
  path = write(tar({'x.txt': b'x' * 100, 'inner.tar': tar(FILES)}))
  inner = list(list_members(path))[1]
  for member in list_members(path, inner):
    data = path.read_bytes()[member.offset : member.offset + member.size]
    assert data == FILES[member.name]


def test_long_names_and_other_tar_formats(write, tmp_path):
  name = '/'.join(['d' * 90] * 3)
  for tar_format in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
    path = tmp_path / 'long.tar'
    (tmp_path / 'x').write_bytes(b'abc')
    with tarfile.open(path, 'w', format=tar_format) as archive:
      archive.add(tmp_path / 'x', name)
    [member] = list_members(path)
    assert (member.name, member.size) == (name, 3)
    assert path.read_bytes()[member.offset :][:3] == b'abc'


def test_an_archive_without_members_has_none(write):
  assert list(list_members(write(tar({})))) == []


def test_an_archive_that_is_cut_anywhere_is_refused(write):
  data = tar(FILES)
  # What follows is the end: it takes a block of zeros.
  end = len(data.rstrip(b'\0'))
  assert end % 512 == 0
  for size in range(0, end + 512, 128):
    with pytest.raises(UserError, match=r'truncated|not a tar archive'):
      list(list_members(write(data[:size])))


def test_a_damaged_header_is_refused(write):
  data = bytearray(tar(FILES))
  second = data.index(b'second.txt')
  data[second : second + 300] = b'\xff' * 300
  with pytest.raises(UserError, match='truncated or damaged'):
    list(list_members(write(bytes(data))))


@pytest.mark.parametrize(
  'name', ['../evil.txt', '/etc/passwd', 'a/../../evil.txt']
)
def test_a_path_that_leads_outside_is_refused(write, name):
  with pytest.raises(UserError, match='a path that leads outside'):
    list(list_members(write(tar({name: b'x'}))))


@pytest.mark.parametrize(
  'kind', [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE]
)
def test_links_and_devices_are_refused(write, kind):
  def make_link(info):
    info.type, info.linkname, info.size = kind, '/etc/passwd', 0

  path = write(tar({'link.txt': b''}, make_link))
  with pytest.raises(UserError, match=r"'link.txt' that is a link or another"):
    list(list_members(path))


@pytest.mark.parametrize(
  ('data', 'message'),
  [
    (gzip.compress(tar(FILES)), r'compressed by gzip; .*, by gunzip, to the'),
    (bz2.compress(tar(FILES)), 'compressed by bzip2;'),
    (lzma.compress(tar(FILES)), 'compressed by xz;'),
    (b'\x28\xb5\x2f\xfd' + bytes(600), 'compressed by zstd;'),
    (b'PK\x03\x04' + bytes(600), 'compressed by zip;'),
    (b'<html>' * 200, 'is not a tar archive'),
    (b'', 'is empty or truncated'),
  ],
)
def test_other_kinds_of_file_are_refused(write, data, message):
  with pytest.raises(UserError, match=message):
    list(list_members(write(data)))


def test_a_missing_archive(tmp_path):
  with pytest.raises(UserError, match='No such file'):
    list(list_members(tmp_path / 'none.tar'))
  with pytest.raises(UserError, match='is a directory, not a file'):
    list(list_members(tmp_path, Member('', 0, 0)))


def _edit_header(data: bytes, **fields: bytes) -> bytes:
  """Returns a tar archive with fields of its first header changed."""
  places = {'name': 0, 'size': 124, 'type': 156}
  found = bytearray(data)
  for name, value in fields.items():
    found[places[name] : places[name] + len(value)] = value
  found[148:156] = b' ' * 8
  found[148:156] = b'%06o\0 ' % sum(found[:512])
  return bytes(found)


_REFUSED = r'damaged|truncated|special file|not a tar archive'
# Sizes as base 256 has them: -1, and 2**60.
MINUS_ONE = b'\xff' * 12
HUGE = b'\x80' + (2**60).to_bytes(11, 'big')


@pytest.mark.parametrize(
  'fields',
  [
    {'size': MINUS_ONE},
    {'size': HUGE},
    *({'type': kind, 'size': size} for kind in (b'L', b'x', b'S')
      for size in (MINUS_ONE, HUGE, b'00004000000')),
  ],
)  # fmt: skip
def test_sizes_that_cannot_be_are_refused(write, fields):
  path = write(_edit_header(tar({'x': bytes(3_000_000)}), **fields))
  with pytest.raises(UserError, match=_REFUSED):
    list(list_members(path))


def test_a_sparse_member_is_refused(write, tmp_path):
  data = tar({'x': b'abc'}, lambda info: setattr(info, 'type', b'S'))
  with pytest.raises(UserError, match='special file'):
    list(list_members(write(data)))
  # As PAX says it: a map of 10**12 parts.
  headers = {
    'GNU.sparse.major': '1',
    'GNU.sparse.minor': '0',
    'GNU.sparse.name': 'x',
    'GNU.sparse.realsize': str(2**60),
  }
  path = tmp_path / 'sparse.tar'
  with tarfile.open(path, 'w', format=tarfile.PAX_FORMAT) as archive:
    info = tarfile.TarInfo('x')
    info.pax_headers, info.size = headers, 3_000_000
    content = b'1000000000000\n' + b'1\n' * 1_499_993
    archive.addfile(info, io.BytesIO(content))
  with pytest.raises(UserError, match=_REFUSED):
    list(list_members(path))


def test_a_tar_with_any_flip_is_listed_or_refused(write):
  data = tar(FILES)
  rng = np.random.default_rng(0)
  for _ in range(300):
    found = bytearray(data)
    found[rng.integers(512 * 5)] ^= 1 << int(rng.integers(8))
    with contextlib.suppress(UserError):
      list(list_members(write(bytes(found))))


def test_a_pipe_is_no_archive(tmp_path):
  os.mkfifo(tmp_path / 'pipe.tar')
  with pytest.raises(UserError, match='is a named pipe, not a file'):
    list(list_members(tmp_path / 'pipe.tar'))
