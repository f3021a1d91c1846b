"""Loads and unloads model versions while requests run: version policy, hot reload, retries.

One thread runs all actions in sequence: it scans the folders, loads missing versions, then unloads
those that are no longer aspired. A new version is loaded before
the old one is unloaded, and a version is unloaded only when its last request has ended.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import gc
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from tensorflow_serving.apis import model_pb2

from vatt_tf.serving.server.models import model_config
from vatt_tf.serving.server.models.status import (
    LOOK_SECONDS,
    Code,
    ServingError,
    check_client_waits,
    from_exception,
    invalid,
)

# Calls that may wait for their models at a time; further ones are answered at once.
_MOST_WAITING = 16

logger = logging.getLogger(__name__)


class LoadedModel(Protocol):
    """Interface of a loaded model: a :class:`Servable` or a wrapper of one."""

    name: str
    version: int
    signatures: dict[str, Any]

    def run(self, signature: str, feeds: Any, fetches: Any, timeout: float | None) -> list[Any]:
        """Runs the graph."""

    def close(self) -> None:
        """Frees the version's memory."""


class State(enum.IntEnum):
    """State of a version, with the numbers of the ModelService."""

    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


@dataclasses.dataclass
class Version:
    """One version of a model, from its first sight on; a version that is gone stays listed.

    Attributes:
        number: Version number.
        path: Its folder.
        state: State of its life cycle.
        error: Why it failed (state END), else None.
        aspired: It should be loaded.
        managed: The manager is in charge of it; False once it was unloaded or given up.
        loaded: The model while AVAILABLE or UNLOADING.
        in_use: Requests that run on it.
    """

    number: int
    path: str
    state: State = State.START
    error: ServingError | None = None
    aspired: bool = True
    managed: bool = True
    loaded: LoadedModel | None = None
    in_use: int = 0


class ModelManager:
    """All models of a server."""

    def __init__(
        self,
        load: Callable[[str, int, str], LoadedModel],
        *,
        poll_wait_seconds: float = 1.0,
        max_load_retries: int = 5,
        load_retry_seconds: float = 60.0,
        allow_labels_for_unavailable: bool = False,
    ) -> None:
        """Creates a manager without models; :meth:`apply_config` gives it some.

        Args:
            load: Loads (name, version, path), or raises.
            poll_wait_seconds: Seconds between two scans of the folders; 0: scan only once.
            max_load_retries: Attempts after the first, before a version is given up.
            load_retry_seconds: Pause between two attempts.
            allow_labels_for_unavailable: New labels may point to versions that are not loaded.
        """
        self._load = load
        self._poll_wait_seconds = poll_wait_seconds
        self._max_load_retries = max_load_retries
        self._load_retry_seconds = load_retry_seconds
        self._allow_labels_for_unavailable = allow_labels_for_unavailable

        self._config = model_config.ModelServerConfig()
        self._labels: dict[str, dict[str, int]] = {}
        self._models: dict[str, dict[int, Version]] = {}
        self._changed = threading.Condition()  # Lock of all fields above and of the versions.
        self._waiting = threading.Semaphore(_MOST_WAITING)
        self._look_now = True
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._manage, name="model-manager", daemon=True)
        self._thread.start()

    # --- Requests --------------------------------------------------------------------------------

    @contextlib.contextmanager
    def use(self, spec: model_pb2.ModelSpec) -> Iterator[LoadedModel]:
        """Yields the version of a request; it is not unloaded before the block ends.

        Raises:
            ServingError: If there is none: NOT_FOUND, or INVALID_ARGUMENT for an unknown label.
        """
        with self._changed:
            version = self._find(spec)
            version.in_use += 1
        try:
            assert version.loaded is not None
            yield version.loaded
        finally:
            with self._changed:
                version.in_use -= 1
                if not version.in_use and version.state == State.UNLOADING:
                    self._changed.notify_all()

    def _find(self, spec: model_pb2.ModelSpec) -> Version:
        if not spec.name:
            invalid("ModelSpec has no name specified.")
        versions = self._models.get(spec.name, {})
        choice = spec.WhichOneof("version_choice")
        if choice is None:
            ready = [v for v in versions.values() if v.state == State.AVAILABLE]
            if ready:
                return max(ready, key=lambda version: version.number)
            request = f"Latest({spec.name})"
        else:
            if choice == "version":
                number = spec.version.value
            else:
                label = spec.version_label
                labelled = self._labels.get(spec.name, {}).get(label)
                if labelled is None:
                    invalid(f"Unrecognized servable version label: {label}")
                number = labelled
            version = versions.get(number)
            if version is not None and version.state == State.AVAILABLE:
                return version
            request = f"Specific({spec.name}, {number})"
        raise ServingError(Code.NOT_FOUND, f"Servable not found for request: {request}")

    def serves(self, name: str) -> bool:
        """Whether a model of this name is configured, or was."""
        return name in self._models

    def status(self, name: str) -> list[Version]:
        """All versions that were ever seen of a model, newest first; copies without the model."""
        with self._changed:
            versions = self._models.get(name, {}).values()
            return sorted(
                (dataclasses.replace(version, loaded=None) for version in versions),
                key=lambda version: -version.number,
            )

    # --- Configuration ---------------------------------------------------------------------------

    def apply_config(
        self, config: model_config.ModelServerConfig, timeout: float | None = None
    ) -> None:
        """Replaces the whole configuration and waits until each model has an available version.

        A base path that does not exist yet is waited for. A later configuration does not wait
        behind this one: what it leaves out ends the wait.

        Args:
            config: The new configuration.
            timeout: Seconds after which the wait ends; the configuration stays.

        Raises:
            ServingError: If the config is refused (nothing has changed then), a model cannot be
                loaded, the time is over, or the client has given the call up.
        """
        if config.WhichOneof("config") is None:
            return
        model_config.validate(config)
        with self._changed:
            available = {
                name: frozenset(v.number for v in versions.values() if v.state == State.AVAILABLE)
                for name, versions in self._models.items()
            }
            self._labels = model_config.check_labels(
                config,
                available,
                self._labels,
                allow_unavailable=self._allow_labels_for_unavailable,
            )
            self._config = model_config.ModelServerConfig()
            self._config.CopyFrom(config)
            self._look_now = True
            self._changed.notify_all()
        names = [model.name for model in config.model_config_list.config]
        if not self._waiting.acquire(blocking=False):
            raise ServingError(
                Code.RESOURCE_EXHAUSTED,
                f"the configuration is applied; {_MOST_WAITING} calls wait for models already",
            )
        try:
            self._wait_until_available(names, timeout)
        finally:
            self._waiting.release()

    def _wait_until_available(self, names: list[str], timeout: float | None) -> None:
        """Waits until each model has an available version, or none is left that could become so."""
        end = time.monotonic() + (float("inf") if timeout is None else timeout)
        with self._changed:
            while True:
                states = {name: self._progress(name) for name in names}
                missing = ", ".join(name for name, state in states.items() if state is None)
                if not missing or self._stopping.is_set():
                    break
                check_client_waits()
                gone = set(names) - {model.name for model in self._config.model_config_list.config}
                if gone:
                    raise ServingError(
                        Code.ABORTED,
                        f"a later configuration has no model {', '.join(sorted(gone))} any more",
                    )
                left = end - time.monotonic()
                if left <= 0:
                    raise ServingError(
                        Code.DEADLINE_EXCEEDED,
                        f"the configuration is applied; not available yet: {missing}",
                    )
                self._changed.wait(min(left, LOOK_SECONDS))
        failed = [line for state in states.values() if state for line in state]
        if self._stopping.is_set():
            raise ServingError(Code.UNAVAILABLE, "the server is shutting down")
        if failed:
            raise ServingError(
                Code.UNKNOWN,
                f"{len(failed)} servable(s) did not become available: {{{', '.join(failed)}, }}",
            )

    def _progress(self, name: str) -> list[str] | None:
        """[]: the model is available; lines: all its versions failed; None: wait."""
        if self._look_now:
            return None
        versions = [v for v in self._models.get(name, {}).values() if v.managed]
        if any(version.state == State.AVAILABLE for version in versions):
            return []
        if not versions or any(version.state != State.END for version in versions):
            return None
        return [
            f"{{{{name: {name} version: {version.number}}} due to error: {version.error}}}"
            for version in versions
        ]

    # --- The manager's thread --------------------------------------------------------------------

    def _manage(self) -> None:
        next_look = 0.0
        while not self._stopping.is_set():
            with self._changed:
                polls = self._poll_wait_seconds > 0
                if self._look_now or (polls and time.monotonic() >= next_look):
                    self._look()
                    next_look = time.monotonic() + self._poll_wait_seconds
                action = self._next_action()
                if action is None:
                    pause = max(next_look - time.monotonic(), 0.0) if polls else None
                    if not self._stopping.is_set():
                        self._changed.wait(pause)
                    continue
            name, version = action
            if version.state == State.START:
                self._load_version(name, version)
            else:
                self._unload_version(name, version)

    def _look(self) -> None:
        """Compares the folders with the loaded versions; only marks, loads nothing."""
        configured = {model.name: model for model in self._config.model_config_list.config}
        for name in sorted(configured.keys() | self._models.keys()):
            if name in configured:
                aspired = model_config.aspired_versions(configured[name])
                if aspired is None:  # Unreadable: keep what there is.
                    continue
            else:
                aspired = {}
            versions = self._models.setdefault(name, {})
            for version in versions.values():
                version.aspired = version.managed and version.number in aspired
                if not version.aspired and version.state in (State.START, State.END):
                    # A version that failed or was never loaded needs no unloading. If its folder
                    # reappears, it is tried again.
                    version.managed = False
                    version.state = State.END
            for number, path in aspired.items():
                known = versions.get(number)
                if known is None or not known.managed:
                    versions[number] = Version(number, path)
        self._look_now = False
        self._changed.notify_all()

    def _next_action(self) -> tuple[str, Version] | None:
        """Next action: unload a version that has a successor, else load the newest missing one."""
        for name, versions in self._models.items():
            managed = [version for version in versions.values() if version.managed]
            aspired = [version for version in managed if version.aspired]
            if not aspired or any(version.state == State.AVAILABLE for version in aspired):
                for version in managed:
                    if not version.aspired and version.state == State.AVAILABLE:
                        return name, version
            waiting = [version for version in aspired if version.state == State.START]
            if waiting:
                return name, max(waiting, key=lambda version: version.number)
        return None

    def _load_version(self, name: str, version: Version) -> None:
        self._set(version, State.LOADING)
        for attempt in range(self._max_load_retries + 1):
            if attempt and self._stopping.wait(self._load_retry_seconds):
                break
            error = self._try_to_load(name, version)
            if error is None:
                logger.info("Loaded model %s version %d", name, version.number)
                return
            logger.error("Model %s version %d does not load: %s", name, version.number, error)
        self._set(version, State.END, error)

    def _try_to_load(self, name: str, version: Version) -> ServingError | None:
        try:
            loaded = self._load(name, version.number, version.path)
        except (
            Exception
        ) as error:  # Any exception: a corrupt folder must not stop the other models.
            return from_exception(error)
        with self._changed:
            version.loaded = loaded
            self._set(version, State.AVAILABLE)
        return None

    def _unload_version(self, name: str, version: Version) -> None:
        with self._changed:
            self._set(version, State.UNLOADING)
            while version.in_use:
                self._changed.wait()
            loaded, version.loaded = version.loaded, None
        assert loaded is not None
        loaded.close()
        # Graphs are full of reference cycles: without this the memory stays until some later
        # collection, while the next version is being loaded.
        del loaded
        gc.collect()
        with self._changed:
            version.managed = False
            self._set(version, State.END)
        logger.info("Unloaded model %s version %d", name, version.number)

    def _set(self, version: Version, state: State, error: ServingError | None = None) -> None:
        with self._changed:
            version.state = state
            version.error = error
            self._changed.notify_all()

    # --- End -------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Stops loading and frees all versions; no request may be under way any more."""
        self._stopping.set()
        with self._changed:
            self._changed.notify_all()
        self._thread.join()
        for versions in self._models.values():
            for version in versions.values():
                if version.loaded is not None:
                    version.loaded.close()
                    version.loaded = None
                    version.state, version.managed = State.END, False
