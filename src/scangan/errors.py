"""Errors that a user can mend: each is one clear line, shown without a traceback."""


class ScanganError(Exception):
    """Base of all errors that name what was found and what is allowed."""


class ConfigError(ScanganError):
    """A key of the configuration is unknown or has a wrong value."""


class DataError(ScanganError):
    """An input file is missing, broken, or contradicts another one."""


class TrainingError(ScanganError):
    """Training went wrong in a way that more steps cannot mend: NaN, collapse."""
