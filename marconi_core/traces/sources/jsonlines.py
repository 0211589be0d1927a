"""Reading published data sets that hold one JSON object a line."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from marconi_core.errors import DataError
from marconi_core.traces.reading import TooLongError, read_lines


def read_json_lines(path: Path, dataset: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (``file:line``, object) for each line that is not blank.

    Raises:
        DataError: the file is missing, or a line is not a JSON object.
    """
    number = 0
    try:
        with path.open("rb") as file:
            for number, line in read_lines(file):
                if not line.strip():
                    continue
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise ValueError("not an object")
                yield f"{path}:{number}", row
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; fetch the '{dataset}' data set first") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except TooLongError as error:
        raise DataError(f"{path}:{number + 1}: {error}; fetch it again") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}:{number}: not a JSON object ({error}); fetch it again") from error
