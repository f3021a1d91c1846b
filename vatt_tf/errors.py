"""Errors that a user can mend: bad files, flags, values. Entry points print them as one line."""


class UserError(ValueError):
    """A mistake in the input, not in the program.

    The message names the file, field or value, says what was found and what was expected, and
    tells what to do. Entry points print it as ``error: ...`` and exit with ``exit_code``.
    """

    exit_code = 2


class Interrupted(UserError):
    """A run ended before its last step although nothing is wrong with its input.

    The same command continues it. Exit code 75 (``EX_TEMPFAIL``) after SIGTERM; subclasses may
    have others.
    """

    exit_code = 75


# What to do where a model has a text tower but no word list.
NO_VOCABULARY = (
    "these weights came without a vocabulary; convert them again with "
    "vatt_tf.convert --vocabulary=FILE"
)
