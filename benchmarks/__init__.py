"""Benchmarks: how fast the project is, beside others that do the same work in the same run.

``python -m benchmarks`` (``cli``) has a subcommand for each module in ``registry.MODULES``. Such a
module has options (``arguments``), measures, and yields rows, ratios and notes (``results``), of
which ``report`` and ``plots`` make tables, JSON and pictures.

Whatever is measured runs in processes of its own (``children``), each on the Python of its
``environments``: a worker module, most named after their benchmark, that speaks with its parent by
``worker.Parent``. Absolute figures say as much about the machine as about the code, so contenders
take turns, round by round, and a ratio is made of two neighbours in time.
"""
