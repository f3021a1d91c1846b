"""Processes that measure: answers, mistakes, and what is said when one dies."""

import functools

import pytest
import tensorflow as tf

from vatt_tf.benchmarking import memory
from vatt_tf.benchmarking.memory import peak_bytes, reset_peak, tensor_bytes
from vatt_tf.benchmarking.protocol import Subject
from vatt_tf.errors import UserError


def test_answers_and_errors():
    with Subject("tests.benchmarking.fake_worker", []) as subject:
        assert subject.ask(do="double", number=4) == {"number": 8}
        subject.prepare("sleep")
        answer = subject.measure("sleep")
        assert answer["value"] == 3
        assert answer["seconds"] >= 0.1  # of one of several calls
        assert answer["peak_bytes"] > 0
        with pytest.raises(UserError, match="no such thing"):
            subject.prepare("refuse")
        assert subject.ask(do="double", number=1) == {"number": 2}  # it goes on
        with pytest.raises(UserError, match=r"fake_worker ended with 9 .*'part': 'die'"):
            subject.prepare("die")


def test_peak_memory_is_that_since_the_reset():
    kept = bytearray(300_000_000)
    kept[::4096] = b"1" * len(kept[::4096])
    high = peak_bytes()
    del kept
    reset_peak()
    low = peak_bytes()
    again = bytearray(200_000_000)
    again[::4096] = b"1" * len(again[::4096])
    assert low < high - 250_000_000
    assert low + 150_000_000 < peak_bytes() < high


def test_tensors_are_counted_until_they_are_gone():
    before = tensor_bytes()["current"]
    kept = tf.ones([1000, 1000])
    reset_peak()
    passing = tf.ones([3000, 1000])
    del passing
    found = {name: value - before for name, value in tensor_bytes().items()}
    # TensorFlow gives out less than twice what is asked for.
    assert 4e6 <= found["current"] < 8e6
    assert 16e6 <= found["peak"] < 32e6
    del kept


def test_where_tensors_are_not_counted_the_process_is(monkeypatch):
    def unknown(device):
        raise ValueError(f"Allocator stats not available for device {device!r}")

    monkeypatch.setattr(tf.config.experimental, "get_memory_info", unknown)
    monkeypatch.setattr(tf.config.experimental, "reset_memory_stats", unknown)
    again = functools.cache(memory._are_counted.__wrapped__)
    monkeypatch.setattr(memory, "_are_counted", again)
    reset_peak()
    before = tensor_bytes()["current"]
    kept = bytearray(200_000_000)
    kept[::4096] = b"1" * len(kept[::4096])
    assert tensor_bytes()["peak"] > before + 150_000_000
    del kept
