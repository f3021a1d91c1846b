"""The model manager with a loader that loads nothing: policy, order, retries, labels, draining."""

from __future__ import annotations

import contextlib
import contextvars
import threading
import time
from concurrent import futures

import pytest
from google.protobuf import text_format
from tensorflow_serving.apis import model_pb2

from vatt_tf.serving.server.models import model_config
from vatt_tf.serving.server.models.manager import ModelManager, State
from vatt_tf.serving.server.models.status import CLIENT_WAITS, Code, ServingError

PATIENCE = 20.0


class Model:
    signatures = {}

    def __init__(self, name, version, journal):
        self.name, self.version, self._journal = name, version, journal
        self.closed = False

    def close(self):
        self.closed = True
        self._journal.append(("close", self.version))


class Loader:
    """Loads at once, unless told to fail or to wait."""

    def __init__(self):
        self.journal = []
        self.broken = {}
        self.gates = {}

    def __call__(self, name, version, path):
        self.journal.append(("load", version))
        if version in self.gates:
            assert self.gates[version].wait(PATIENCE)
        if version in self.broken:
            raise self.broken[version]
        return Model(name, version, self.journal)


@pytest.fixture
def loader():
    return Loader()


@contextlib.contextmanager
def managing(loader, config=None, **options):
    settings = {"poll_wait_seconds": 0.02, "max_load_retries": 0, **options}
    manager = ModelManager(loader, **settings)
    try:
        if config is not None:
            manager.apply_config(config)
        yield manager
    finally:
        manager.stop()


def add(base, *versions):
    for version in versions:
        (base / str(version)).mkdir(parents=True)


def config_of(base, text="", name="m"):
    config = model_config.models_config({name: str(base)})
    text_format.Merge(text, config.model_config_list.config[0])
    return config


def spec(name="m", version=None, label=None):
    result = model_pb2.ModelSpec(name=name)
    if version is not None:
        result.version.value = version
    if label is not None:
        result.version_label = label
    return result


def wait_for(condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "what was waited for did not happen"
        time.sleep(0.005)


def states(manager, name="m"):
    return {version.number: version.state for version in manager.status(name)}


def used(manager, request):
    with manager.use(request) as model:
        return model.version


def error_of(function, *args):
    with pytest.raises(ServingError) as caught:
        function(*args)
    return caught.value.code, caught.value.message


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("", [3]),
        ("model_version_policy { latest { num_versions: 2 } }", [3, 2]),
        ("model_version_policy { all {} }", [3, 2, 1, -4]),
        ("model_version_policy { specific { versions: 1 versions: 3 } }", [3, 1]),
    ],
)
def test_policies(tmp_path, loader, policy, expected):
    add(tmp_path, "1", "0002", "3", "tmp_9", "x", "-4", "9223372036854775808")
    with managing(loader, config_of(tmp_path, policy)) as manager:
        wait_for(lambda: len(states(manager)) == len(expected))
        wait_for(lambda: set(states(manager).values()) == {State.AVAILABLE})
        assert [version.number for version in manager.status("m")] == expected
        assert used(manager, spec()) == max(expected)


def test_numbers_of_versions(tmp_path):
    """Any whole number of 64 bits, as in TensorFlow Serving; a file is a version that is broken."""
    base = tmp_path / "m"
    add(base, "+4", "1764547200000000000", "-9223372036854775808", "5 ", "1e3")
    (base / "8").write_text("")
    found = model_config.list_versions(base)
    assert sorted(found) == [-(2**63), 4, 8, 1764547200000000000]
    assert model_config.list_versions(f"file://{base}") == found
    (tmp_path / "no_model").mkdir()
    (tmp_path / "no_model" / "7").write_text("")
    assert model_config.find_models(tmp_path) == {"m": str(base)}


def test_new_version_is_loaded_before_the_old_one_goes(tmp_path, loader):
    add(tmp_path, 1)
    with managing(loader, config_of(tmp_path)) as manager:
        loader.gates[2] = threading.Event()
        add(tmp_path, 2)
        wait_for(lambda: states(manager).get(2) == State.LOADING)
        assert used(manager, spec()) == 1
        loader.gates[2].set()
        wait_for(lambda: states(manager) == {2: State.AVAILABLE, 1: State.END})
        assert used(manager, spec()) == 2
        assert error_of(used, manager, spec(version=1)) == (
            Code.NOT_FOUND,
            "Servable not found for request: Specific(m, 1)",
        )
    assert loader.journal == [("load", 1), ("load", 2), ("close", 1), ("close", 2)]


def test_version_in_use_is_not_closed(tmp_path, loader):
    add(tmp_path, 1)
    with managing(loader, config_of(tmp_path)) as manager:
        with manager.use(spec()) as model:
            add(tmp_path, 2)
            wait_for(lambda: states(manager).get(1) == State.UNLOADING)
            assert used(manager, spec()) == 2
            assert not model.closed
        wait_for(lambda: states(manager)[1] == State.END)
        assert model.closed


def test_broken_version_leaves_the_old_one_serving(tmp_path, loader):
    add(tmp_path, 1)
    loader.broken[2] = ServingError(Code.DATA_LOSS, "torn file")
    loader.broken[3] = ValueError("something unforeseen")
    with managing(loader, config_of(tmp_path)) as manager:
        for number, text in ((2, "torn file"), (3, "something unforeseen")):
            add(tmp_path, number)
            wait_for(lambda number=number: states(manager).get(number) == State.END)
            failed = manager.status("m")[0]
            assert failed.number == number and text in failed.error.message
            assert used(manager, spec()) == 1
        # Rollback: without the broken folders version 1 is the newest again.
        (tmp_path / "2").rmdir()
        (tmp_path / "3").rmdir()
        time.sleep(0.1)
        assert used(manager, spec()) == 1 and ("close", 1) not in loader.journal
        # Its folder comes back, mended.
        loader.broken.clear()
        add(tmp_path, 3)
        wait_for(lambda: states(manager)[3] == State.AVAILABLE)


def test_retries_block_other_loads(tmp_path, loader):
    add(tmp_path / "a", 1)
    add(tmp_path / "b", 1)
    config = model_config.models_config({"a": str(tmp_path / "a"), "b": str(tmp_path / "b")})
    with managing(loader, config, max_load_retries=2, load_retry_seconds=0.05) as manager:
        loader.broken[2] = OSError("not yet")
        add(tmp_path / "a", 2)
        wait_for(lambda: states(manager, "a").get(2) == State.LOADING)
        wait_for(lambda: states(manager, "a")[2] == State.END)
    assert loader.journal.count(("load", 2)) == 3


def test_emptied_base_path_unloads_and_missing_one_does_not(tmp_path, loader):
    base = tmp_path / "m"
    add(base, 1)
    with managing(loader, config_of(base)) as manager:
        (tmp_path / "away").mkdir()
        base.rename(tmp_path / "away" / "m")
        time.sleep(0.1)
        assert used(manager, spec()) == 1
        (tmp_path / "away" / "m").rename(base)
        (base / "1").rmdir()
        wait_for(lambda: states(manager) == {1: State.END})
        assert error_of(used, manager, spec())[0] == Code.NOT_FOUND


def test_requests_for_what_is_not_there(tmp_path, loader):
    add(tmp_path, 1)
    with managing(loader, config_of(tmp_path)) as manager:
        assert error_of(used, manager, spec("")) == (
            Code.INVALID_ARGUMENT,
            "ModelSpec has no name specified.",
        )
        assert error_of(used, manager, spec("zz")) == (
            Code.NOT_FOUND,
            "Servable not found for request: Latest(zz)",
        )
        for name in ("m", "zz"):
            assert error_of(used, manager, spec(name, label="x")) == (
                Code.INVALID_ARGUMENT,
                "Unrecognized servable version label: x",
            )


def test_labels(tmp_path, loader):
    add(tmp_path, 1, 2)
    both = "model_version_policy { all {} }"
    labels = both + ' version_labels { key: "stable" value: %d }'
    with managing(loader) as manager:
        code, message = error_of(manager.apply_config, config_of(tmp_path, labels % 1))
        assert code == Code.FAILED_PRECONDITION
        assert message == (
            "Request to assign label to version 1 of model m, which is not currently available "
            "for inference"
        )
        manager.apply_config(config_of(tmp_path, both))
        wait_for(lambda: states(manager) == {2: State.AVAILABLE, 1: State.AVAILABLE})
        for version in (1, 2):
            manager.apply_config(config_of(tmp_path, labels % version))
            assert used(manager, spec(label="stable")) == version
        assert error_of(manager.apply_config, config_of(tmp_path, labels % 3))[0] == code
        assert used(manager, spec(label="stable")) == 2


def test_unused_labels_may_point_anywhere_if_allowed(tmp_path, loader):
    add(tmp_path, 1)
    labels = 'version_labels { key: "stable" value: %d }'
    with managing(
        loader, config_of(tmp_path, labels % 1), allow_labels_for_unavailable=True
    ) as manager:
        assert used(manager, spec(label="stable")) == 1
        code, _ = error_of(manager.apply_config, config_of(tmp_path, labels % 7))
        assert code == Code.FAILED_PRECONDITION


def test_config_replaces_config(tmp_path, loader):
    add(tmp_path / "a", 1)
    add(tmp_path / "b", 1)
    with managing(loader, config_of(tmp_path / "a", name="a")) as manager:
        manager.apply_config(config_of(tmp_path / "b", name="b"))
        assert used(manager, spec("b")) == 1
        wait_for(lambda: states(manager, "a") == {1: State.END})
        manager.apply_config(model_config.models_config({}))
        wait_for(lambda: states(manager, "b") == {1: State.END})


def test_failing_model_fails_the_config(tmp_path, loader):
    add(tmp_path, 1)
    loader.broken[1] = ServingError(Code.NOT_FOUND, "no graph")
    with managing(loader) as manager:
        code, message = error_of(manager.apply_config, config_of(tmp_path))
    assert code == Code.UNKNOWN
    assert message.startswith("1 servable(s) did not become available: {{{name: m version: 1}")
    assert "NOT_FOUND: no graph" in message


def test_missing_base_path_is_waited_for(tmp_path, loader):
    """To the end of the call's time; what a later configuration leaves out ends the wait."""
    add(tmp_path / "a", 1)
    with managing(loader, config_of(tmp_path / "a", name="a")) as manager:
        late = config_of(tmp_path / "late")
        code, message = error_of(manager.apply_config, late, 0.05)
        assert code == Code.DEADLINE_EXCEEDED and message.endswith("not available yet: m")
        with futures.ThreadPoolExecutor(3) as pool:
            waiting = [pool.submit(manager.apply_config, late) for _ in range(2)]
            time.sleep(0.1)
            assert not any(one.done() for one in waiting)
            add(tmp_path / "late", 1)
            assert [one.result(PATIENCE) for one in waiting] == [None, None]
            never = pool.submit(manager.apply_config, config_of(tmp_path / "never", name="n"))
            wait_for(lambda: manager._config.model_config_list.config[0].name == "n")
            manager.apply_config(config_of(tmp_path / "a", name="a"))
            assert never.exception(PATIENCE).code == Code.ABORTED
            given_up = contextvars.copy_context()
            given_up.run(CLIENT_WAITS.set, lambda: False)
            never = config_of(tmp_path / "never", name="n")
            code, _ = error_of(given_up.run, manager.apply_config, never)
            assert code == Code.CANCELLED


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (
            'config { name: "a" base_path: "/x" model_platform: "tensorflow" } ' * 2,
            "multiple times",
        ),
        ('config { name: "a" base_path: "/x" model_platform: "pytorch" }', "platform pytorch"),
        ('config { name: "a" base_path: "/x" }', "Illegal setting neither"),
        (
            'config { name: "a" base_path: "/x" model_platform: "tensorflow" model_type: 1 }',
            "Illegal setting both",
        ),
        ('config { name: "a" base_path: "/x" model_type: 2 }', "unsupported platform 2"),
        ('config { name: "a" base_path: "x" model_platform: "tensorflow" }', "got base_path()=x"),
        ('config { name: "a" model_platform: "tensorflow" }', "got base_path()="),
    ],
)
def test_wrong_configs(text, part):
    config = model_config.ModelServerConfig()
    text_format.Parse(text, config.model_config_list)
    code, message = error_of(model_config.validate, config)
    assert code == Code.INVALID_ARGUMENT and part in message
