"""The weights of a trained model as a file that says what it is of."""

import dataclasses
import pathlib

from coatnet_jax.checkpoints.metadata import find_model_arguments
from coatnet_jax.checkpoints.trained_model import TrainedModel
from coatnet_jax.weights import names, native, timm


def write_weights(
  trained: TrainedModel, path: pathlib.Path, *, as_timm: bool
) -> int:
  """Writes the weights of a model as a safetensors file.

  Args:
    trained: trained model, from `load_trained_model`.
    path: path of the new file.
    as_timm: whether in timm's layout, which must have the model, or in ours.

  Returns:
    The number of tensors.
  """
  if as_timm:
    tensors = timm.to_state_dict(trained.variables, trained.model.variant)
  else:
    tensors = names.to_tensors(trained.variables, native.naming)
  description = native.Description(
    model=find_model_arguments(trained.config.model, trained.model.num_classes),
    preprocessing=dataclasses.asdict(trained.preprocessing),
    class_names=trained.class_names,
  )
  native.write_tensors(path, tensors, description)
  return len(tensors)
