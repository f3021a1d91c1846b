"""Errors that a user can mend: bad files, flags, values. Entry points print them as one line."""


class UserError(ValueError):
    """A mistake in the input, not in the program.

    The message names the file, field or value, says what was found and what was expected, and
    tells what to do. Entry points print it as ``error: ...`` and exit with ``exit_code``.
    """

    exit_code = 2


class Interrupted(UserError):
    """SIGTERM ended a run before its last step; the same command continues it.

    The exit code is that of a failure that a later try may not have (``EX_TEMPFAIL``).
    """

    exit_code = 75


# What to do where a model has a text tower but no word list.
NO_VOCABULARY = (
    "these weights came without a vocabulary; convert them again with "
    "vatt_tf.convert --vocabulary=FILE"
)
