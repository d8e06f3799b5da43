import numpy as np

from coatnet_jax.data.preparation.examples import Examples, hold_out_fraction


def test_what_is_held_out_does_not_follow_from_the_order():
  examples = Examples(
    names=np.array([f'{i:06d}.jpg'.encode() for i in range(4000)]),
    labels=np.zeros(4000, np.int32),
    files=np.zeros(4000, np.int32),
    offsets=np.arange(4000),
    sizes=np.ones(4000, np.int64),
  )
  train, held_out = hold_out_fraction(examples, 0.25)
  assert len(train) + len(held_out) == 4000
  first = set(examples.shuffle().names[:1000].tolist())
  both = len(first & set(held_out.names.tolist()))
  assert abs(both - 250) < 5 * (1000 * 0.25 * 0.75) ** 0.5
