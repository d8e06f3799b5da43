r"""The paper's layout study (its section 2.2) in small: a phase per layout.

Convolutions or attention in S1 to S4, patches and attention alone (`vit_rel`),
and the paper's layout without its relative positions, each with about 280,000
parameters, on the pictures that come with the code. `benchmarks/study.py` runs
all of them, with several seeds.

    python main.py --config=configs/layout_study.py:ccct --workdir=RUN

Every number is ours, chosen for the time on two CPU cores.
"""

from configs import quickstart, recipes

PHASES = {
  **{
    layout: {'model.name': f'coatnet_micro_{layout}'}
    for layout in ('cccc', 'ccct', 'cctt', 'cttt', 'no_relative_attention')
  },
  'vit_rel': {'model.name': 'vit_rel_micro'},
}


def get_config(layout='cctt'):
  """Returns the config of one layout."""
  column = recipes.choose_phase('the layout study', PHASES, layout)
  config = quickstart.get_config()
  config.update_from_flattened_dict(column)
  # The quick start's, with a rate at which attention without convolutions
  # learns too.
  config.schedule.peak_learning_rate = 2e-3
  config.evaluation.every_steps = 0
  return config
