"""What says whether a data set is the one that a run was begun with."""

import hashlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from coatnet_jax.data.image_source import ImageSource
from coatnet_jax.strict_json import to_json


def identify_data(
  sources: Mapping[str, ImageSource],
) -> dict[str, dict[str, Any]]:
  """Returns the number of examples and the fingerprint of each split.

  To be called by all processes; the first one looks at the files, and tells the
  others.

  Args:
    sources: sources of a run's images, by split.

  Returns:
    {'examples': int, 'fingerprint': str} by split, as JSON values.
  """
  digests = [
    bytes.fromhex(compute_fingerprint(source))
    if jax.process_index() == 0
    else bytes(8)
    for source in sources.values()
  ]
  digests = multihost_utils.broadcast_one_to_all(
    np.frombuffer(b''.join(digests), np.uint8)
  )
  digests = np.asarray(digests, np.uint8).reshape(len(sources), -1)
  return {
    split: {'examples': len(source), 'fingerprint': digest.tobytes().hex()}
    for (split, source), digest in zip(sources.items(), digests)
  }


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
