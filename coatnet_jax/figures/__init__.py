"""Pictures of numbers as PNG files, drawn by matplotlib.

    canvas.py             figures by pixels, their styles, and writing them
    labelled_map.py       an explanation's overlay with its words
    position_tables.py    learned relative-position tables
    stem_filters.py       filters of the stem's first convolution
    augmented_grid.py     what training makes of pictures
    evaluation_pictures.py  what an evaluation found, for TensorBoard
    rate_plot.py          learning-rate schedules
    run_curves.py         curves of several runs

All are right without colour: lines differ by dashes and marks too, and maps by
lightness. Command lines: `tools.explain`, `tools.visualize`.
"""
