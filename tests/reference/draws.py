"""What is random, by the rules that the project documents.

The generators are primitives: `jax.random`, NumPy's Philox, Grain's
permutation. Which seed or key each draw is made with is stated here:

- A run's key is the second half of its seed's. A step's two keys, for MixUp and
  for stochastic depth, are the halves of the run's with the step folded in.
- Part i of a batch folds i into the latter. flax then folds in the SHA-1 hash
  of how often the key was asked for, once; block b of the network folds in b,
  counted from the first block over all stages; branch r of a block folds in r.
- Grain seeds what is random in a pipeline from the run's seed and how many
  transformations lie between: the order of an epoch is one after it, the
  augmentation three (order, repetition, augmentation). Epoch e adds e to the
  order's seed. The picture at place p of the endless sequence is augmented with
  Philox, whose counter is (0, 0, 0, p).
"""

import functools
import hashlib

import grain
import jax
import numpy as np


@functools.cache
def order(seed: int, epoch: int, length: int) -> list[int]:
  """Returns the numbers of the pictures of an epoch."""
  sequence = grain.MapDataset.range(length).shuffle(
    seed=(_grain_seed(seed, 1) + epoch) % 2**32
  )
  return [int(sequence[i]) for i in range(length)]


def augmentation_rng(seed: int, place: int) -> np.random.Generator:
  """Returns the generator of a place in the endless sequence of pictures."""
  bits = np.random.Philox(_grain_seed(seed, 3))
  state = bits.state
  state['state']['counter'] = np.array([0, 0, 0, place], np.uint64)
  bits.state = state
  return np.random.Generator(bits)


def _grain_seed(seed: int, depth: int) -> int:
  return int(np.random.SeedSequence([seed, depth]).generate_state(1)[0])


def step_keys(seed: int, step: int) -> tuple[jax.Array, jax.Array]:
  """Returns the keys of a step: of MixUp, and of stochastic depth."""
  run_key = jax.random.split(jax.random.key(seed))[1]
  mixup_key, depth_key = jax.random.split(jax.random.fold_in(run_key, step))
  return mixup_key, depth_key


def mixup_draws(
  key: jax.Array,
  size: int,
  image_size: tuple[int, int],
  alphas: tuple[float, float],
  probability: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Returns what MixUp and CutMix draw for each example of a batch.

  Args:
    key: MixUp's key of the step.
    size: size of the batch, B.
    image_size: (height, width) in pixels.
    alphas: alphas of MixUp and of CutMix, 0 where there is none; not both.
    probability: probability of CutMix, where there are both.

  Returns:
    Whether CutMix is chosen, [B]; what is kept, [B] in 0..1; row and column of
    the box's centre, [B, 2].
  """
  choice_key, weight_key, centre_key = jax.random.split(key, 3)
  if all(alphas):
    is_cutmix = jax.random.bernoulli(choice_key, probability, (size,))
  else:
    is_cutmix = np.full(size, not alphas[0])
  is_cutmix = np.asarray(is_cutmix)
  alpha = np.where(is_cutmix, alphas[1], alphas[0]).astype(np.float32)
  weights = jax.random.beta(weight_key, alpha, alpha)
  centres = jax.random.randint(
    centre_key, (size, 2), 0, np.array(image_size, np.int32)
  )
  return is_cutmix, np.asarray(weights, np.float64), np.asarray(centres)


def kept_branches(
  depth_key: jax.Array,
  part: int,
  block: int,
  branch: int,
  keep: float,
  size: int,
) -> np.ndarray:
  """Returns [B] bool: for which examples of a part a branch is kept."""
  key = jax.random.fold_in(depth_key, part)
  # What flax makes of the first time that a module asks for a key.
  digest = hashlib.sha1((1).to_bytes(1, 'big')).digest()
  key = jax.random.fold_in(key, np.uint32(int.from_bytes(digest[:4], 'big')))
  key = jax.random.fold_in(jax.random.fold_in(key, block), branch)
  return np.asarray(jax.random.bernoulli(key, np.float32(keep), (size,)))
