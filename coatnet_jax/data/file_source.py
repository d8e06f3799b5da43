"""Pictures that are files in a directory, each with a class."""

import os
import pathlib
from collections.abc import Sequence

import numpy as np

from coatnet_jax.data.image_source import (
  CorruptImageError,
  ImageSource,
  find_sizes,
)
from coatnet_jax.data.picture_files import NotAPictureFileError, read_file
from coatnet_jax.data.picture_size import BYTES_PER_PIXEL
from coatnet_jax.errors import UserError
from coatnet_jax.texts import printable


class FileSource(ImageSource):
  """Image files of a directory, as bytes, in the order they are given in."""

  def __init__(
    self,
    directory: pathlib.Path,
    files: Sequence[tuple[int, str]],
    *,
    class_names: Sequence[str],
    description: str,
    data_set_size: int,
  ):
    """Takes what was found; reads nothing.

    Args:
      directory: directory that the paths are in.
      files: label and path in the directory of each image.
      class_names: name of each class, as the system has it.
      description: line for the terminal.
      data_set_size: number of images of all splits.
    """
    self.class_names = tuple(printable(name) for name in class_names)
    self.description = description
    self._directory = directory
    self._files = tuple(files)
    self._data_set_size = data_set_size

  @property
  def data_set_size(self) -> int:
    """The number of images of all splits."""
    return self._data_set_size

  def __len__(self):
    """The number of examples."""
    return len(self._files)

  def __getitem__(self, index):
    """Returns one example; see ImageSource."""
    label, _ = self._files[index]
    path = self.find_path(index)
    try:
      data = read_file(path, self.max_image_pixels * BYTES_PER_PIXEL)
      return {'image': data, 'label': label}
    except NotAPictureFileError as error:
      raise CorruptImageError(str(error)) from error
    except OSError as error:
      raise UserError(
        f'{printable(path)} cannot be read: {error.strerror}.'
      ) from error

  def describe(self, index):
    """Names the example for a log."""
    return printable(self.find_path(index))

  def list_files(self):
    """Yields the images' paths in the directory and sizes; see ImageSource."""
    paths = (self.find_path(index) for index in range(len(self)))
    yield from zip((path for _, path in self._files), find_sizes(paths))

  def find_labels(self):
    """Returns the labels, [N] int32, without reading files."""
    return np.array([label for label, _ in self._files], np.int32)

  def find_path(self, index):
    """Returns the file of an example; see ImageSource."""
    return self._directory / os.fspath(self._files[index][1])
