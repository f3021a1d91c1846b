"""Measures a row of the ablation; started by ``vatt_tf.benchmark --compare=ablation``.

A row is the package without what the rows behind it add.
"""

import sys

from vatt_tf import cli
from vatt_tf.benchmarking import worker
from vatt_tf.benchmarking.compared import ROWS


def main() -> int:
    parser = worker.parser()
    parser.add_argument("--row", choices=ROWS, required=True)
    flags = parser.parse_args()
    cli.before_tensorflow()
    return cli.run(lambda: _serve(flags))


def _serve(flags) -> int:
    from tests.reference.plain_vatt import PlainVATT
    from vatt_tf.errors import UserError

    made = worker.make_worker(flags)
    try:
        PlainVATT(made.config.model, {})  # The stock towers are the same model.
    except ValueError as error:
        raise UserError(f"--compare=ablation: {error}") from error
    switch_off(flags.row)
    return worker.serve_worker(made)


def switch_off(row: str, set_attribute=setattr) -> None:
    """Replaces in this process what the rows behind ``row`` add.

    Args:
        row: Its letter.
        set_attribute: ``setattr``, or that of a test, which takes it back.
    """
    import keras

    from tests.reference import stock_towers
    from vatt_tf.layers.dropout import Dropout
    from vatt_tf.layers.transformer import attention, blocks
    from vatt_tf.training.optimization import optimizer

    draw = Dropout.draw

    def whole_mask(self, shape, training, may_be_key=False):
        return draw(self, shape, training)

    def stock_mask(self, shape, training, may_be_key=False):
        if not training or not self.rate:
            return None
        return keras.random.uniform(shape, dtype="float32", seed=self.seed_stream) >= self.rate

    # Without keys of masks, chains are not compiled.
    set_attribute(Dropout, "draw", whole_mask if row == "d" else stock_mask)
    if row < "c":
        for module in (attention, blocks):
            set_attribute(
                module, "recompute", lambda function, *inputs, training: function(*inputs)
            )
    if row < "b":
        set_attribute(optimizer, "_Adam", keras.optimizers.Adam)
        for config, tower in stock_towers.TOWERS.items():
            set_attribute(
                config, "build", lambda self, tower=tower, **kwargs: tower(self, **kwargs)
            )


if __name__ == "__main__":
    sys.exit(main())
