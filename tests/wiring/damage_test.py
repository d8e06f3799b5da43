"""How many damaged images stop a run."""

import numpy as np
import pytest

from coatnet_jax.errors import UserError
from tests.wiring import runs
from tests.wiring.pictures import Pictures
from tests.wiring.registry import proves


@proves('data.max_damaged_fraction')
def test_more_damaged_images_than_allowed_stop_training():
  whole = np.zeros((8, 8, 3), np.uint8)
  source = Pictures(
    [b'damaged' if k in (0, 5, 10) else whole for k in range(16)]
  )
  for allowed, stops in ((0.0, True), (2 / 16, True), (3 / 16, False)):
    run = runs.create_run({'data.max_damaged_fraction': allowed}, source=source)
    if stops:
      with pytest.raises(UserError, match='max_damaged_fraction allows'):
        runs.record_loop(run)
    else:
      labels = np.concatenate(runs.record_loop(run).labels[:2])
      # Each is replaced by the next, of the next class.
      assert np.bincount(labels).tolist() == [3, 4, 4, 5]
