"""Makes what whole runs are compared with anew, here and now, by PyTorch.

Needs requirements-parity.txt:

    python -m pytest -m parity --numprocesses=0 tests/parity
"""

import pathlib

import numpy as np
import pytest

from tests.golden import make_train_step_golden
from tests.reference.comparison import (
  compute_scales,
  digests_agree,
  find_differences,
)

pytestmark = pytest.mark.parity

GOLDEN = pathlib.Path(__file__).parents[1] / 'golden' / 'train_step.npz'


# A minute on a quiet machine of two cores: 66 runs.
@pytest.mark.timeout(3600)
def test_the_reference_gives_the_golden_file():
  made, made_digests = make_train_step_golden.read_golden(
    make_train_step_golden.create_golden()
  )
  with np.load(GOLDEN) as file:
    kept, kept_digests = make_train_step_golden.read_golden(file)
  assert not list(find_differences(made, kept))
  assert set(made_digests) == set(kept_digests)
  scales = compute_scales(kept)
  for name, digest in made_digests.items():
    assert digests_agree(digest, kept_digests[name], scales), name
