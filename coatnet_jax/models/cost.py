"""What a model costs: its parameters, and its multiply-adds for one image.

Both come from tracing: nothing is computed and no array is made. Multiply-adds
are those of convolutions and matrix products, as the field counts them; the
paper's FLOPs are multiply-adds too, and a few percent more, for the elementwise
work. Not here: time and memory, which only a compiled program has.
"""

import dataclasses
import math
from collections.abc import Iterator, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.extend import core

from coatnet_jax.models.coatnet import CoAtNet


@dataclasses.dataclass(frozen=True)
class Cost:
  """What a model costs at one image size.

  Attributes:
    parameters: trainable numbers, without the running statistics.
    multiply_adds: number for one image, of convolutions and matrix products.
  """

  parameters: int
  multiply_adds: int


def count_parameters(
  model: nn.Module, image_size: tuple[int, int], *, in_channels: int = 3
) -> int:
  """Counts the trainable parameters.

  >>> from coatnet_jax.models.factory import create_model
  >>> model = create_model('coatnet_mini', num_classes=10)
  >>> f'{count_parameters(model, (32, 32)):,}'
  '179,034'

  Args:
    model: model of images [B, H, W, in_channels], from `create_model`.
    image_size: (height, width); tables of relative positions grow with it.
    in_channels: number of channels of the images.

  Raises:
    UserError: a size that the model does not take.
  """
  images = _create_image(image_size, in_channels)
  _, variables = jax.eval_shape(_init_with_output(model), images)
  return _count_parameters(variables)


def count_cost(
  model: nn.Module, image_size: tuple[int, int], *, in_channels: int = 3
) -> Cost:
  """Counts parameters and multiply-adds, tracing once.

  A convolution counts as a dense sliding window: output positions x kernel
  taps x input channels of its group x output channels, with taps on the
  padding. What does not depend on the image, such as expanding a table of
  relative positions, does not count: it can be done once for all images.

  Relative attention counts as its definition computes it, however the model
  does: a kernel pads and tiles, and how often its products are computed cannot
  be read off a program.

  >>> from coatnet_jax.models.factory import create_model
  >>> cost = count_cost(create_model('coatnet_mini', num_classes=10), (32, 32))
  >>> f'{cost.multiply_adds:,}'
  '11,951,744'

  Args:
    model: model of images [B, H, W, in_channels], from `create_model`.
    image_size: (height, width).
    in_channels: number of channels of the images.

  Raises:
    UserError: a size that the model does not take.
    NotImplementedError: there are products that cannot be counted.
  """
  if isinstance(model, CoAtNet):
    model = model.clone(
      compute=dataclasses.replace(model.compute, attention='reference')
    )
  images = _create_image(image_size, in_channels)
  program, (_, variables) = jax.make_jaxpr(
    _init_with_output(model), return_shape=True
  )(images)
  return Cost(
    parameters=_count_parameters(variables),
    multiply_adds=count_program_multiply_adds(program.jaxpr),
  )


def _create_image(image_size, in_channels):
  return jax.ShapeDtypeStruct((1, *image_size, in_channels), jnp.float32)


def _init_with_output(model):
  """Returns the function images -> (outputs, variables).

  The images are its only argument, so what is drawn for the parameters does
  not depend on an argument, and is not counted.
  """
  return lambda images: model.init_with_output(
    jax.random.key(0), images, train=False
  )


def _count_parameters(variables):
  leaves = jax.tree.leaves(variables['params'])
  return sum(math.prod(leaf.shape) for leaf in leaves)


def count_program_multiply_adds(
  program: core.Jaxpr, varies: Sequence[bool] | None = None
) -> int:
  """Counts the multiply-adds of a traced program and all that it calls.

  Where a program has several forms, one per platform, that with most products
  counts: on a CPU, a depthwise convolution is written without any.

  >>> product = jax.make_jaxpr(jnp.dot)(jnp.ones((2, 3)), jnp.ones((3, 4)))
  >>> count_program_multiply_adds(product.jaxpr)
  24

  Args:
    program: `jaxpr` of what `jax.make_jaxpr` returns.
    varies: whether what depends on an argument counts, for each; all if None.

  Raises:
    NotImplementedError: there are products, in a loop or a kernel, of which the
      program does not say how often they are computed.
  """
  if varies is None:
    varies = [True] * len(program.invars)
  varying = {v for v, is_varying in zip(program.invars, varies) if is_varying}
  total = 0
  for equation in program.eqns:
    inputs = [
      not isinstance(v, core.Literal) and v in varying for v in equation.invars
    ]
    if any(inputs):
      varying.update(equation.outvars)
      total += _count_equation(equation, inputs)
  return total


def _count_equation(equation, inputs):
  """Counts one operation; `inputs` says which of its operands vary."""
  match equation.primitive.name:
    case 'dot_general':
      return _count_dot_general(equation)
    case 'conv_general_dilated':
      return _count_convolution(equation)
    case 'cond':
      # The first operand says which branch is taken.
      return max(
        count_program_multiply_adds(branch, inputs[1:])
        for branch in _list_called_programs(equation)
      )
    case 'scan':
      inputs = _vary_carry(equation, inputs)
      times = equation.params['length']
    case 'shard_map':
      # The program of one device, on its shard.
      mesh = equation.params['mesh']
      axes = equation.params['newly_manual_axes']
      times = math.prod(mesh.shape[axis] for axis in axes)
    case _:
      times = 1
  total = 0
  for program in _list_called_programs(equation):
    aligned = len(program.invars) == len(inputs)
    total += count_program_multiply_adds(program, inputs if aligned else None)
  if total and equation.primitive.name in _TIMES_UNKNOWN:
    raise NotImplementedError(
      f'Products in a {equation.primitive.name} cannot be counted: how often'
      ' they are computed is not part of the program.'
    )
  return times * total


def _vary_carry(equation, inputs):
  """Returns the inputs of a scan with all that it carries as varying.

  What is carried can come to vary, whatever it starts from. The operands are
  constants, what is carried, and what is sliced; the results are what is
  carried and what is stacked. Only what is sliced or stacked has an axis more
  outside than inside.
  """
  (body,) = _list_called_programs(equation)
  num_sliced = sum(
    outer.aval.ndim != inner.aval.ndim
    for outer, inner in zip(equation.invars, body.invars)
  )
  num_carried = sum(
    outer.aval.ndim == inner.aval.ndim
    for outer, inner in zip(equation.outvars, body.outvars)
  )
  num_constants = len(inputs) - num_sliced - num_carried
  return [
    is_varying or num_constants <= index < num_constants + num_carried
    for index, is_varying in enumerate(inputs)
  ]


# Operations that call programs a number of times that cannot be read off.
_TIMES_UNKNOWN = ('while', 'pallas_call')


def _count_dot_general(equation):
  (contracted, _), _ = equation.params['dimension_numbers']
  left = equation.invars[0].aval.shape
  return equation.outvars[0].aval.size * math.prod(left[i] for i in contracted)


def _count_convolution(equation):
  kernel = equation.invars[1].aval
  out_axis = equation.params['dimension_numbers'].rhs_spec[0]
  # The kernel's input channels are those of one group already.
  window = kernel.size // kernel.shape[out_axis]
  return equation.outvars[0].aval.size * window


def _list_called_programs(equation) -> Iterator[core.Jaxpr]:
  """Yields the programs among an operation's parameters."""
  for leaf in jax.tree.leaves(list(equation.params.values())):
    if isinstance(leaf, core.ClosedJaxpr):
      yield leaf.jaxpr
    elif isinstance(leaf, core.Jaxpr):
      yield leaf
