"""The errors and warnings that the library raises: each is also the built-in error it would otherwise be.

==========================  =====================  ====================================================
class                       also a                 raised for
==========================  =====================  ====================================================
`ArgumentError`             `ValueError`           an argument out of range, or arguments that do not fit
`ArgumentTypeError`         `TypeError`            an argument of the wrong type
`DataError`                 `ValueError`           a scan, mask or table whose contents cannot be used
`CheckpointError`           `ValueError`           weights or a saved network that cannot be used
`MissingFileError`          `FileNotFoundError`    a file or folder that is not there
`ExistingFileError`         `FileExistsError`      a file or folder that would be overwritten
`WriteError`                `OSError`              a file that cannot be written: disk full, no permission
`MissingPackageError`       `ModuleNotFoundError`  an optional package that is not installed
`NonFiniteError`            `FloatingPointError`   NaN or infinite values during training
`ProcessLostError`          `RuntimeError`         another process that works with this one has ended
`TrainingInterrupted`       `SystemExit`           a training run that a signal ended; it can be resumed
==========================  =====================  ====================================================
"""

from pathlib import Path

__all__ = [
    "ArgumentError",
    "ArgumentTypeError",
    "CheckpointError",
    "DataError",
    "ExistingFileError",
    "FineTuningWarning",
    "GeometryWarning",
    "GuidedAttentionError",
    "IntensityWarning",
    "LeftOutWarning",
    "MissingFileError",
    "MissingPackageError",
    "NonFiniteError",
    "ProcessLostError",
    "SpacingWarning",
    "TrainingInterrupted",
    "UnfitScanWarning",
    "WriteError",
]


class GuidedAttentionError(Exception):
    """Base class of the library's errors.

    Args:
        message: What was wanted, what came, what to do.
        argument: Name of the argument at fault, None where there is none.
        file: The file or folder at fault, None where there is none.

    Example:
        >>> error = DataError("`scan.nii` must be a NIfTI file.", file="scan.nii")
        >>> str(error), error.file.name, isinstance(error, ValueError)
        ('`scan.nii` must be a NIfTI file.', 'scan.nii', True)
    """

    argument: str | None
    file: Path | None
    elsewhere: bool = False
    """Whether it is another process, one that trains with this one, in which it was raised."""

    def __init__(self, message: str, *, argument: str | None = None, file: object = None) -> None:
        super().__init__(message)
        self.argument = argument
        self.file = None if file is None else Path(str(file))


class ArgumentError(GuidedAttentionError, ValueError):
    """An argument is out of its range, or two arguments do not fit together."""


class ArgumentTypeError(GuidedAttentionError, TypeError):
    """An argument has the wrong type."""


class DataError(GuidedAttentionError, ValueError):
    """A scan, mask or table holds something that cannot be used."""


class CheckpointError(GuidedAttentionError, ValueError):
    """A checkpoint or a saved network is damaged, or does not belong to the network."""


class MissingFileError(GuidedAttentionError, FileNotFoundError):
    """A file or folder does not exist."""


class ExistingFileError(GuidedAttentionError, FileExistsError):
    """A file or folder exists and would be overwritten."""


class WriteError(GuidedAttentionError, OSError):
    """A file or folder cannot be written: the disk is full, or the permission is missing. `errno` says which."""

    def __init__(
        self, message: str, *, argument: str = "path", file: object = None, errno: int | None = None
    ) -> None:
        super().__init__(message, argument=argument, file=file)
        self.errno = errno


class MissingPackageError(GuidedAttentionError, ModuleNotFoundError):
    """An optional package is not installed; the message has the command that installs it."""

    def __init__(self, message: str, *, name: str | None = None) -> None:
        super().__init__(message)
        self.name = name


class NonFiniteError(GuidedAttentionError, FloatingPointError):
    """A loss or a gradient is NaN or infinite."""


class ProcessLostError(GuidedAttentionError, RuntimeError):
    """Another process that trains, reads or loads batches with this one has ended, or cannot be reached."""


class TrainingInterrupted(SystemExit):
    """A signal ended a training run after its state was stored; uncaught, the process ends with the code 75.

    Attributes:
        run_dir: The run folder, from which `Trainer.fit` and `recipes.train` continue with ``resume=True``.
        code: 75, which schedulers of jobs take for "try again".

    Example:
        >>> TrainingInterrupted("runs/first").code
        75
    """

    def __init__(self, run_dir: object) -> None:
        super().__init__(75)
        self.run_dir = Path(str(run_dir))


class UnfitScanWarning(UserWarning):
    """Base class of the warnings for scans that differ from those the network was trained on."""


class SpacingWarning(UnfitScanWarning):
    """The spacing of a scan is far from every scan that the network was trained on."""


class IntensityWarning(UnfitScanWarning):
    """The intensities of a scan are far from every scan that the network was trained on."""


class FineTuningWarning(UserWarning):
    """A run starts from the weights of another, and not all of it fits: classes or the preparation differ."""


class LeftOutWarning(UserWarning):
    """Files of a folder are no slices of a scan and were left out."""


class GeometryWarning(UserWarning):
    """A file does not say clearly where its voxels lie; the message says what was taken."""
