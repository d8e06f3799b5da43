"""timm's CoAtNets, run by PyTorch: what ours are compared with.

Used by the live comparison and by the script that writes the golden files.
Importing it needs torch and timm (requirements-parity.txt).
"""

from collections.abc import Mapping, Sequence

import numpy as np

from benchmarks import stand_ins
from tests.golden import timm_cases

stand_ins.install('torchvision')

import timm  # noqa: E402
import torch  # noqa: E402
from torch import nn  # noqa: E402


def create_meta_model(name: str, **overrides) -> nn.Module:
  """Returns a model that has shapes and no numbers.

  Args:
    name: of a timm model.
    **overrides: see `timm.create_model`; 1000 classes unless they say another
      number, for those too whose published weights have more.
  """
  with torch.device('meta'):
    return timm.create_model(name, **{'num_classes': 1000, **overrides})


def get_shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
  """Returns the keys and shapes of a model's state dict, in order."""
  return {key: tuple(value.shape) for key, value in model.state_dict().items()}


def count_parameters(model: nn.Module) -> int:
  """Returns how many numbers a model trains."""
  return sum(parameter.numel() for parameter in model.parameters())


def get_small_overrides(name: str) -> dict:
  """Returns what makes timm's model the small one of the same form."""
  sizes = timm_cases.get_small_sizes(name)
  head = {}
  if timm_cases.has_pre_logits(name):
    head['head_hidden_size'] = sizes['embed_dim'][-1]
  return {
    **sizes,
    **head,
    'img_size': timm_cases.SMALL_IMAGE_SIZE,
    'num_classes': timm_cases.SMALL_NUM_CLASSES,
  }


def create_model(
  name: str, state: Mapping[str, np.ndarray], **overrides
) -> nn.Module:
  """Returns a model with these weights and without dropout.

  The weights are not copied.

  Args:
    name: of a timm model.
    state: its whole state dict.
    **overrides: see `create_meta_model`.
  """
  model = timm.create_model(name, **{'num_classes': 1000, **overrides})
  tensors = {key: torch.from_numpy(value) for key, value in state.items()}
  model.load_state_dict(tensors, strict=True, assign=True)
  for module in model.modules():
    # The MLPs of relative positions drop an eighth; drop path is off already.
    if isinstance(module, nn.Dropout):
      module.p = 0.0
  return model


def compute_outputs(
  model: nn.Module, images: np.ndarray
) -> dict[str, np.ndarray]:
  """Returns what our model has to give; changes the running statistics.

  Args:
    model: from `create_model`.
    images: [B, H, W, 3] float32.

  Returns:
    float32 'logits' [B, num_classes] and 'maps/s0' to 'maps/s4' [B, H, W, C]
    of an evaluation; 'stats/KEY' [C], the running statistics after one forward
    pass in training, and 'counts/NORM', int64, how many values of a channel
    they are of.
  """
  inputs = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
  outputs = {}
  with torch.inference_mode():
    model.eval()
    last_map, maps = model.forward_intermediates(inputs)
    outputs['logits'] = model.forward_head(last_map)
    for name, array in zip(timm_cases.MAP_NAMES, maps, strict=True):
      outputs[f'maps/{name}'] = array.permute(0, 2, 3, 1)

    model.train()
    norms = {
      name: module
      for name, module in model.named_modules()
      if isinstance(module, nn.BatchNorm2d)
    }
    for name, module in norms.items():
      module.register_forward_pre_hook(
        lambda _, args, name=name: outputs.update(
          {f'counts/{name}': torch.tensor(args[0][:, 0].numel())}
        )
      )
    model(inputs)
    for name, module in norms.items():
      outputs[f'stats/{name}.running_mean'] = module.running_mean
      outputs[f'stats/{name}.running_var'] = module.running_var
  return {key: np.array(value.numpy()) for key, value in outputs.items()}


def create_start_of_training() -> dict[str, np.ndarray]:
  """Returns a state dict of `test_coatnet` to train from.

  Kernels are as timm initialises them with seed 0; all that timm starts from
  one constant is random, as in `randomise_state`; the running statistics are
  those of a batch.
  """
  torch.manual_seed(0)
  model = timm.create_model('test_coatnet')
  state = {key: value.numpy() for key, value in model.state_dict().items()}
  random = timm_cases.randomise_state(
    {key: value.shape for key, value in state.items()}
  )
  state = {
    key: value if value.ndim > 1 and 'table' not in key else random[key]
    for key, value in state.items()
  }
  model = create_model('test_coatnet', state)
  for module in model.modules():
    if isinstance(module, nn.BatchNorm2d):
      module.momentum = 1.0
  images = timm_cases.create_images(8, (160, 160), seed=2)
  compute_outputs(model, timm_cases.normalise(images))
  return {key: value.numpy() for key, value in model.state_dict().items()}


def train(
  model: nn.Module,
  batches: Sequence[Mapping[str, np.ndarray]],
  *,
  learning_rate: float,
  weight_decay: float,
  clip_norm: float,
) -> np.ndarray:
  """Trains a model with AdamW, and returns the loss of each batch, float32.

  Args:
    model: from `create_model`; changed.
    batches: 'image' [B, H, W, 3] uint8 and 'label' [B] int32.
    learning_rate: constant.
    weight_decay: of kernels; biases, norms and tables are not decayed.
    clip_norm: gradients with a larger global norm are scaled down to it.
  """
  model.train()
  groups = ([], [])
  for name, parameter in model.named_parameters():
    decays = parameter.ndim > 1 and not name.endswith('_table')
    groups[decays].append(parameter)
  optimizer = torch.optim.AdamW(
    [
      {'params': groups[False], 'weight_decay': 0.0},
      {'params': groups[True], 'weight_decay': weight_decay},
    ],
    lr=learning_rate,
    betas=(0.9, 0.999),
    eps=1e-8,
  )
  losses = []
  for batch in batches:
    images = timm_cases.normalise(batch['image']).transpose(0, 3, 1, 2)
    logits = model(torch.from_numpy(images.copy()))
    labels = torch.from_numpy(batch['label']).long()
    loss = nn.functional.cross_entropy(logits, labels)
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
    optimizer.step()
    losses.append(loss.item())
  return np.array(losses, np.float32)
