"""The sizes of every variant, to the last integer.

Where the numbers are from, of 1000 classes at the variant's own image size:

* `coatnet_0` to `coatnet_5`: an independent implementation of the same blocks,
  timm's `coatnet_0_224` to `_5_224`, with heads of 64 for the last; `coatnet_6`
  and `_7`: an analytic count that reproduces timm's. The paper's own sizes are
  rounded to millions.
* timm's variants: timm's models. `coatnet_3_rw_224` has another number there by
  default, for ImageNet-12k's classes.
* `coatnet_N_keras_cv`: that library's models, trainable parameters.
* Layouts, ablations and `vit_rel`: ours, and the formula in
  `test_the_paper_s_blocks_by_formula`.
* Those for small pictures: ours; `cnn_stem_vit` by hand in its own test.
"""

import re

import jax
import jax.numpy as jnp
import pytest

import coatnet_jax
from coatnet_jax.errors import UserError
from coatnet_jax.models.cost import count_parameters
from coatnet_jax.models.variants import get_variant
from tests.quick_models import create_traced_model

COUNTS = {
  # The paper's.
  'coatnet_0': 25_036_820,
  'coatnet_1': 42_225_776,
  'coatnet_2': 74_684_744,
  'coatnet_3': 166_966_264,
  'coatnet_4': 275_425_288,
  'coatnet_5': 687_052_952,
  'coatnet_6': 1_348_435_040,
  'coatnet_6_d3072': 1_471_125_232,
  'coatnet_7': 2_441_972_728,
  # Its layouts and its control.
  'coatnet_0_cccc': 20_942_312,
  'coatnet_0_ccct': 23_533_592,
  'coatnet_0_cctt': 25_036_820,
  'coatnet_0_cttt': 25_304_246,
  'coatnet_1_cccc': 35_558_168,
  'coatnet_1_ccct': 38_149_448,
  'coatnet_1_cctt': 42_225_776,
  'coatnet_1_cttt': 42_742_196,
  'coatnet_2_cccc': 62_747_176,
  'coatnet_2_ccct': 67_381_864,
  'coatnet_2_cctt': 74_684_744,
  'coatnet_2_cttt': 75_578_104,
  'coatnet_3_cccc': 139_917_640,
  'coatnet_3_ccct': 150_408_616,
  'coatnet_3_cctt': 166_966_264,
  'coatnet_3_cttt': 168_920_704,
  'coatnet_4_cccc': 232_113_928,
  'coatnet_4_ccct': 242_604_904,
  'coatnet_4_cctt': 275_425_288,
  'coatnet_4_cttt': 279_260_440,
  'coatnet_5_cccc': 577_397_416,
  'coatnet_5_ccct': 595_568_872,
  'coatnet_5_cctt': 687_052_952,
  'coatnet_5_cttt': 693_481_720,
  'vit_rel': 25_793_872,
  # Its ablations.
  'coatnet_0_head64': 25_010_894,
  'coatnet_0_mbconv_layer_norm': 25_036_820,
  'coatnet_0_no_relative_attention': 24_984_968,
  'coatnet_0_strided_depthwise': 25_036_820,
  'coatnet_1_head64': 42_160_484,
  'coatnet_1_mbconv_layer_norm': 42_225_776,
  'coatnet_1_no_relative_attention': 42_095_192,
  'coatnet_1_strided_depthwise': 42_225_776,
  'coatnet_2_head64': 74_597_688,
  'coatnet_2_mbconv_layer_norm': 74_684_744,
  'coatnet_2_no_relative_attention': 74_510_632,
  'coatnet_2_s2_2_s3_18': 84_658_824,
  'coatnet_2_s2_8_s3_12': 69_697_704,
  'coatnet_2_strided_depthwise': 74_684_744,
  'coatnet_3_head64': 166_835_680,
  'coatnet_3_mbconv_layer_norm': 166_966_264,
  'coatnet_3_no_relative_attention': 166_705_096,
  'coatnet_3_s2_2_s3_18': 189_398_488,
  'coatnet_3_strided_depthwise': 166_966_264,
  'coatnet_4_head64': 275_172_232,
  'coatnet_4_mbconv_layer_norm': 275_425_288,
  'coatnet_4_no_relative_attention': 274_919_176,
  'coatnet_4_strided_depthwise': 275_425_288,
  # timm's; the 160 px of `test_coatnet`.
  'coatnet_0_224': 25_036_820,
  'coatnet_0_rw_224': 27_435_562,
  'coatnet_1_224': 42_225_776,
  'coatnet_1_rw_224': 41_721_502,
  'coatnet_2_224': 74_684_744,
  'coatnet_2_rw_224': 73_868_400,
  'coatnet_3_224': 166_966_264,
  'coatnet_3_rw_224': 165_173_428,
  'coatnet_4_224': 275_425_288,
  'coatnet_5_224': 687_472_008,
  'coatnet_bn_0_rw_224': 27_435_562,
  'coatnet_nano_cc_224': 13_757_328,
  'coatnet_nano_rw_224': 15_141_244,
  'coatnet_pico_rw_224': 10_851_364,
  'coatnet_rmlp_0_rw_224': 27_446_074,
  'coatnet_rmlp_1_rw2_224': 41_724_622,
  'coatnet_rmlp_1_rw_224': 41_691_982,
  'coatnet_rmlp_2_rw_224': 73_881_264,
  'coatnet_rmlp_2_rw_384': 73_881_264,
  'coatnet_rmlp_3_rw_224': 165_152_788,
  'coatnet_rmlp_nano_rw_224': 15_145_116,
  'coatnext_nano_rw_224': 14_701_244,
  'test_coatnet': 575_480,
  # keras_cv_attention_models'.
  'coatnet_0_keras_cv': 23_279_570,
  'coatnet_1_keras_cv': 40_436_846,
  'coatnet_2_keras_cv': 71_613_904,
  'coatnet_3_keras_cv': 160_135_876,
  'coatnet_4_keras_cv': 268_495_828,
  'coatnet_5_keras_cv': 674_417_200,
  'coatnet_6_keras_cv': 1_333_928_982,
  'coatnet_7_keras_cv': 2_410_874_904,
  'coatnet_t_keras_cv': 14_741_884,
  # For small pictures.
  'coatnet_mini': 243_160,
  'coatnet_small': 1_731_524,
  'coatnet_micro_cccc': 327_440,
  'coatnet_micro_ccct': 338_580,
  'coatnet_micro_cctt': 349_720,
  'coatnet_micro_cttt': 363_932,
  'coatnet_micro_no_relative_attention': 348_368,
  'vit_rel_micro': 319_874,
  'cnn_stem_vit': 20_121_128,
}

# Without the tanh layer of the head; without the head; the paper's millions.
PAPER = {
  'coatnet_0': (24_446_228, 23_675_692, 25),
  'coatnet_1': (41_635_184, 40_864_648, 42),
  'coatnet_2': (73_635_144, 72_608_096, 75),
  'coatnet_3': (164_605_432, 163_065_360, 168),
  'coatnet_4': (273_064_456, 271_524_384, 275),
  'coatnet_5': (682_856_600, 680_803_504, 688),
  'coatnet_6': (1_344_238_688, 1_342_185_592, None),
  'coatnet_6_d3072': (1_461_684_976, 1_458_605_832, 1470),
  'coatnet_7': (2_432_532_472, 2_429_453_328, 2440),
}

# At 384 and at 512 px, where the tables of relative positions are larger.
LARGER_IMAGES = {
  'coatnet_0': (25_142_900, 25_269_236),
  'coatnet_1': (42_491_696, 42_808_112),
  'coatnet_2': (75_039_304, 75_461_192),
  'coatnet_3': (167_498_104, 168_130_936),
  'coatnet_4': (276_454_408, 277_678_600),
}


def _slow_if(is_slow, name):
  marks = (pytest.mark.slow, pytest.mark.rotating) if is_slow else ()
  return pytest.param(name, marks=marks)


def _count(tree):
  return sum(leaf.size for leaf in jax.tree.leaves(tree))


def test_every_variant_is_counted_here():
  assert sorted(COUNTS) == coatnet_jax.list_variants()


# The layouts and ablations of -0 stand for those of the larger ones.
@pytest.mark.parametrize(
  'name',
  [_slow_if(re.match('coatnet_[1-7]_(?!rw_)', name), name) for name in COUNTS],
)
def test_sizes(name):
  model = create_traced_model(name)
  height, width = get_variant(name).image_size
  output, variables = jax.eval_shape(
    lambda x: model.init_with_output(jax.random.key(0), x, train=False),
    jax.ShapeDtypeStruct((2, height, width, 3), jnp.float32),
  )
  params = variables['params']
  assert output.shape == (2, 1000)
  assert _count(params) == COUNTS[name]
  if name in PAPER:
    no_pre_logits, backbone, millions = PAPER[name]
    assert _count(params) - _count(params['head_pre_logits']) == no_pre_logits
    head = [part for key, part in params.items() if key.startswith('head_')]
    assert _count(params) - _count(head) == backbone
    if millions is not None:
      assert _count(params) / 1e6 == pytest.approx(millions, rel=0.007)


@pytest.mark.parametrize(
  'name', [_slow_if(name != 'coatnet_0', name) for name in LARGER_IMAGES]
)
def test_sizes_for_larger_images(name):
  model = create_traced_model(name)
  for size, expected in zip((384, 512), LARGER_IMAGES[name], strict=True):
    assert count_parameters(model, (size, size)) == expected


# Widths of S0 to S4, numbers of blocks of S1 to S4.
FORMULA = {
  'coatnet_0': ((64, 96, 192, 384, 768), (2, 3, 5, 2)),
  'coatnet_1': ((64, 96, 192, 384, 768), (2, 6, 14, 2)),
  'coatnet_2': ((128, 128, 256, 512, 1024), (2, 6, 14, 2)),
  'coatnet_2_s2_2_s3_18': ((128, 128, 256, 512, 1024), (2, 2, 18, 2)),
  'coatnet_2_s2_8_s3_12': ((128, 128, 256, 512, 1024), (2, 8, 12, 2)),
  'coatnet_3': ((192, 192, 384, 768, 1536), (2, 6, 14, 2)),
  'coatnet_3_s2_2_s3_18': ((192, 192, 384, 768, 1536), (2, 2, 18, 2)),
  'coatnet_4': ((192, 192, 384, 768, 1536), (2, 12, 28, 2)),
  'coatnet_5': ((192, 256, 512, 1280, 2048), (2, 12, 28, 2)),
}


def _paper_count(widths, num_blocks, layout, head_dim, *, tables=True):
  """Counts a model of the paper's blocks, at 224 px."""
  stem = widths[0]
  total = 27 * stem + 2 * stem + 9 * stem**2
  before = stem
  for width, number, kind, grid in zip(
    widths[1:], num_blocks, layout, (56, 28, 14, 7), strict=True
  ):
    for _ in range(number):
      if kind == 'c':
        hidden = 4 * width
        total += 2 * before + before * hidden  # pre_norm, expand
        total += 2 * hidden + 9 * hidden + 2 * hidden  # norm, depthwise, norm
        squeezed = width // 4
        total += hidden * squeezed + squeezed + squeezed * hidden + hidden
        total += hidden * width + width  # shrink
      else:
        total += 2 * before + 3 * (before * width + width)  # norm, q, k, v
        total += width**2 + width  # out
        total += tables * (width // head_dim) * (2 * grid - 1) ** 2
        total += 2 * width + 8 * width**2 + 4 * width + width  # norm, FFN
      if before != width:
        total += before * width + width  # shortcut
      before = width
  # Norm, tanh layer, logits.
  return total + 2 * before + before**2 + before + 1000 * before + 1000


def test_the_paper_s_blocks_by_formula():
  counts = {}
  for name, (widths, num_blocks) in FORMULA.items():
    head_dim = 64 if name == 'coatnet_5' else 32
    counts[name] = _paper_count(widths, num_blocks, 'cctt', head_dim)
    if '_s2_' in name:
      continue
    for layout in ('cccc', 'ccct', 'cctt', 'cttt'):
      counts[f'{name}_{layout}'] = _paper_count(
        widths, num_blocks, layout, head_dim
      )
    if name == 'coatnet_5':
      continue
    counts[f'{name}_head64'] = _paper_count(widths, num_blocks, 'cctt', 64)
    counts[f'{name}_no_relative_attention'] = _paper_count(
      widths, num_blocks, 'cctt', 32, tables=False
    )
    # Same parameters, used otherwise.
    counts[f'{name}_mbconv_layer_norm'] = counts[name]
    counts[f'{name}_strided_depthwise'] = counts[name]
  assert counts == {name: COUNTS[name] for name in counts}
  assert {name for name in COUNTS if 'head64' in name} <= set(counts)


def test_vit_rel_by_formula():
  width, grid = 384, 224 // 16
  block = 12 * width**2 + 13 * width + (width // 32) * (2 * grid - 1) ** 2
  patches = 16 * 16 * 3 * width + width
  head = 2 * width + width**2 + width + 1000 * width + 1000
  assert patches + 14 * block + head == COUNTS['vit_rel']


def test_layouts_of_the_study_are_about_as_large():
  sizes = [COUNTS[name] for name in coatnet_jax.list_variants('*micro*')]
  # With the 10 classes of the study, 990 fewer logits.
  sizes = [size - 990 * 65 for size in sizes]
  assert len(sizes) == 6
  assert max(sizes) < 1.2 * min(sizes)


@pytest.mark.parametrize(
  ('name', 'size', 'grids'),
  [
    ('coatnet_mini', 28, [14, 14, 7, 7, 7]),
    ('coatnet_mini', 32, [16, 16, 8, 8, 8]),
    ('coatnet_micro_cttt', 28, [14, 14, 7, 7, 7]),
    ('coatnet_small', 32, [16, 16, 8, 8, 4]),
    ('coatnet_small', 64, [32, 32, 16, 16, 8]),
  ],
)
def test_small_variants_keep_positions_for_attention(name, size, grids):
  model = coatnet_jax.create_model(name, num_classes=10)
  images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)

  def forward(x):
    variables = model.init(jax.random.key(0), x, train=False)
    return model.apply(variables, x, train=False, mutable=['intermediates'])

  maps = jax.eval_shape(forward, images)[1]['intermediates']
  assert [maps[f's{i}'].shape[1:3] for i in range(5)] == [(g, g) for g in grids]


def test_list_variants_filters():
  assert coatnet_jax.list_variants('coatnet_6*') == [
    'coatnet_6',
    'coatnet_6_d3072',
    'coatnet_6_keras_cv',
  ]
  assert coatnet_jax.list_variants('resnet*') == []


def test_an_unknown_variant_is_told_with_those_like_it():
  with pytest.raises(
    UserError,
    match=r"'coatnet_8'; it must .*tools.variants`.*; did you mean coatnet_7",
  ):
    coatnet_jax.create_model('coatnet_8')


def test_heads_must_fill_the_width():
  variant = coatnet_jax.create_model('coatnet_0').variant
  with pytest.raises(UserError, match='head_dim is 36; it must divide'):
    coatnet_jax.create_model(
      'coatnet_0', transformer=type(variant.transformer)(head_dim=36)
    )
