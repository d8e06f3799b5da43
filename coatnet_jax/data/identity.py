"""What says whether a data set is the one that a run was begun with."""

import hashlib

from coatnet_jax.data.image_source import ImageSource
from coatnet_jax.strict_json import to_json


def compute_fingerprint(source: ImageSource) -> str:
  """Returns 16 hex digits that change where a source's examples do.

  They depend on the number of the examples, on the names of the classes, and on
  what `list_files` yields; not on where the data set lies, and not on the
  files' content beyond their sizes.

  Args:
    source: source of the examples.
  """
  digest = hashlib.sha256()
  for line in (len(source), source.class_names, *source.list_files()):
    digest.update(to_json(line).encode() + b'\n')
  return digest.hexdigest()[:16]
