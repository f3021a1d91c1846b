"""Sound at a fraction of its rate: the filter that training, embedders and clients share.

NumPy only: a serving client loads no TensorFlow. ``vatt_tf.data.input.sampling`` computes the same
sums in the graph of a data set, with the coefficients of this module.
"""

from __future__ import annotations

import functools

import numpy as np

# `prepare` stores this many samples per second unless told otherwise; so do DMVR's data sets.
STORED_RATE = 48_000
# Samples of the result on each side of a filter's centre.
REACH = 32
# Half amplitude, as a fraction of the result's Nyquist frequency.
_CUTOFF = 0.95
# Kaiser window: 90 dB of attenuation from 1.04 of the Nyquist frequency on, less than 0.01 dB of
# ripple up to 0.86.
_BETA = 9.0
# 192 kHz to 8 kHz. The filter grows with the step, which a record names: more is refused before
# it is allocated.
MOST_STEP = 24


@functools.lru_cache(maxsize=MOST_STEP)
def low_pass(step: int) -> np.ndarray:
    """Coefficients of the filter before every ``step``-th sample is taken.

    Args:
        step: Samples per sample of the result.

    Returns:
        float64 ``[2 * REACH * step + 1]``, a windowed sinc whose sum is 1.
    """
    places = np.arange(-REACH * step, REACH * step + 1) / step
    taps: np.ndarray = np.sinc(_CUTOFF * places) * np.kaiser(len(places), _BETA)
    return taps / taps.sum()


def read_rate(sample_rate: int) -> int:
    """Samples per second at which a file is read for a clip of ``sample_rate``.

    Files take the way of the shards: to the rate of these by FFmpeg's filter, from there to that of
    the clip as in training.
    """
    step, rest = divmod(STORED_RATE, sample_rate)
    return STORED_RATE if rest == 0 and step <= MOST_STEP else sample_rate


def reduced(samples: np.ndarray, first: int, count: int, step: int, resampling: str) -> np.ndarray:
    """Samples ``first``, ``first + step``, ... of a signal.

    Args:
        samples: float32 ``[n]``; silence before and after.
        first: Place of the first one.
        count: How many.
        step: From one to the next.
        resampling: ``"filtered"``: frequencies that the result cannot hold are taken out;
            ``"strided"``: they are heard as others.

    Returns:
        float32 ``[count]``.
    """
    reach = REACH * step if step > 1 and resampling == "filtered" else 0
    begin, end = first - reach, first + (count - 1) * step + reach + 1
    piece = samples[max(begin, 0) : max(end, 0)]
    piece = np.pad(piece, (max(-begin, 0), 0))
    piece = np.pad(piece, (0, end - begin - len(piece)))
    if not reach:
        return piece[::step]
    taps = low_pass(step).astype(np.float32)
    # One correlation for each phase of the filter: no sum is computed that is then left out.
    phases = (np.correlate(piece[p::step], taps[p::step], "valid")[:count] for p in range(step))
    return np.sum(list(phases), axis=0)
