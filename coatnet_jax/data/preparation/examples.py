"""What is going to be written: where each image lies, its class and name.

Columns, not objects: ImageNet-21k has 14 million images.
"""

import abc
import dataclasses
import hashlib

import numpy as np

_FRACTION_STEPS = 2**64
_HASHED_AT_ONCE = 100_000
# So that what is held out is spread over the shuffled order.
_SPLIT = b'split'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Examples:
  """Images of one split, not read yet.

  Attributes:
    names: [N] bytes, the name of each image in its record.
    labels: class of each image, [N] int32.
    files: [N] int32, the number of the file of its source that an image lies
      in.
    offsets: [N] int64, the place in that file, in bytes or in images.
    sizes: [N] int64, in bytes.
  """

  names: np.ndarray
  labels: np.ndarray
  files: np.ndarray
  offsets: np.ndarray
  sizes: np.ndarray

  def __len__(self):
    """The number of images."""
    return len(self.names)

  def select(self, indices: np.ndarray) -> 'Examples':
    """Returns those of some indices, or of a mask, in that order."""
    columns = {
      field.name: getattr(self, field.name)[indices]
      for field in dataclasses.fields(self)
    }
    return Examples(**columns)

  def shuffle(self) -> 'Examples':
    """Returns them in an order that the hashes of their names decide."""
    return self.select(np.argsort(hash_names(self.names), kind='stable'))

  def compute_fingerprint(self) -> str:
    """Returns a hash of all there is, to tell another input apart."""
    digest = hashlib.sha256()
    for field in dataclasses.fields(self):
      digest.update(np.ascontiguousarray(getattr(self, field.name)).tobytes())
    return digest.hexdigest()


def concatenate(parts: list[Examples]) -> Examples:
  """Returns the images of all parts, one part after the other."""
  columns = {
    field.name: np.concatenate([getattr(part, field.name) for part in parts])
    for field in dataclasses.fields(Examples)
  }
  return Examples(**columns)


class PreparationSource(abc.ABC):
  """Where images come from. Pickled to worker processes, so keeps no file open.

  Attributes:
    name: name of the data set, as in `config.data.name`.
    version: version of the data set, '1.0.0'.
    description: sentence for dataset_info.json.
    class_names: names of the classes, each at the place of its label.
    splits: images of each split.
    image_shape: shape as `tfds.features.Image` takes it.
    encoding_format: format that all images are made to be, 'jpeg' or 'png';
      None where both are kept.
    content: hash of the images, where names and sizes do not tell one data set
      from another.
    notes: lines for the report about what was left out before an image was
      read.
  """

  name: str
  version: str = '1.0.0'
  description: str
  class_names: tuple[str, ...]
  splits: dict[str, Examples]
  image_shape: tuple[int | None, int | None, int] = (None, None, 3)
  encoding_format: str | None = None
  content: str = ''
  notes: tuple[str, ...] = ()

  @abc.abstractmethod
  def read(self, examples: Examples, index: int) -> bytes:
    """Returns one image's file.

    Raises:
      OSError: it cannot be read.
    """


def hash_names(names: np.ndarray, purpose: bytes = b'') -> np.ndarray:
  """Returns [N] uint64, the same on every machine.

  Args:
    names: [N] bytes.
    purpose: use of the hashes; those for two purposes have nothing to do with
      each other.
  """
  hashes = np.empty(len(names), np.uint64)
  # In parts: a list of all names takes several times what the array does.
  for start in range(0, len(names), _HASHED_AT_ONCE):
    part = names[start : start + _HASHED_AT_ONCE].tolist()
    digests = b''.join(
      hashlib.blake2b(name, digest_size=8, person=purpose).digest()
      for name in part
    )
    hashes[start : start + len(part)] = np.frombuffer(digests, '>u8')
  return hashes


def hold_out_fraction(
  examples: Examples, fraction: float
) -> tuple[Examples, Examples]:
  """Divides images by their names alone.

  An image is on the same side whatever else is there.

  Args:
    examples: images to be divided.
    fraction: approximate part of them to hold out, 0 .. 1.

  Returns:
    The images for training, and those held out.
  """
  threshold = np.uint64(min(int(fraction * _FRACTION_STEPS), 2**64 - 1))
  held_out = hash_names(examples.names, _SPLIT) < threshold
  return examples.select(~held_out), examples.select(held_out)


def hold_out_per_class(
  examples: Examples, count: int
) -> tuple[Examples, Examples]:
  """Divides the images of each class by their names alone.

  Args:
    examples: images to be divided.
    count: number of images of each class to hold out; at most half of a class
      are.

  Returns:
    The images for training, and those held out.
  """
  order = np.lexsort((hash_names(examples.names, _SPLIT), examples.labels))
  class_sizes = np.bincount(examples.labels)
  first_of_class = np.cumsum(class_sizes) - class_sizes
  sorted_labels = examples.labels[order]
  place = np.arange(len(examples)) - first_of_class[sorted_labels]
  held_out = np.zeros(len(examples), bool)
  held_out[order] = place < np.minimum(count, class_sizes // 2)[sorted_labels]
  return examples.select(~held_out), examples.select(held_out)
