"""The heads of MMV and MIL-NCE, against NumPy in float64."""

from __future__ import annotations

import numpy as np

from tests.heads.test_common_space import _HeadTests, batch_norm, features
from tests.layers.layer_test_case import randomise
from vatt_tf.heads.mmv import LinearHead, MMVDisjointHead, MMVFACHead, MMVSharedHead


def f64(variable):
    return np.asarray(variable, np.float64)


def dense(layer, values):
    return values @ f64(layer.kernel) + f64(layer.bias)


def norm(layer, values, training):
    """BatchNorm with its scale and offset."""
    if training:
        normal = batch_norm(values)
    else:
        deviation = np.sqrt(f64(layer.moving_variance) + 1e-5)
        normal = (values - f64(layer.moving_mean)) / deviation
    return normal * f64(layer.gamma) + f64(layer.beta)


def mlp(layer, values, training):
    """Dense with bias, BatchNorm, ReLU, Dense without bias, BatchNorm."""
    hidden = np.maximum(norm(layer.hidden_norm, dense(layer.hidden, values), training), 0)
    return norm(layer.norm, hidden @ f64(layer.projection.kernel), training)


def inputs():
    return {name: value.astype(np.float64) for name, value in features().items()}


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


class TestMMVFACHead(_HeadTests):
    layer_class = MMVFACHead
    config = {"va_dim": 6, "vat_dim": 3}

    def expected(self, head, training):
        given = inputs()

        def coarse(values):
            rows = dense(head.va_to_vat.projection, np.maximum(values, 0))
            return norm(head.va_to_vat.norm, rows, training)

        video = mlp(head.video_to_va, given["video"], training)
        audio = dense(head.audio_to_va, given["audio"])
        return video, audio, coarse

    def test_numbers(self):
        for training in (False, True):
            head = self.make()
            randomise(head.variables)
            video, audio, coarse = self.expected(head, training)
            spaces = head(features(), training=training)
            close(spaces["va"]["video"], video)
            close(spaces["va"]["audio"], audio)
            close(spaces["vat"]["video"], coarse(video))
            close(spaces["vat"]["text"], dense(head.text_to_vat, inputs()["text"]))

    def test_audio_reaches_the_text_at_test_only(self):
        head = self.make()
        randomise(head.variables)
        before = [np.array(v) for v in head.va_to_vat.norm.non_trainable_variables]
        head({"audio": features()["audio"]}, training=True)
        after = head.va_to_vat.norm.non_trainable_variables
        for old, new in zip(before, after, strict=True):
            np.testing.assert_array_equal(old, new)  # Statistics of videos alone.
        assert "audio" not in head(features(), training=True)["vat"]
        _, audio, coarse = self.expected(head, False)
        # The call with the video above moved the statistics; take them as they are now.
        close(head(features())["vat"]["audio"], coarse(audio))


class TestMMVSharedHead(_HeadTests):
    layer_class = MMVSharedHead
    config = {"vat_dim": 6}

    def test_numbers(self):
        for training in (False, True):
            head = self.make()
            randomise(head.variables)
            given, space = inputs(), head(features(), training=training)["vat"]
            expected = {
                "video": mlp(head.video_to_vat, given["video"], training),
                "audio": dense(head.audio_to_vat, given["audio"]),
                "text": dense(head.text_to_vat, given["text"]),
            }
            for modality, value in expected.items():
                close(space[modality], value)


class TestLinearHead(_HeadTests):
    layer_class = LinearHead
    config = {"vat_dim": 6}

    def test_numbers(self):
        head = self.make()
        randomise(head.variables)
        for modality, value in head(features())["vat"].items():
            close(value, dense(getattr(head, f"{modality}_to_vat"), inputs()[modality]))


class TestMMVDisjoint(_HeadTests):
    layer_class = MMVDisjointHead
    config = {"va_dim": 6, "vt_dim": 6}

    def test_numbers(self):
        for training in (False, True):
            head = self.make()
            randomise(head.variables)
            given, spaces = inputs(), head(features(), training=training)
            close(spaces["va"]["video"], mlp(head.video_to_va, given["video"], training))
            close(spaces["vt"]["video"], mlp(head.video_to_vt, given["video"], training))
            close(spaces["va"]["audio"], dense(head.audio_to_va, given["audio"]))
            close(spaces["vt"]["text"], dense(head.text_to_vt, given["text"]))
